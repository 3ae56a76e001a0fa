"""modality_attention: attention over the tokens of the surviving modalities only.

    logit[b,h,n,(j,t)] = scale * <q[b,h,n], k[b,index_j,h,t]> + bias[b,j]
    out = softmax over all (j, t) of kept slots, times v;     lse = logsumexp of the logits

Dropped and padded slots are never looked at, nothing is gathered by the caller. bias = log(weight) makes a modality's
score a prior on the softmax: the score learns from the attention, and a score that goes to 0 fades out continuously.
Backward recomputes the probabilities from lse. All slots padded or bias -inf: out 0, lse -inf, zero gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from egformer_fast.ops import _checks as checks
from egformer_fast.ops._backend import resolve
from egformer_fast.ops._register import Kernel, Op, register

_NAME = "modality_attention"


def modality_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    validate: bool = False,
) -> tuple[Tensor, Tensor]:
    """Attend from one set of queries to the tokens of the kept modalities.

    Args:
        q: (B, H, Nq, D) float32, float64, bfloat16 or float16; any strides.
        k, v: (B, M, H, Nk, D), dtype of q. Under autocast q, k, v are cast to the autocast dtype, nothing else is;
            float64 stays, and then all three have to be.
        index: (B, K) int64: the modality in each slot, -1 in padded slots; a repeated index attends twice.
            None: every modality, slot m holds modality m (K = M).
        bias: (B, K) float32 (float64 when q is float64), added to the logits of a slot; may be -inf. None: zeros.
        scale: factor on <q, k>; default D ** -0.5.
        validate: check the values of index on a GPU too, where looking at them waits for the GPU. On the CPU they are
            checked in any case; never while a graph is recorded (torch.compile, export).

    Returns:
        out: (B, H, Nq, D), dtype of q; lse: (B, H, Nq), dtype of bias, natural log, not differentiable.

    Raises:
        ValueError, TypeError: a shape, dtype or device is wrong; the message names the argument.
        IndexError: an index value outside -1 .. M-1, where values are checked; elsewhere such a slot counts as padded.
    """
    _check(q, k, v, index, bias, validate)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    return resolve(_NAME, q.device.type)(q, k, v, index, bias, scale)


def _check(q: Tensor, k: Tensor, v: Tensor, index: Tensor | None, bias: Tensor | None, validate: bool) -> None:
    checks.check_tensor(_NAME, "q", q, "(B, H, Nq, D)")
    checks.check_dtype(_NAME, "q", q, checks.FLOATING)
    batch, heads, _, dim = q.shape
    if dim == 0:
        raise ValueError(f"{_NAME}: q must have D >= 1, got {checks.describe(q)}")
    checks.check_tensor(_NAME, "k", k, "(B, M, H, Nk, D)")
    modalities, keys = k.shape[1], k.shape[3]
    same = _dtypes_beside(q)
    for name, value in (("k", k), ("v", v)):
        checks.check_tensor(_NAME, name, value, "(B, M, H, Nk, D)")
        checks.check_shape(_NAME, name, value, "(B, M, H, Nk, D)", (batch, modalities, heads, keys, dim))
        checks.check_dtype(_NAME, name, value, same)
        checks.check_device(_NAME, name, value, q)
    slots = modalities
    if index is not None:
        checks.check_tensor(_NAME, "index", index, "(B, K)")
        slots = index.shape[1]
        checks.check_shape(_NAME, "index", index, "(B, K)", (batch, slots))
        checks.check_dtype(_NAME, "index", index, (torch.int64,))
        checks.check_device(_NAME, "index", index, q)
        if validate or index.device.type == "cpu":  # elsewhere the answer would have to be waited for
            _check_index(index, modalities)
    if bias is not None:
        checks.check_tensor(_NAME, "bias", bias, "(B, K)")
        checks.check_shape(_NAME, "bias", bias, "(B, K)", (batch, slots))
        checks.check_dtype(_NAME, "bias", bias, (checks.accumulate_dtype(q.dtype),))
        checks.check_device(_NAME, "bias", bias, q)


def _dtypes_beside(q: Tensor) -> tuple[torch.dtype, ...]:
    """Those that k and v may have: autocast gives all three one dtype before any kernel sees them, except float64."""
    if q.dtype == torch.float64 or not checks.is_autocast_on(q.device.type):
        return (q.dtype,)
    return tuple(dtype for dtype in checks.FLOATING if dtype != torch.float64)


def _check_index(index: Tensor, modalities: int) -> None:
    """Where there are values to look at, and looking breaks no graph."""
    if checks.is_recorded() or index.is_meta or index.numel() == 0:
        return
    low, high = (int(value) for value in index.aminmax())
    if low < -1 or high >= modalities:
        wrong = low if low < -1 else high
        raise IndexError(f"{_NAME}: index must be -1 or 0 .. M-1 = {modalities - 1}, got {wrong}")


def modality_attention_reference(
    q: Tensor, k: Tensor, v: Tensor, index: Tensor | None, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """The definition in plain PyTorch: (out, lse)."""
    index = _in_range(index, k.shape[1])
    keys, values = _slots(k, index), _slots(v, index)
    logits = _logits(q, keys, index, bias, scale)
    lse = logits.logsumexp(-1)
    probability = (logits - _finite(lse).unsqueeze(-1)).exp()
    return (probability @ values).to(q.dtype), lse


def modality_attention_backward_reference(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor | None,
    bias: Tensor | None,
    out: Tensor,
    lse: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(d_q, d_k, d_v, d_bias); d_bias is empty when bias is None.

    P = exp(logit - lse), dP = d_out v^T, dS = P * (dP - rowsum(d_out * out)); the sums run in float32.
    """
    batch, modalities, _, tokens, _ = k.shape
    slots = modalities if index is None else index.shape[1]
    index = _in_range(index, modalities)
    keys, values = _slots(k, index), _slots(v, index)
    probability = (_logits(q, keys, index, bias, scale) - _finite(lse).unsqueeze(-1)).exp()
    d_out = d_out.to(lse.dtype)
    d_logits = probability * (d_out @ values.mT - (d_out * out).sum(-1, keepdim=True))
    d_q = scale * (d_logits @ keys)
    d_keys = scale * (d_logits.mT @ q.to(lse.dtype))
    d_values = probability.mT @ d_out
    d_k, d_v = (_from_slots(d, index, slots, k).to(k.dtype) for d in (d_keys, d_values))
    if bias is None:
        return d_q.to(q.dtype), d_k, d_v, lse.new_empty((0,))
    # The terms nearly cancel; PyTorch sums more exactly over outer dimensions than over outer and inner ones at once.
    d_bias = d_logits.sum((1, 2)).reshape(batch, slots, tokens).sum(-1)
    return d_q.to(q.dtype), d_k, d_v, d_bias


