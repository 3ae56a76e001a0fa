"""modality_drop: keep the most informative modalities of each frame, gather them, and sum them by their scores.

    eligible       = present and 0 <= score < inf and priority is not NaN
    rank_m         = #{eligible m': p' > p or (p' = p and m' < m)}                 by counting: ties go to the lower m
    kept           = eligible and rank < keep, then score >= threshold * best kept score
    index[b]       = kept modalities, ascending, then -1 in padded slots
    weight[b,j]    = score[b,index_j] / sum over kept slots                        (sum 0: equal weights)
    survivors[b,j] = x[b,index_j]                                                  zeros in padded slots
    fused[b]       = sum_j weight[b,j] * x[b,index_j]                              float32 accumulation

The Modal Dropping Module of EGFormer (arXiv 2505.14014); rank="batch" is the paper's rule, rank="sample" ours.
Gradient: index is constant; d_x = d_survivors_j + weight_j * d_fused in kept modalities and exact zeros elsewhere;
d_score flows through weight. A modality sits in at most one slot, so nothing needs atomics.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from egformer_fast.ops import _checks as checks
from egformer_fast.ops._backend import resolve
from egformer_fast.ops._register import Kernel, Op, register

_NAME = "modality_drop"
_MOST_MODALITIES = 16  # that the kernels select from: sizes.h


def modality_drop(
    x: Tensor,
    score: Tensor,
    keep: int,
    present: Tensor | None = None,
    priority: Tensor | None = None,
    threshold: float = 0.0,
    rank: str = "sample",
    gather: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Select, gather and aggregate the `keep` best modalities in one op (EGFormer's Modal Dropping Module).

    Args:
        x: (B, M, N, C) float32, float64, bfloat16 or float16; M <= 16, C >= 1; any strides.
        score: (B, M) float32 (float64 when x is float64); NaN or negative or infinite: a broken sensor, not eligible.
        keep: slots kept, 1 <= keep <= M; static, so every output shape is.
        present: (B, M) bool; False: missing sensor, its memory is not looked at. None: all present.
        priority: (B, M), dtype of score: what is ranked instead of score (no gradient). NaN: not eligible.
        threshold: in [0, 1]; kept modalities with score < threshold * best kept score of the sample are dropped too.
        rank: "sample": each sample keeps its own best; "batch": one order for the whole batch, from the mean priority
            over the samples where a modality is eligible (the paper's rule).
        gather: False leaves the gather out: survivors is (B, 0, N, C).

    Returns:
        survivors: (B, keep, N, C), zeros in padded slots; fused: (B, N, C); index: (B, keep) int64, ascending, then -1;
        weight: (B, keep), dtype of score, sums to 1 over kept slots, 0 in padded slots.
        A sample without an eligible modality gives zeros, index -1 and weight 0.

    Raises:
        ValueError, TypeError: a shape, dtype, device or value is wrong; the message names the argument.
    """
    _check(x, score, keep, present, priority, threshold, rank)
    op = resolve(_NAME, x.device.type)
    return op(x, score, keep, present, priority, float(threshold), rank == "batch", bool(gather))


def _check(
    x: Tensor,
    score: Tensor,
    keep: int,
    present: Tensor | None,
    priority: Tensor | None,
    threshold: float,
    rank: str,
) -> None:
    checks.check_tensor(_NAME, "x", x, "(B, M, N, C)")
    checks.check_dtype(_NAME, "x", x, checks.FLOATING)
    shape = x.shape[:2]
    if shape[1] > _MOST_MODALITIES or x.shape[3] == 0:
        raise ValueError(f"{_NAME}: x must have M <= {_MOST_MODALITIES} and C >= 1, got {checks.describe(x)}")
    for name, value in (("score", score), ("priority", priority)):
        if name == "priority" and value is None:
            continue
        checks.check_tensor(_NAME, name, value, "(B, M)")
        assert value is not None
        checks.check_shape(_NAME, name, value, "(B, M)", shape)
        checks.check_dtype(_NAME, name, value, (checks.accumulate_dtype(x.dtype),))
        checks.check_device(_NAME, name, value, x)
    checks.check_mask(_NAME, "present", present, x, shape)
    if isinstance(keep, bool) or not isinstance(keep, (int, torch.SymInt)):
        raise TypeError(f"{_NAME}: keep must be an int, got {type(keep).__name__} {keep!r}")
    if not 1 <= keep <= shape[1]:
        raise ValueError(f"{_NAME}: keep must be between 1 and M = {shape[1]}, got {keep}")
    check_rule(_NAME, threshold, rank)


