"""Dropping saves time, not only multiply-adds: latency of EGFormer-B0 on four modalities by keep."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.registry import case
from benchmarks.timing import alternate
from egformer_fast.models import EGFormer, create_model
from egformer_fast.ops._backend import choose

KEEPS = ((4, 4, 4, 4), (3, 3, 2, 2), (3, 2, 1, 1), (1, 1, 1, 1))
NAMES = ("rgb", "depth", "event", "lidar")


def _variants(model: EGFormer, size: int) -> dict[str, Any]:
    inputs = {name: torch.randn(1, 3, size, size) for name in NAMES}
    return {str(list(keep)): (lambda keep=keep: model(inputs, keep=keep)) for keep in KEEPS}


@case
def latency() -> dict[str, Any]:
    """Batch 1, 25 classes, fused head, 512x512 and 1024x1024, 1 and 2 threads, CPU."""
    model = create_model("egformer_b0", 25, NAMES).eval().fuse_()
    measured = []
    before = torch.get_num_threads()
    with torch.inference_mode():
        for size in (512, 1024):
            for threads in (1, 2):
                torch.set_num_threads(threads)
                rounds = 9 if size == 512 else 5
                timings = alternate(_variants(model, size), rounds=rounds, warmup=1)
                measured.append({"size": size, "threads": threads, "keep": timings})
    torch.set_num_threads(before)
    return {"device": "cpu", "backend": choose("cpu")[0], "batch": 1, "measured": measured}
