"""Dropping saves time, not only multiply-adds: latency of EGFormer-B0 on four modalities by keep, flow "separate"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.registry import case
from benchmarks.timing import alternate
from egformer_fast.models import EGFormer, create_model
from egformer_fast.ops._backend import choose

KEEPS = ((4, 4, 4, 4), (3, 3, 2, 2), (3, 2, 1, 1), (1, 1, 1, 1))
NAMES = ("rgb", "depth", "event", "lidar")


def timed(variants: Mapping[str, Callable[[], Any]], threads: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Inference of the variants in turns on so many CPU threads; see timing.alternate for what comes back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            return alternate(variants, rounds=rounds, warmup=1)
    finally:
        torch.set_num_threads(before)


def _variants(model: EGFormer, size: int) -> dict[str, Any]:
    inputs = {name: torch.randn(1, 3, size, size) for name in NAMES}
    return {str(list(keep)): (lambda keep=keep: model(inputs, keep=keep)) for keep in KEEPS}


@case
def latency() -> dict[str, Any]:
    """Batch 1, 25 classes, fused head, 512x512 and 1024x1024, 1 and 2 threads, CPU."""
    model = create_model("egformer_b0", 25, NAMES, flow="separate").eval().fuse_()
    measured = []
    for size in (512, 1024):
        for threads in (1, 2):
            timings = timed(_variants(model, size), threads, rounds=9 if size == 512 else 5)
            measured.append({"size": size, "threads": threads, "keep": timings})
    return {"device": "cpu", "backend": choose("cpu")[0], "batch": 1, "measured": measured}
