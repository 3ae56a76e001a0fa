"""Inputs, slow definitions and bounds for the op tests.

`define_*` are DESIGN's formulas as plain Python loops over float64 numbers, independent of the package. `plain_*` are
what a user would write in PyTorch in the dtype of the inputs: a backend may err twice as much as they do, and a few
units in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from egformer_fast import use_backend

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def exact_of(run: Callable[..., Any], *args: Any) -> Any:
    """run(*args) on the reference backend: a backend's own float64 would hide what it gets wrong in every dtype."""
    with use_backend("reference"):
        return run(*args)


def to64(values: Any) -> Any:
    return [v.detach().double() if isinstance(v, Tensor) and v.is_floating_point() else v for v in values]


def assert_near(got: Tensor, exact: Tensor, plain: Tensor, what: str = "") -> None:
    """|got - exact| <= 2 |plain - exact| + 4 ulp of the largest value, as maxima; same NaN, same inf."""
    assert got.dtype == plain.dtype, f"{what}: dtype {got.dtype}, wanted {plain.dtype}"
    got64, exact64, plain64 = got.detach().double(), exact.detach().double(), plain.detach().double()
    assert torch.equal(got64.isfinite(), exact64.isfinite()), f"{what}: NaN or infinity in other places"
    assert torch.equal(got64.isnan(), exact64.isnan()), f"{what}: NaN in other places"
    finite = exact64.isfinite()
    got64, exact64, plain64 = got64[finite], exact64[finite], plain64[finite]
    if got64.numel() == 0:
        return
    ulp = torch.finfo(got.dtype).eps * exact64.abs().max().item()
    bound = 2 * (plain64 - exact64).abs().max().item() + 4 * ulp
    error = (got64 - exact64).abs().max().item()
    assert error <= bound, f"{what}: error {error:.3e}, bound {bound:.3e}"


