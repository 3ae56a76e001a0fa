"""Timing variants against each other in one process: they take turns, so that a machine that slows down slows all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def wall_clock(run: Callable[[], Any]) -> float:
    """Seconds of one call, on the host."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def alternate(
    variants: Mapping[str, Callable[[], Any]],
    rounds: int = 9,
    warmup: int = 2,
    clock: Callable[[Callable[[], Any]], float] = wall_clock,
) -> dict[str, dict[str, Any]]:
    """Seconds per call of each variant: median, minimum, quartiles over the rounds; ratio to the first variant.

    The ratio is taken round by round (this variant over the first one in the same round), then its median. `clock`
    runs a variant and returns its seconds; benchmarks/gpu has one that reads a GPU's.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(warmup + rounds):
        for name, run in variants.items():
            taken = clock(run)
            if turn >= warmup:
                seconds[name].append(taken)
    first = seconds[next(iter(variants))]
    return {name: _summary(values, first) for name, values in seconds.items()}


def _summary(values: list[float], first: list[float]) -> dict[str, Any]:
    low, median, high = statistics.quantiles(values, n=4)
    ratios = [value / other for value, other in zip(values, first, strict=True)]
    return {
        "median_s": median,
        "min_s": min(values),
        "quartiles_s": [low, high],
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [statistics.quantiles(ratios, n=4)[0], statistics.quantiles(ratios, n=4)[2]],
        "rounds": len(values),
    }
