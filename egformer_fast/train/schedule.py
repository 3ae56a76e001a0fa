"""The learning rate over a run, as a factor of the peak, from the run's progress p in [0, 1].

    poly      : linear from START to 1 over the warm-up, then (1 - q)^0.9
    one_cycle : cosine from START to 1 over the warm-up, then cosine to 0
    constant  : linear from START to 1 over the warm-up, then 1
    q = (p - warmup) / (1 - warmup)

Progress is max(steps done / steps planned, minutes spent / minutes allowed), so a run with a time budget goes through
the whole schedule however fast its machine is.
"""

from __future__ import annotations

import math

START = 0.04
POWER = 0.9


def lr_factor(kind: str, progress: float, warmup: float) -> float:
    """Factor in [0, 1] at `progress`; kind is "poly", "one_cycle" or "constant", warmup a share of the run.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in ("poly", "one_cycle", "constant"):
        raise ValueError(f"lr_factor: unknown schedule {kind!r}; one of poly, one_cycle, constant")
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        rise = progress / warmup
        if kind == "one_cycle":
            rise = (1 - math.cos(math.pi * rise)) / 2
        return START + (1 - START) * rise
    rest = (progress - warmup) / (1 - warmup)
    if kind == "poly":
        return (1 - rest) ** POWER
    return (1 + math.cos(math.pi * rest)) / 2 if kind == "one_cycle" else 1.0
