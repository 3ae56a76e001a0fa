"""modality_score in Triton; the formulas are in egformer_fast/ops/modality_score.py.

`_score`, one program a modality, averages rows, writes `pooled` and runs the MLP on it. Its rows are the tokens
themselves where there are few. Where there are many, `_pool` has summed x in parallel before, a program a split of the
tokens, and the rows are those sums: two stages in a fixed order, the same bits every time. An absent modality loads
nothing. Backward works on pooled alone: one program a modality, then one a tile of the weights, which sums over all
samples in a fixed order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from egformer_fast.triton._common import INTERPRETED, as_bytes, launch

# Tokens that one program sums; elements of a tile that it has in flight.
_SPLIT, _TILE = (256, 8192) if INTERPRETED else (512, 4096)


@triton.jit
def _is_here(present, i):
    if present is None:
        return True
    else:
        return tl.load(present + i) != 0


@triton.jit
def _sum_rows(
    x, first, last, row_stride, c, c_stride, mask, dtype: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr
):
    """The sum over rows first .. last - 1 of the columns c: ROWS running sums, then a tree."""
    total = tl.zeros((ROWS, COLS), dtype)
    for start in range(first, last, ROWS):
        n = start + tl.arange(0, ROWS).to(tl.int64)
        inside = (n < last)[:, None] & mask[None, :]
        total += tl.load(x + n[:, None] * row_stride + c[None, :] * c_stride, mask=inside, other=0.0).to(dtype)
    return tl.sum(total, 0)


@triton.jit
def _pool(
    x, present, partial, tokens, channels, splits, x_b, x_m, x_n, x_c, M: tl.constexpr, SPLIT: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """partial (B, M, splits, C): sums over SPLIT tokens. A program owns COLS channels of one split."""
    across = tl.cdiv(channels, COLS)
    c = tl.program_id(0) % across * COLS + tl.arange(0, COLS)
    split = tl.program_id(0) // across % splits
    i = (tl.program_id(0) // across // splits).to(tl.int64)
    if _is_here(present, i):
        first = split * SPLIT
        last = tl.minimum(first + SPLIT, tokens)
        source = x + i // M * x_b + i % M * x_m
        total = _sum_rows(source, first, last, x_n, c, x_c, c < channels, partial.dtype.element_ty, ROWS, COLS)
        tl.store(partial + (i * splits + split) * channels + c, total, mask=c < channels)


@triton.jit
def _hidden(pooled, w1, b1, r, c, hidden, channels):
    """W1 pooled + b1 for the hidden units r, and their rows of W1."""
    inside = (r < hidden)[:, None] & (c < channels)[None, :]
    weights = tl.load(w1 + r[:, None] * channels + c[None, :], mask=inside, other=0.0).to(pooled.dtype)
    return tl.sum(weights * pooled[None, :], 1) + tl.load(b1 + r, mask=r < hidden, other=0.0).to(pooled.dtype), weights


@triton.jit
def _gelu(h):
    return 0.5 * h * (1.0 + tl.erf(h * 0.7071067811865476))


@triton.jit
def _logit(pooled, w1, b1, w2, b2, c, hidden, channels, R_TILE: tl.constexpr):
    total = tl.zeros((R_TILE,), pooled.dtype)
    for first in range(0, hidden, R_TILE):
        r = first + tl.arange(0, R_TILE)
        before, _ = _hidden(pooled, w1, b1, r, c, hidden, channels)
        total += _gelu(before) * tl.load(w2 + r, mask=r < hidden, other=0.0).to(pooled.dtype)
    return tl.sum(total, 0) + tl.load(b2).to(pooled.dtype)


@triton.jit
def _is_finite(pooled, logit):
    return (tl.min((tl.abs(pooled) < float("inf")).to(tl.int32), 0) > 0) & (tl.abs(logit) < float("inf"))


@triton.jit
def _sigmoid(logit):
    return 1.0 / (1.0 + tl.exp(-logit))


@triton.jit
def _score(
    rows, present, w1, b1, w2, b2, score, pooled, count, tokens, channels, hidden, x_b, x_m, x_n, x_c,
    M: tl.constexpr, ROWS: tl.constexpr, C_PAD: tl.constexpr, R_TILE: tl.constexpr,
):  # fmt: skip
    """The mean over `tokens` of `count` rows of sums, then the MLP."""
    i = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, C_PAD)
    if _is_here(present, i):
        source = rows + i // M * x_b + i % M * x_m
        total = _sum_rows(source, 0, count, x_n, c, x_c, c < channels, pooled.dtype.element_ty, ROWS, C_PAD)
        mean = total / tokens
        logit = _logit(mean, w1, b1, w2, b2, c, hidden, channels, R_TILE)
        tl.store(pooled + i * channels + c, mean, mask=c < channels)
        tl.store(score + i, tl.where(_is_finite(mean, logit), _sigmoid(logit), float("nan")))
    else:
        tl.store(pooled + i * channels + c, tl.zeros((C_PAD,), pooled.dtype.element_ty), mask=c < channels)
        tl.store(score + i, 0.0)


def modality_score(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, present: Tensor | None
) -> tuple[Tensor, Tensor]:
    batch, modalities, tokens, channels = x.shape
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    score = x.new_empty((batch, modalities), dtype=dtype)
    pooled = x.new_empty((batch, modalities, channels), dtype=dtype)
    present = as_bytes(present)
    rows = x
    if tokens > _SPLIT:
        splits = triton.cdiv(tokens, _SPLIT)
        rows = x.new_empty((batch, modalities, splits, channels), dtype=dtype)
        cols = min(64, triton.next_power_of_2(channels))
        launch(
            _pool, batch * modalities * splits * triton.cdiv(channels, cols), x, present, rows, tokens, channels,
            splits, *x.stride(), M=modalities, SPLIT=_SPLIT, ROWS=_TILE // cols, COLS=cols,
        )  # fmt: skip
    pads = _pads(channels)
    launch(
        _score, batch * modalities, rows, present, *(w.contiguous() for w in (w1, b1, w2, b2)), score, pooled,
        rows.shape[2], tokens, channels, w1.shape[0], *rows.stride(), M=modalities, ROWS=pads["R_TILE"], **pads,
    )  # fmt: skip
    return score, pooled


def _pads(channels: int) -> dict[str, int]:
    wide = triton.next_power_of_2(channels)
    return {"C_PAD": wide, "R_TILE": max(1, min(64, _TILE // wide))}


@triton.jit
def _score_backward(
    d_score, pooled, present, w1, b1, w2, b2, d_pooled, d_before, active, d_logit, channels, hidden,
    C_PAD: tl.constexpr, R_TILE: tl.constexpr,
):  # fmt: skip
    """d_pooled, and for the second launch d_before, d_logit * gelu(before), d_logit: zeros where absent or broken."""
    i = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, C_PAD)
    mean = tl.load(pooled + i * channels + c, mask=c < channels, other=0.0)
    logit = _logit(mean, w1, b1, w2, b2, c, hidden, channels, R_TILE)
    alive = _is_finite(mean, logit) & _is_here(present, i)
    s = _sigmoid(logit)
    gradient = tl.where(alive, tl.load(d_score + i) * (s * (1.0 - s)), 0.0)
    mean = tl.where(alive, mean, 0.0)
    total = tl.zeros((C_PAD,), mean.dtype)
    for first in range(0, hidden, R_TILE):
        r = first + tl.arange(0, R_TILE)
        before, weights = _hidden(mean, w1, b1, r, c, hidden, channels)
        slope = 0.5 * (1.0 + tl.erf(before * 0.7071067811865476)) + before * 0.3989422804014327 * tl.exp(
            -0.5 * before * before
        )
        pulled = gradient * tl.load(w2 + r, mask=r < hidden, other=0.0).to(mean.dtype) * slope
        tl.store(d_before + i * hidden + r, pulled, mask=r < hidden)
        tl.store(active + i * hidden + r, gradient * _gelu(before), mask=r < hidden)
        total += tl.sum(pulled[:, None] * weights, 0)
    tl.store(d_pooled + i * channels + c, tl.where(alive, total, 0.0), mask=c < channels)
    tl.store(d_logit + i, gradient)


@triton.jit
def _weight_gradients(
    pooled, d_before, active, d_logit, d_w1, d_b1, d_w2, d_b2, count, channels, hidden, ITEMS: tl.constexpr,
    R_TILE: tl.constexpr, C_TILE: tl.constexpr,
):  # fmt: skip
    """One tile of d_w1, summed over the `count` modalities of the batch; the first column of tiles gives the rest."""
    across = tl.cdiv(channels, C_TILE)
    r = tl.program_id(0) // across * R_TILE + tl.arange(0, R_TILE)
    c = tl.program_id(0) % across * C_TILE + tl.arange(0, C_TILE)
    total = tl.zeros((R_TILE, C_TILE), pooled.dtype.element_ty)
    bias = tl.zeros((R_TILE,), total.dtype)
    last = tl.zeros((R_TILE,), total.dtype)
    logit = tl.zeros((ITEMS,), total.dtype)
    for first in range(0, count, ITEMS):
        i = first + tl.arange(0, ITEMS)
        grid = i[:, None] * hidden + r[None, :]
        inside = (i < count)[:, None] & (r < hidden)[None, :]
        pulled = tl.load(d_before + grid, mask=inside, other=0.0)
        mean = tl.load(
            pooled + i[:, None] * channels + c[None, :], mask=(i < count)[:, None] & (c < channels)[None, :], other=0.0
        )
        # A broken sensor's d_before is 0, and 0 times its NaN would not be.
        mean = tl.where(tl.abs(mean) < float("inf"), mean, 0.0)
        total += tl.sum(pulled[:, :, None] * mean[:, None, :], 0)
        bias += tl.sum(pulled, 0)
        last += tl.sum(tl.load(active + grid, mask=inside, other=0.0), 0)
        logit += tl.load(d_logit + i, mask=i < count, other=0.0)
    inside = (r < hidden)[:, None] & (c < channels)[None, :]
    tl.store(d_w1 + r[:, None] * channels + c[None, :], total.to(d_w1.dtype.element_ty), mask=inside)
    if tl.program_id(0) % across == 0:
        tl.store(d_b1 + r, bias.to(d_b1.dtype.element_ty), mask=r < hidden)
        tl.store(d_w2 + r, last.to(d_w2.dtype.element_ty), mask=r < hidden)
        if tl.program_id(0) == 0:
            tl.store(d_b2, tl.sum(logit, 0).to(d_b2.dtype.element_ty))


def modality_score_backward(
    d_score: Tensor, pooled: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, present: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, modalities, channels = pooled.shape
    count, hidden = batch * modalities, w1.shape[0]
    weights = [w.contiguous() for w in (w1, b1, w2, b2)]
    d_pooled = pooled.new_empty(pooled.shape)
    gradients = [w.new_empty(w.shape) for w in weights]
    d_before, active = (pooled.new_empty((count, hidden)) for _ in range(2))
    d_logit = pooled.new_empty((count,))
    launch(
        _score_backward, count, d_score.contiguous(), pooled, as_bytes(present), *weights, d_pooled, d_before, active,
        d_logit, channels, hidden, **_pads(channels),
    )  # fmt: skip
    tile = 16
    launch(
        _weight_gradients, max(1, triton.cdiv(hidden, tile)) * max(1, triton.cdiv(channels, tile)), pooled, d_before,
        active, d_logit, *gradients, count, channels, hidden, ITEMS=16, R_TILE=tile, C_TILE=tile,
    )  # fmt: skip
    return d_pooled, gradients[0], gradients[1], gradients[2], gradients[3]