def _in_range(index: Tensor | None, modalities: int) -> Tensor | None:
    """index with -1, a padded slot, for every value that names no modality."""
    return None if index is None else torch.where((index >= 0) & (index < modalities), index, -1)


def _slots(k: Tensor, index: Tensor | None) -> Tensor:
    """Tokens of the kept modalities, (B, M, H, Nk, D) -> (B, H, K * Nk, D) in the accumulation dtype; 0 if padded."""
    if index is not None:
        sample = torch.arange(k.shape[0], device=k.device).unsqueeze(1)
        k = torch.where((index >= 0)[:, :, None, None, None], k[sample, index.clamp_min(0)], 0)
    batch, slots, heads, tokens, dim = k.shape
    k = k.transpose(1, 2).to(checks.accumulate_dtype(k.dtype))
    return k.reshape(batch, heads, slots * tokens, dim)


def _from_slots(d_tokens: Tensor, index: Tensor | None, slots: int, like: Tensor) -> Tensor:
    """The transpose of _slots: (B, H, K * Nk, D) -> (B, M, H, Nk, D); a repeated index adds up."""
    batch, modalities, heads, tokens, dim = like.shape
    d_slot = d_tokens.reshape(batch, heads, slots, tokens, dim).transpose(1, 2)
    if index is None:
        return d_slot.contiguous()
    d_slot = torch.where((index >= 0)[:, :, None, None, None], d_slot, 0)
    sample = torch.arange(batch, device=index.device).unsqueeze(1).expand_as(index)
    total = d_slot.new_zeros((batch, modalities, heads, tokens, dim))
    return total.index_put((sample, index.clamp_min(0)), d_slot, accumulate=True)