def score_inputs(
    batch: int = 2,
    modalities: int = 3,
    tokens: int = 5,
    channels: int = 6,
    dtype: Any = torch.float64,
    device: str = "cpu",
) -> list[Tensor]:
    """x, w1, b1, w2, b2."""
    hidden = max(8, channels // 4)
    shapes = ((batch, modalities, tokens, channels), (hidden, channels), (hidden,), (hidden,), ())
    return [torch.randn(shape, dtype=torch.float64).to(dtype).to(device) for shape in shapes]


def define_score(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, present: Tensor | None) -> Tensor:
    data, v1, c1, v2, c2 = (t.detach().double().cpu().numpy() for t in (x, w1, b1, w2, b2))
    score = np.zeros(data.shape[:2])
    for b in range(data.shape[0]):
        for m in range(data.shape[1]):
            if present is not None and not present[b, m]:
                continue
            pooled = data[b, m].sum(0) / data.shape[2]
            hidden = v1 @ pooled + c1
            hidden = np.array([0.5 * h * (1 + math.erf(h / math.sqrt(2))) for h in hidden])
            logit = float(v2 @ hidden + c2)
            finite = np.isfinite(pooled).all() and math.isfinite(logit)
            score[b, m] = 1 / (1 + math.exp(-logit)) if finite else math.nan
    return torch.from_numpy(score)


def plain_score(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    return torch.sigmoid(F.gelu(x.mean(2) @ w1.T + b1) @ w2 + b2)


def define_select(
    score: Tensor, keep: int, present: Any, priority: Any, threshold: float, rank: str
) -> tuple[list[list[int]], list[list[float]]]:
    """index and weight of modality_drop, padded with -1 and 0."""
    batch, modalities = score.shape
    ranked = score if priority is None else priority
    eligible = [
        [
            (present is None or bool(present[b, m]))
            and 0 <= float(score[b, m]) < math.inf
            and not math.isnan(float(ranked[b, m]))
            for m in range(modalities)
        ]
        for b in range(batch)
    ]
    order: list[int] = list(range(modalities))
    if rank == "batch":
        mean = []
        for m in range(modalities):
            values = [float(ranked[b, m]) for b in range(batch) if eligible[b][m]]
            mean.append(sum(values) / len(values) if values else -math.inf)
        order = sorted(range(modalities), key=lambda m: (-mean[m], m))
    index, weight = [], []
    for b in range(batch):
        if rank == "sample":
            order = sorted(range(modalities), key=lambda m: (-float(ranked[b, m]) if eligible[b][m] else 0.0, m))
        kept = [m for m in order if eligible[b][m]][:keep]
        best = max((float(score[b, m]) for m in kept), default=0.0)
        kept = sorted(m for m in kept if not float(score[b, m]) < threshold * best)
        total = sum(float(score[b, m]) for m in kept)
        share = [float(score[b, m]) / total if total > 0 else 1 / len(kept) for m in kept]
        index.append(kept + [-1] * (keep - len(kept)))
        weight.append(share + [0.0] * (keep - len(kept)))
    return index, weight


def plain_fused(x: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """The weighted sum of kept modalities in the dtype of x."""
    fused = torch.zeros_like(x[:, 0])
    for b in range(x.shape[0]):
        for j, m in enumerate(index[b].tolist()):
            if m >= 0:
                fused[b] += weight[b, j].to(x.dtype) * x[b, m]
    return fused


def attention_inputs(
    batch: int = 2,
    modalities: int = 4,
    heads: int = 2,
    queries: int = 5,
    keys: int = 3,
    dim: int = 4,
    slots: int = 3,
    dtype: Any = torch.float64,
    device: str = "cpu",
) -> list[Tensor]:
    """q, k, v, index, bias; distinct modalities in every row."""
    q = torch.randn(batch, heads, queries, dim, dtype=torch.float64)
    k = torch.randn(batch, modalities, heads, keys, dim, dtype=torch.float64)
    v = torch.randn(batch, modalities, heads, keys, dim, dtype=torch.float64)
    index = (
        torch.stack([torch.randperm(modalities)[:slots].sort().values for _ in range(batch)])
        if batch
        else torch.zeros((0, slots), dtype=torch.int64)
    )
    bias = torch.randn(batch, slots, dtype=torch.float64)
    bias = bias.to(torch.float64 if dtype == torch.float64 else torch.float32)
    return [t.to(device) for t in (q.to(dtype), k.to(dtype), v.to(dtype), index, bias)]


def define_attention(
    q: Tensor, k: Tensor, v: Tensor, index: Tensor | None, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Loops over samples, heads and queries, in float64."""
    batch, heads, queries, dim = q.shape
    out = torch.zeros(q.shape, dtype=torch.float64)
    lse = torch.full((batch, heads, queries), -math.inf, dtype=torch.float64)
    for b in range(batch):
        slots = range(k.shape[1]) if index is None else index[b].tolist()
        kept = [(j, m) for j, m in enumerate(slots) if m >= 0]
        for h in range(heads):
            if not kept:
                continue
            keys = torch.cat([k[b, m, h].double() for _, m in kept]).cpu()
            values = torch.cat([v[b, m, h].double() for _, m in kept]).cpu()
            prior = torch.cat(
                [
                    torch.full((k.shape[3],), 0.0 if bias is None else float(bias[b, j]), dtype=torch.float64)
                    for j, _ in kept
                ]
            )
            for n in range(queries):
                logit = scale * (keys @ q[b, h, n].double().cpu()) + prior
                lse[b, h, n] = torch.logsumexp(logit, 0)
                if lse[b, h, n] > -math.inf:
                    out[b, h, n] = torch.softmax(logit, 0) @ values
    return out, lse


def plain_attention(q: Tensor, k: Tensor, v: Tensor, index: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Gather, then scaled_dot_product_attention in the dtype of q; every slot holds a modality."""
    sample = torch.arange(q.shape[0], device=q.device).unsqueeze(1)
    keys, values = (t[sample, index].transpose(1, 2).flatten(2, 3) for t in (k, v))
    mask = bias.repeat_interleave(k.shape[3], 1)[:, None, None, :].to(q.dtype)
    return F.scaled_dot_product_attention(q, keys, values, mask.expand(-1, 1, q.shape[2], -1), scale=scale)
