"""modality_score in Triton; the formulas are in egformer_fast/ops/modality_score.py.

`_score` averages rows, writes `pooled` and runs the MLP on it, for ITEMS modalities a program, which share each load of
a weight: in short maps weights are as many as tokens. Its rows are the tokens themselves where there are _FEW at most.
Where there are more, `_pool` has summed x in parallel before, a program a split of the tokens, and the rows are those
sums: two stages in a fixed order, the same bits every time. An absent modality loads no tokens. Backward works on
pooled alone: one program a modality, then one a tile of the weights, which sums over all samples in a fixed order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from egformer_fast.triton._common import as_bytes, interpreter_blocks, launch

# Rows that `_score` averages without `_pool`.
_FEW = 16


def _sizes() -> tuple[int, int]:
    """Tokens that one program sums; elements of a tile that it has in flight."""
    return (256, 8192) if interpreter_blocks() else (512, 4096)


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
def _means(rows, here, count, tokens, c, channels, x_n, x_c, dtype: tl.constexpr, ROWS: tl.constexpr):
    """(ITEMS, C_TILE): the means over `tokens` of `count` rows of sums, zeros where a modality is absent."""
    items: tl.constexpr = here.shape[0]
    total = tl.zeros((items, ROWS, c.shape[0]), dtype)
    inside = here[:, None, None] & (c < channels)[None, None, :]
    for start in range(0, count, ROWS):
        n = start + tl.arange(0, ROWS).to(tl.int64)
        source = rows[:, None, None] + n[None, :, None] * x_n + c[None, None, :] * x_c
        total += tl.load(source, mask=inside & (n < count)[None, :, None], other=0.0).to(dtype)
    return tl.sum(total, 1) / tokens


@triton.jit
def _score(
    rows, present, w1, b1, w2, b2, score, pooled, items, count, tokens, channels, hidden, x_b, x_m, x_n, x_c,
    M: tl.constexpr, ITEMS: tl.constexpr, ROWS: tl.constexpr, C_TILE: tl.constexpr, R_TILE: tl.constexpr,
):  # fmt: skip
    dtype: tl.constexpr = pooled.dtype.element_ty
    i = tl.program_id(0).to(tl.int64) * ITEMS + tl.arange(0, ITEMS)
    here = i < items
    if present is not None:
        here = here & (tl.load(present + i, mask=here, other=0) != 0)
    source = rows + i // M * x_b + i % M * x_m
    logit = tl.zeros((ITEMS,), dtype)
    broken = tl.zeros((ITEMS,), tl.int32)
    # One turn for up to R_TILE hidden units; more turns read the rows again. None would leave pooled unwritten.
    for first in range(0, tl.maximum(hidden, 1), R_TILE):
        r = first + tl.arange(0, R_TILE)
        before = tl.zeros((ITEMS, R_TILE), dtype)
        for left in range(0, channels, C_TILE):
            c = left + tl.arange(0, C_TILE)
            mean = _means(source, here, count, tokens, c, channels, x_n, x_c, dtype, ROWS)
            inside = (i < items)[:, None] & (c < channels)[None, :]
            tl.store(pooled + i[:, None] * channels + c[None, :], mean, mask=inside)
            finite = tl.abs(mean) < float("inf")
            broken += tl.sum(tl.where(finite, 0, 1), 1)
            inside = (r < hidden)[:, None] & (c < channels)[None, :]
            weights = tl.load(w1 + r[:, None] * channels + c[None, :], mask=inside, other=0.0).to(dtype)
            mean = tl.where(finite, mean, 0.0)
            before += tl.dot(mean, tl.trans(weights), input_precision="ieee", out_dtype=dtype)
        before += tl.load(b1 + r, mask=r < hidden, other=0.0).to(dtype)[None, :]
        logit += tl.sum(_gelu(before) * tl.load(w2 + r, mask=r < hidden, other=0.0).to(dtype)[None, :], 1)
    logit += tl.load(b2).to(dtype)
    value = tl.where((broken == 0) & (tl.abs(logit) < float("inf")), _sigmoid(logit), float("nan"))
    tl.store(score + i, tl.where(here, value, 0.0), mask=i < items)


def modality_score(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, present: Tensor | None
) -> tuple[Tensor, Tensor]:
    batch, modalities, tokens, channels = x.shape
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    score = x.new_empty((batch, modalities), dtype=dtype)
    pooled = x.new_empty((batch, modalities, channels), dtype=dtype)
    present = as_bytes(present)
    rows = x
    if tokens > _FEW:
        split, tile = _sizes()
        splits = triton.cdiv(tokens, split)
        rows = x.new_empty((batch, modalities, splits, channels), dtype=dtype)
        cols = min(64, triton.next_power_of_2(channels))
        launch(
            _pool, batch * modalities * splits * triton.cdiv(channels, cols), x, present, rows, tokens, channels,
            splits, *x.stride(), M=modalities, SPLIT=split, ROWS=tile // cols, COLS=cols,
        )  # fmt: skip
    # A matrix product takes 16 rows and columns at least.
    items = 16
    launch(
        _score, triton.cdiv(batch * modalities, items), rows, present, *(w.contiguous() for w in (w1, b1, w2, b2)),
        score, pooled, batch * modalities, rows.shape[2], tokens, channels, w1.shape[0], *rows.stride(), M=modalities,
        ITEMS=items, ROWS=min(4, triton.next_power_of_2(rows.shape[2])), C_TILE=32,
        R_TILE=max(16, min(128, triton.next_power_of_2(w1.shape[0]))), num_warps=4,
    )  # fmt: skip
    return score, pooled


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
    wide = triton.next_power_of_2(channels)
    launch(
        _score_backward, count, d_score.contiguous(), pooled, as_bytes(present), *weights, d_pooled, d_before, active,
        d_logit, channels, hidden, C_PAD=wide, R_TILE=max(1, min(64, _sizes()[1] // wide)),
    )  # fmt: skip
    tile = 16
    launch(
        _weight_gradients, max(1, triton.cdiv(hidden, tile)) * max(1, triton.cdiv(channels, tile)), pooled, d_before,
        active, d_logit, *gradients, count, channels, hidden, ITEMS=16, R_TILE=tile, C_TILE=tile,
    )  # fmt: skip
    return d_pooled, gradients[0], gradients[1], gradients[2], gradients[3]
