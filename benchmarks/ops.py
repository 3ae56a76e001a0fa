"""The three ops on the CPU against what a user would write in PyTorch, at the stage shapes of MiT-B0 and B2.

Baselines, each in eager mode and under torch.compile, whichever is faster:
    score      sigmoid(gelu(x.mean(2) @ W1' + b1) @ w2 + b2)
    drop       topk, sort, gather, normalise, einsum
    attention  gather keys and values of kept modalities, scaled_dot_product_attention with the bias as a float mask

Floor: bytes that must move over the measured copy bandwidth (score, drop), FLOPs over the measured GEMM rate
(attention), both at the same number of threads.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.registry import case
from benchmarks.timing import alternate
from egformer_fast import modality_attention, modality_drop, modality_score, use_backend
from egformer_fast.models.mit import MIT_CONFIGS

MODALITIES = 4
Call = Callable[..., Any]


@dataclass(frozen=True)
class Stage:
    """What one op sees: x (B, M, N, C), K kept, H heads, Nk pooled keys of a modality."""

    backbone: str
    size: int
    stage: int
    batch: int
    keep: int

    @property
    def side(self) -> int:
        return self.size // (4 << self.stage)

    @property
    def tokens(self) -> int:
        return self.side**2

    @property
    def channels(self) -> int:
        return MIT_CONFIGS[self.backbone].dims[self.stage]

    @property
    def heads(self) -> int:
        return MIT_CONFIGS[self.backbone].heads[self.stage]

    @property
    def keys(self) -> int:
        return math.ceil(self.side / (2 * MIT_CONFIGS[self.backbone].reductions[self.stage])) ** 2


def stages(keeps: tuple[int, ...]) -> Iterator[Stage]:
    grid = itertools.product(("mit_b0", "mit_b2"), (512, 1024), range(4), (1, 4), keeps)
    return (Stage(*values) for values in grid)


def plain_score(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    return torch.sigmoid(F.gelu(F.linear(x.mean(2), w1, b1)) @ w2 + b2)


def plain_drop(x: Tensor, score: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    index = score.topk(keep).indices.sort(1).values
    weight = score.gather(1, index)
    weight = weight / weight.sum(1, keepdim=True)
    kept = x[torch.arange(x.shape[0]).unsqueeze(1), index]
    return kept, torch.einsum("bk,bknc->bnc", weight, kept)


def plain_attention(q: Tensor, k: Tensor, v: Tensor, index: Tensor, bias: Tensor) -> Tensor:
    sample = torch.arange(q.shape[0]).unsqueeze(1)
    keys, values = (t[sample, index].transpose(1, 2).flatten(2, 3) for t in (k, v))
    mask = bias.repeat_interleave(k.shape[3], 1)[:, None, None, :].expand(-1, 1, q.shape[2], -1)
    return F.scaled_dot_product_attention(q, keys, values, mask)


def score_case(s: Stage) -> tuple[list[Tensor], Call, Call, float]:
    """(differentiable inputs, ours, plain, bytes that must move)."""
    hidden = max(8, s.channels // 4)
    shapes = ((s.batch, MODALITIES, s.tokens, s.channels), (hidden, s.channels), (hidden,), (hidden,), ())
    inputs = [torch.randn(shape) for shape in shapes]
    return inputs, modality_score, plain_score, 4.0 * inputs[0].numel()


def drop_case(s: Stage) -> tuple[list[Tensor], Call, Call, float]:
    x = torch.randn(s.batch, MODALITIES, s.tokens, s.channels)
    moved = 4.0 * s.batch * s.tokens * s.channels * (2 * s.keep + 1)
    return (
        [x, torch.rand(s.batch, MODALITIES)],
        lambda x, score: modality_drop(x, score, s.keep)[:2],
        lambda x, score: plain_drop(x, score, s.keep),
        moved,
    )


def attention_case(s: Stage) -> tuple[list[Tensor], Call, Call, float]:
    """The last figure is FLOPs."""
    dim = s.channels // s.heads
    q = torch.randn(s.batch, s.heads, s.tokens, dim)
    k, v = (torch.randn(s.batch, MODALITIES, s.heads, s.keys, dim) for _ in range(2))
    index = torch.stack([torch.randperm(MODALITIES)[: s.keep].sort().values for _ in range(s.batch)])
    bias = torch.randn(s.batch, s.keep)
    return (
        [q, k, v, bias],
        lambda q, k, v, bias: modality_attention(q, k, v, index, bias)[0],
        lambda q, k, v, bias: plain_attention(q, k, v, index, bias),
        4.0 * q.numel() * s.keep * s.keys,
    )


OPS: dict[str, tuple[Callable[[Stage], tuple[list[Tensor], Call, Call, float]], tuple[int, ...]]] = {
    "modality_score": (score_case, (MODALITIES,)),
    "modality_drop": (drop_case, (4, 3, 2, 1)),
    "modality_attention": (attention_case, (4, 3, 2, 1)),
}


def both_ways(function: Call, inputs: list[Tensor]) -> Callable[[], None]:
    """Forward and backward of the sum of all outputs."""
    leaves = [t.clone().requires_grad_() for t in inputs]

    def run() -> None:
        outputs = function(*leaves)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        torch.autograd.backward([t.sum() for t in outputs])
        for leaf in leaves:
            leaf.grad = None

    return run


def forward(function: Call, inputs: list[Tensor]) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            function(*inputs)

    return run


def measure(op: str, s: Stage, threads: int, rates: dict[str, float]) -> list[dict[str, Any]]:
    make, _ = OPS[op]
    inputs, ours, plain, work = make(s)
    compiled = torch.compile(plain)
    rows = []
    for what, way in (("forward", forward), ("forward + backward", both_ways)):
        with use_backend("cpu"):
            timings = alternate(
                {"cpu": way(ours, inputs), "eager": way(plain, inputs), "compile": way(compiled, inputs)}, rounds=5
            )
        best = min(timings["eager"]["median_s"], timings["compile"]["median_s"])
        row = {"op": op, "what": what, "threads": threads, **vars(s), "timings": timings}
        row["speedup"] = best / timings["cpu"]["median_s"]
        if what == "forward":
            rate = rates["gemm_flops"] if op == "modality_attention" else rates["copy_bytes"]
            row["over_floor"] = timings["cpu"]["median_s"] / (work / rate)
        rows.append(row)
    return rows


def ceilings() -> dict[str, float]:
    """Measured copy bandwidth (bytes read and written a second) and float32 GEMM rate (FLOPs a second)."""

    def best(run: Callable[[], Any], times: int = 7) -> float:
        seconds = []
        for _ in range(times):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    source = torch.randn(1 << 26)
    target = torch.empty_like(source)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return {
        "copy_bytes": 8.0 * source.numel() / best(lambda: target.copy_(source)),
        "gemm_flops": 2.0 * 1024**3 / best(lambda: a @ b),
    }


@case
def ops() -> dict[str, Any]:
    """All ops at all stage shapes, 1 and 2 threads; geometric means by op."""
    rows: list[dict[str, Any]] = []
    rates = {}
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        rates[threads] = ceilings()
        for op, (_, keeps) in OPS.items():
            for stage in stages(keeps):
                rows += measure(op, stage, threads, rates[threads])
    torch.set_num_threads(before)
    means = {
        f"{op}, {what}": statistics.geometric_mean(r["speedup"] for r in rows if (r["op"], r["what"]) == (op, what))
        for op in OPS
        for what in ("forward", "forward + backward")
    }
    return {"ceilings": rates, "geometric_mean_speedup": means, "rows": rows}
