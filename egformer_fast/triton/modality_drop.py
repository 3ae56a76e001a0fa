"""modality_drop in Triton; the formulas are in egformer_fast/ops/modality_drop.py.

Forward is one launch: a program owns one tile of one sample's map, works out the sample's selection from its M scores
(a few hundred operations, cheaper than a second launch, and nothing waits for the host), reads that tile of each kept
modality once and writes it once, and adds it up in float32. Backward writes every modality's tile once, zeros
included, and one partial dot product per slot and tile; a small second launch sums those and gives d_score.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from egformer_fast.triton._common import as_bytes, launch, tile_tokens, to_type


@triton.jit
def _ranked(score, priority, present, offsets, mask):
    """Score, what is ranked, and whether it is eligible, of the entries at `offsets`."""
    s = tl.load(score + offsets, mask=mask, other=-1.0)
    if priority is None:  # noqa: SIM108 (a None pointer exists at compile time only)
        p = s
    else:
        p = tl.load(priority + offsets, mask=mask, other=0.0)
    eligible = mask & (s >= 0) & (s < float("inf")) & (p == p)
    if present is not None:
        eligible = eligible & (tl.load(present + offsets, mask=mask, other=0) != 0)
    return s, p, eligible


@triton.jit
def _rank(p, counted, m):
    """How many counted modalities come before each; ties go to the lower number."""
    before = (p[None, :] > p[:, None]) | ((p[None, :] == p[:, None]) & (m[None, :] < m[:, None]))
    return tl.sum((before & counted[None, :]).to(tl.int32), 1)


@triton.jit
def _batch_order(score, priority, present, batch, m, M: tl.constexpr, M_PAD: tl.constexpr):
    """One priority for the whole batch: minus the rank of a modality's mean priority."""
    total = tl.zeros((M_PAD,), tl.float64)
    count = tl.zeros((M_PAD,), tl.int32)
    for first in range(0, batch, 16):
        b = first + tl.arange(0, 16)
        mask = (b < batch)[:, None] & (m < M)[None, :]
        _, p, eligible = _ranked(score, priority, present, b[:, None] * M + m[None, :], mask)
        total += tl.sum(tl.where(eligible, p.to(tl.float64), 0.0), 0)
        count += tl.sum(eligible.to(tl.int32), 0)
    mean = total / tl.maximum(count, 1)
    # NaN: +inf and -inf met.
    mean = tl.where((count > 0) & (mean == mean), mean, float("-inf"))
    return -_rank(mean, m < M, m)


@triton.jit
def _select(
    score, priority, present, b, batch, threshold, M: tl.constexpr, KEEP: tl.constexpr, PER_BATCH: tl.constexpr,
    M_PAD: tl.constexpr,
):  # fmt: skip
    """Of the modalities m of one sample: kept or not, the slot of a kept one, its weight."""
    m = tl.arange(0, M_PAD)
    s, p, eligible = _ranked(score, priority, present, b * M + m, m < M)
    if PER_BATCH:
        p = _batch_order(score, priority, present, batch, m, M, M_PAD)
    kept = eligible & (_rank(p, eligible, m) < KEEP)
    best = tl.max(tl.where(kept, s, 0.0), 0)
    kept = kept & (s >= to_type(threshold, s.dtype) * best)
    share = tl.where(kept, s, 0.0)
    total = tl.sum(share, 0)
    count = tl.maximum(tl.sum(kept.to(tl.int32), 0), 1)
    share = tl.where(total > 0, share / tl.where(total > 0, total, 1.0), 1.0 / count.to(s.dtype))
    return kept, tl.cumsum(kept.to(tl.int32), 0) - 1, tl.where(kept, share, 0.0)