def check_rule(where: str, threshold: float, rank: str) -> None:
    """TypeError or ValueError, begun by `where`, for a threshold or a rank that modality_drop does not take."""
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
        raise TypeError(f"{where}: threshold must be a number, got {type(threshold).__name__}")
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"{where}: threshold must be between 0 and 1, got {threshold}")
    if rank not in ("sample", "batch"):
        raise ValueError(f"{where}: rank must be 'sample' or 'batch', got {rank!r}")


def modality_drop_reference(
    x: Tensor,
    score: Tensor,
    keep: int,
    present: Tensor | None,
    priority: Tensor | None,
    threshold: float,
    per_batch: bool,
    gather: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The definition in plain PyTorch; returns what modality_drop returns."""
    index, weight = select(score, keep, present, priority, threshold, per_batch)
    kept = _gather(x, index)
    fused = torch.einsum("bk,bknc->bnc", weight, kept.to(weight.dtype)).to(x.dtype)
    return (kept if gather else x.new_empty((x.shape[0], 0, *x.shape[2:]))), fused, index, weight


def select(
    score: Tensor,
    keep: int,
    present: Tensor | None,
    priority: Tensor | None,
    threshold: float,
    per_batch: bool,
) -> tuple[Tensor, Tensor]:
    """Which modalities are kept, and with which weights: (index (B, keep), weight (B, keep))."""
    priority = score if priority is None else priority
    eligible = (score >= 0) & (score < torch.inf) & ~priority.isnan()
    if present is not None:
        eligible = eligible & present
    if per_batch:
        priority = _batch_order(priority, eligible)
    kept = eligible & (_rank(priority, eligible) < keep)
    best = torch.where(kept, score, 0).amax(1, keepdim=True)
    kept = kept & (score >= threshold * best)
    modality = torch.arange(score.shape[1], device=score.device)
    none = score.shape[1]
    index = torch.where(kept, modality, none).sort(1).values[:, :keep]
    index = torch.where(index == none, -1, index)
    return index, _weights(score, index)


def _rank(priority: Tensor, eligible: Tensor) -> Tensor:
    """rank[b, m]: how many eligible modalities of the sample come before m. (B, M) int64."""
    modality = torch.arange(priority.shape[1], device=priority.device)
    mine, other = priority.unsqueeze(2), priority.unsqueeze(1)
    before = (other > mine) | ((other == mine) & (modality < modality.unsqueeze(1)))
    return (before & eligible.unsqueeze(1)).sum(2)


def _batch_order(priority: Tensor, eligible: Tensor) -> Tensor:
    """One priority for the whole batch: minus the rank of a modality's mean priority, (1, M) expanded to (B, M).

    The mean is taken in float64 over the samples where the modality is eligible; one that is eligible nowhere, or
    whose mean is NaN (+inf and -inf met), comes last.
    """
    total = torch.where(eligible, priority, 0).sum(0, keepdim=True, dtype=torch.float64)
    mean = total / eligible.sum(0, keepdim=True)
    mean = torch.where(mean.isnan(), -torch.inf, mean)
    return -_rank(mean, torch.ones_like(mean, dtype=torch.bool)).to(priority.dtype).expand_as(priority)


def _weights(score: Tensor, index: Tensor) -> Tensor:
    valid = index >= 0
    kept = torch.where(valid, score.gather(1, index.clamp_min(0)), 0)
    total = kept.sum(1, keepdim=True)
    count = valid.sum(1, keepdim=True).clamp_min(1).to(score.dtype)
    share = torch.where(total > 0, kept / torch.where(total > 0, total, 1), 1 / count)
    return torch.where(valid, share, 0)


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """x[b, index[b, j]]: (B, K, N, C), zeros where index is -1; contiguous, as the fake kernel says of every output."""
    sample = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    return torch.where((index >= 0)[:, :, None, None], x[sample, index.clamp_min(0)], 0).contiguous()


def modality_drop_backward_reference(
    d_survivors: Tensor | None,
    d_fused: Tensor | None,
    d_weight: Tensor | None,
    x: Tensor,
    score: Tensor,
    index: Tensor,
    weight: Tensor,
) -> tuple[Tensor, Tensor]:
    """(d_x, d_score). The gradients of unused outputs are None."""
    d_slot = weight.new_zeros((*index.shape, *x.shape[2:]))
    d_share = weight.new_zeros(weight.shape) if d_weight is None else d_weight
    if d_fused is not None:
        d_slot = weight[:, :, None, None] * d_fused.to(weight.dtype).unsqueeze(1)
        d_share = d_share + torch.einsum("bnc,bknc->bk", d_fused.to(weight.dtype), _gather(x, index).to(weight.dtype))
    if d_survivors is not None:
        d_slot = d_slot + d_survivors
    return _scatter(d_slot.to(x.dtype), index, x.shape[1]), _score_gradient(d_share, score, index, weight)


def _scatter(d_slot: Tensor, index: Tensor, modalities: int) -> Tensor:
    """The transpose of _gather, read by modality: m takes the slot that holds it, or zeros."""
    holds = index.unsqueeze(2) == torch.arange(modalities, device=index.device)
    slot = holds.to(torch.uint8).argmax(1)
    sample = torch.arange(index.shape[0], device=index.device).unsqueeze(1)
    return torch.where(holds.any(1)[:, :, None, None], d_slot[sample, slot], 0)


def _score_gradient(d_share: Tensor, score: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """weight_j = s_j / S: d_s_j = (d_w_j - sum_i w_i d_w_i) / S; zero where S is 0."""
    valid = index >= 0
    slot = index.clamp_min(0)
    total = torch.where(valid, score.gather(1, slot), 0).sum(1, keepdim=True)
    alive = valid & (total > 0)
    d_share = torch.where(valid, d_share, 0)
    mean = (weight * d_share).sum(1, keepdim=True)
    d_kept = torch.where(alive, (d_share - mean) / torch.where(total > 0, total, 1), 0)
    return torch.zeros_like(score, memory_format=torch.contiguous_format).scatter_add(1, slot, d_kept)


def _fake(
    x: Tensor,
    score: Tensor,
    keep: int,
    present: Tensor | None,
    priority: Tensor | None,
    threshold: float,
    per_batch: bool,
    gather: bool,
) -> Any:
    batch, _, tokens, channels = x.shape
    survivors = x.new_empty((batch, keep if gather else 0, tokens, channels))
    index = x.new_empty((batch, keep), dtype=torch.int64)
    return survivors, x.new_empty((batch, tokens, channels)), index, score.new_empty((batch, keep))


def _backward_fake(
    d_survivors: Tensor | None,
    d_fused: Tensor | None,
    d_weight: Tensor | None,
    x: Tensor,
    score: Tensor,
    index: Tensor,
    weight: Tensor,
) -> Any:
    return x.new_empty(x.shape), score.new_empty(score.shape)


def _flops(x: Any, score: Any, keep: int, *args: Any, **kwargs: Any) -> int:
    """The weighted sum: one multiply-add per kept element, times two."""
    return 2 * x[0] * keep * x[2] * x[3]


def _backward_flops(
    d_survivors: Any, d_fused: Any, d_weight: Any, x: Any, score: Any, index: Any, *args: Any, **kwargs: Any
) -> int:
    return 0 if d_fused is None else 2 * _flops(x, score, index[1])


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    x, score = inputs[:2]
    _, _, index, weight = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, score, index, weight)


def _gradients(ctx: Any, backward: Any, d_survivors: Any, d_fused: Any, _: None, d_weight: Any) -> Any:
    if d_survivors is None and d_fused is None and d_weight is None:
        return (None,) * 8
    if d_survivors is not None and d_survivors.shape[1] == 0:
        d_survivors = None
    d_x, d_score = backward(d_survivors, d_fused, d_weight, *ctx.saved_tensors)
    return d_x, d_score, None, None, None, None, None, None


register(
    Op(
        forward=Kernel(
            _NAME,
            "(Tensor x, Tensor score, SymInt keep, Tensor? present, Tensor? priority, float threshold, bool per_batch,"
            " bool gather) -> (Tensor survivors, Tensor fused, Tensor index, Tensor weight)",
            modality_drop_reference,
            _fake,
            _flops,
        ),
        backward=Kernel(
            f"{_NAME}_backward",
            "(Tensor? d_survivors, Tensor? d_fused, Tensor? d_weight, Tensor x, Tensor score, Tensor index,"
            " Tensor weight) -> (Tensor d_x, Tensor d_score)",
            modality_drop_backward_reference,
            _backward_fake,
            _backward_flops,
        ),
        save=_save,
        gradients=_gradients,
    )
)