def _logits(q: Tensor, keys: Tensor, index: Tensor | None, bias: Tensor | None, scale: float) -> Tensor:
    """(B, H, Nq, K * Nk); -inf for the tokens of padded slots."""
    logits = scale * (q.to(keys.dtype) @ keys.mT)
    batch, slots = index.shape if index is not None else (keys.shape[0], 0 if bias is None else bias.shape[1])
    if slots == 0:
        return logits
    prior = keys.new_zeros((batch, slots)) if bias is None else bias
    if index is not None:
        prior = torch.where(index >= 0, prior, -torch.inf)
    return logits + prior.repeat_interleave(keys.shape[2] // slots, 1)[:, None, None, :]


def _finite(lse: Tensor) -> Tensor:
    """lse with -inf (nothing to attend to) replaced by 0, so that exp(-inf - lse) is 0 and not NaN."""
    return torch.where(lse == -torch.inf, 0, lse)


def _fake(q: Tensor, k: Tensor, v: Tensor, index: Tensor | None, bias: Tensor | None, scale: float) -> Any:
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=checks.accumulate_dtype(q.dtype))


def _backward_fake(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor | None,
    bias: Tensor | None,
    out: Tensor,
    lse: Tensor,
    scale: float,
) -> Any:
    d_bias = lse.new_empty((0,)) if bias is None else lse.new_empty(bias.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), d_bias


def _flops(q: Any, k: Any, v: Any, index: Any, *args: Any, **kwargs: Any) -> int:
    """Two matrix products over the kept tokens: the count of flash attention, padded slots included."""
    slots = k[1] if index is None else index[1]
    return 4 * q[0] * q[1] * q[2] * slots * k[3] * q[3]


def _backward_flops(d_out: Any, q: Any, k: Any, v: Any, index: Any, *args: Any, **kwargs: Any) -> int:
    """Five matrix products, the recomputation included, where forward has two."""
    return 5 * _flops(q, k, v, index) // 2


def _autocast(dtype: torch.dtype, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Any, ...]:
    cast = tuple(t if t.dtype == torch.float64 else t.to(dtype) for t in (q, k, v))
    return *cast, *rest


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    q, k, v, index, bias, scale = inputs
    out, lse = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(q, k, v, index, bias, out, lse)
    ctx.scale = scale


def _gradients(ctx: Any, backward: Any, d_out: Tensor | None, _: None) -> Any:
    if d_out is None:
        return (None,) * 6
    saved = ctx.saved_tensors  # activation checkpointing unpacks them only once
    d_q, d_k, d_v, d_bias = backward(d_out, *saved, ctx.scale)
    bias = saved[4]
    if bias is None:
        return d_q, d_k, d_v, None, None, None
    # A softmax over one slot does not see a shift of it: what a kernel sums up is rounding.
    return d_q, d_k, d_v, None, torch.zeros_like(bias) if bias.shape[1] == 1 else d_bias, None


_INPUTS = "Tensor q, Tensor k, Tensor v, Tensor? index, Tensor? bias"

register(
    Op(
        forward=Kernel(
            _NAME,
            f"({_INPUTS}, float scale) -> (Tensor out, Tensor lse)",
            modality_attention_reference,
            _fake,
            _flops,
        ),
        backward=Kernel(
            f"{_NAME}_backward",
            f"(Tensor d_out, {_INPUTS}, Tensor out, Tensor lse, float scale)"
            " -> (Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_bias)",
            modality_attention_backward_reference,
            _backward_fake,
            _backward_flops,
        ),
        save=_save,
        gradients=_gradients,
        autocast=_autocast,
    )
)