@triton.jit
def _tile(tiles, across, rows, cols, ROWS: tl.constexpr, COLS: tl.constexpr):
    """This program's sample, its tile's number, and the tile's rows, columns and mask; all of them 64 bits wide."""
    b = (tl.program_id(0) // tiles).to(tl.int64)
    tile = (tl.program_id(0) % tiles).to(tl.int64)
    row = (tile // across * ROWS + tl.arange(0, ROWS))[:, None]
    col = (tile % across * COLS + tl.arange(0, COLS))[None, :]
    return b, tile, row, col, (row < rows) & (col < cols)


@triton.jit
def _drop(
    x, score, present, priority, survivors, fused, index, weight, batch, threshold: tl.float64, tiles, across, rows,
    cols, x_b, x_m, x_row, x_col, M: tl.constexpr, KEEP: tl.constexpr, PER_BATCH: tl.constexpr, M_PAD: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    b, tile, row, col, inside = _tile(tiles, across, rows, cols, ROWS, COLS)
    kept, slot, share = _select(score, priority, present, b, batch, threshold, M, KEEP, PER_BATCH, M_PAD)
    source = x + b * x_b + row * x_row + col * x_col
    target = row * cols + col
    total = tl.zeros((ROWS, COLS), share.dtype)
    for j in tl.static_range(KEEP):
        mine = kept & (slot == j)
        m = tl.sum(tl.where(mine, tl.arange(0, M_PAD) + 1, 0), 0) - 1  # -1: a padded slot, nothing is loaded
        w = tl.sum(tl.where(mine, share, 0.0), 0)
        values = tl.load(source + m.to(tl.int64) * x_m, mask=inside & (m >= 0), other=0.0)
        total += w * values.to(total.dtype)
        if survivors is not None:
            tl.store(survivors + (b * KEEP + j) * rows * cols + target, values, mask=inside)
        if tile == 0:
            tl.store(index + b * KEEP + j, m)
            tl.store(weight + b * KEEP + j, w)
    tl.store(fused + b * rows * cols + target, total.to(fused.dtype.element_ty), mask=inside)


def modality_drop(
    x: Tensor,
    score: Tensor,
    keep: int,
    present: Tensor | None,
    priority: Tensor | None,
    threshold: float,
    per_batch: bool,
    gather: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, modalities, tokens, channels = x.shape
    survivors = x.new_empty((batch, keep if gather else 0, tokens, channels))
    fused = x.new_empty((batch, tokens, channels))
    index = x.new_empty((batch, keep), dtype=torch.int64)
    weight = score.new_empty((batch, keep))
    tiling, (strides,) = tile_tokens(tokens, channels, x.element_size(), x)
    launch(
        _drop, batch * tiling.tiles, x, score.contiguous(), as_bytes(present),
        None if priority is None else priority.contiguous(), survivors if gather else None, fused, index, weight, batch,
        threshold, tiling.tiles, tiling.across, tiling.rows, tiling.cols, *strides, M=modalities, KEEP=keep,
        PER_BATCH=per_batch, M_PAD=triton.next_power_of_2(modalities), ROWS=tiling.ROWS, COLS=tiling.COLS,
    )  # fmt: skip
    return survivors, fused, index, weight


@triton.jit
def _drop_backward(
    d_survivors, d_fused, x, index, weight, d_x, partial, tiles, across, rows, cols, s_b, s_k, s_row, s_col, f_b,
    f_row, f_col, x_b, x_m, x_row, x_col, M: tl.constexpr, KEEP: tl.constexpr, K_PAD: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    b, tile, row, col, inside = _tile(tiles, across, rows, cols, ROWS, COLS)
    k = tl.arange(0, K_PAD)
    slots = tl.load(index + b * KEEP + k, mask=k < KEEP, other=-1)
    shares = tl.load(weight + b * KEEP + k, mask=k < KEEP, other=0.0)
    if d_fused is not None:
        pulled = tl.load(d_fused + b * f_b + row * f_row + col * f_col, mask=inside, other=0.0).to(shares.dtype)
    for m in tl.static_range(M):
        j = tl.sum(tl.where(slots == m, k + 1, 0), 0) - 1  # -1: dropped
        held = j >= 0
        gradient = tl.zeros((ROWS, COLS), shares.dtype)
        if d_fused is not None:
            source = x + b * x_b + tl.cast(m, tl.int64) * x_m
            values = tl.load(source + row * x_row + col * x_col, mask=inside & held, other=0.0)
            dot = tl.sum(tl.sum(values.to(shares.dtype) * pulled, 1), 0)
            tl.store(partial + (b * KEEP + j) * tiles + tile, dot, mask=held)
            gradient += tl.sum(tl.where(slots == m, shares, 0.0), 0) * pulled
        if d_survivors is not None:
            pushed = tl.load(
                d_survivors + b * s_b + j.to(tl.int64) * s_k + row * s_row + col * s_col, mask=inside & held, other=0.0
            )
            gradient += pushed.to(shares.dtype)
        gradient = tl.where(held, gradient, 0.0)
        tl.store(d_x + (b * M + m) * rows * cols + row * cols + col, gradient.to(d_x.dtype.element_ty), mask=inside)


@triton.jit
def _score_gradient(
    d_weight, partial, score, index, weight, d_score, tiles, M: tl.constexpr, KEEP: tl.constexpr, M_PAD: tl.constexpr,
    K_PAD: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """weight_j = s_j / S: d_s_j = (d_w_j - sum_i w_i d_w_i) / S; zero where S is 0. One program a sample."""
    b = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, K_PAD)
    slots = tl.load(index + b * KEEP + k, mask=k < KEEP, other=-1)
    valid = slots >= 0
    share = tl.load(weight + b * KEEP + k, mask=valid, other=0.0)
    total = tl.sum(tl.load(score + b * M + slots, mask=valid, other=0.0), 0)
    d_share = tl.zeros((K_PAD,), share.dtype)
    if d_weight is not None:
        d_share += tl.load(d_weight + b * KEEP + k, mask=valid, other=0.0)
    if partial is not None:
        sums = tl.zeros((K_PAD, TILES), share.dtype)
        for first in range(0, tiles, TILES):
            t = first + tl.arange(0, TILES)
            mask = valid[:, None] & (t < tiles)[None, :]
            sums += tl.load(partial + (b * KEEP + k)[:, None] * tiles + t[None, :], mask=mask, other=0.0)
        d_share += tl.sum(sums, 1)
    mean = tl.sum(share * d_share, 0)
    d_kept = tl.where(total > 0, (d_share - mean) / tl.where(total > 0, total, 1.0), 0.0)
    m = tl.arange(0, M_PAD)
    gradient = tl.sum(tl.where(slots[None, :] == m[:, None], d_kept[None, :], 0.0), 1)
    tl.store(d_score + b * M + m, gradient, mask=m < M)


def modality_drop_backward(
    d_survivors: Tensor | None,
    d_fused: Tensor | None,
    d_weight: Tensor | None,
    x: Tensor,
    score: Tensor,
    index: Tensor,
    weight: Tensor,
) -> tuple[Tensor, Tensor]:
    batch, modalities, tokens, channels = x.shape
    keep = index.shape[1]
    d_x, d_score = x.new_empty(x.shape), score.new_empty(score.shape)
    tiling, (s_strides, f_strides, x_strides) = tile_tokens(tokens, channels, x.element_size(), d_survivors, d_fused, x)
    partial = None if d_fused is None else weight.new_empty((batch, keep, tiling.tiles))
    pads = {"M": modalities, "KEEP": keep, "K_PAD": triton.next_power_of_2(keep)}
    launch(
        _drop_backward, batch * tiling.tiles, d_survivors, d_fused, x, index, weight, d_x, partial, tiling.tiles,
        tiling.across, tiling.rows, tiling.cols, *s_strides, *f_strides[-3:], *x_strides, **pads, ROWS=tiling.ROWS,
        COLS=tiling.COLS,
    )  # fmt: skip
    launch(
        _score_gradient, batch, None if d_weight is None else d_weight.contiguous(), partial, score.contiguous(), index,
        weight, d_score, tiling.tiles, **pads, M_PAD=triton.next_power_of_2(modalities), TILES=256,
    )  # fmt: skip
    return d_x, d_score
