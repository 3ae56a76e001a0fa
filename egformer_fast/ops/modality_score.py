"""modality_score: how informative is each modality of a frame, judged from its own feature map alone.

    pooled[b,m] = mean over n of x[b,m,n]                float32 accumulation (float64 for float64)
    hidden      = gelu(W1 pooled + b1)                   exact (erf) gelu
    score[b,m]  = sigmoid(w2 . hidden + b2)              0 where absent, NaN where pooled or the logit is not finite

The Any-modal Scoring Module of EGFormer (arXiv 2505.14014): f = GAP(F), s = sigmoid(w . psi(f) + b). One pass over x.
The backward op works on pooled alone: d_x is d_pooled / N, the same for every token, and is never written out
(autograd receives it as an expanded view).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from egformer_fast.ops import _checks as checks
from egformer_fast.ops._backend import resolve
from egformer_fast.ops._register import Kernel, Op, register

_NAME = "modality_score"


def modality_score(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, present: Tensor | None = None) -> Tensor:
    """Score every modality from its own tokens (EGFormer's Any-modal Scoring Module).

    Args:
        x: (B, M, N, C) float32, float64, bfloat16 or float16; any strides; N and C >= 1.
        w1: (R, C), b1: (R,), w2: (R,), b2: (): the scoring MLP, all of one dtype: x's, or float32.
        present: (B, M) bool; False: the sensor is missing and its memory is not looked at. None: all present.

    Returns:
        score: (B, M) in (0, 1), float32 (float64 when x is float64). 0 where not present; NaN where the tokens are
        not finite: modality_drop never keeps such a modality. Absent and broken modalities get and give zero gradient.

    Raises:
        ValueError, TypeError: a shape, dtype or device is wrong; the message names the argument.
    """
    _check(x, w1, b1, w2, b2, present)
    return resolve(_NAME, x.device.type)(x, w1, b1, w2, b2, present)[0]


def _check(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, present: Tensor | None) -> None:
    checks.check_tensor(_NAME, "x", x, "(B, M, N, C)")
    checks.check_dtype(_NAME, "x", x, checks.FLOATING)
    batch, modalities, tokens, channels = x.shape
    if tokens == 0 or channels == 0:
        raise ValueError(f"{_NAME}: x must have N >= 1 and C >= 1, got {checks.describe(x)}")
    checks.check_tensor(_NAME, "w1", w1, "(R, C)")
    hidden = w1.shape[0]
    for name, value, dims, shape in (
        ("w1", w1, "(R, C)", (hidden, channels)),
        ("b1", b1, "(R,)", (hidden,)),
        ("w2", w2, "(R,)", (hidden,)),
        ("b2", b2, "()", ()),
    ):
        checks.check_tensor(_NAME, name, value, dims)
        checks.check_shape(_NAME, name, value, dims, shape)
        checks.check_dtype(_NAME, name, value, (x.dtype, torch.float32) if name == "w1" else (w1.dtype,))
        checks.check_device(_NAME, name, value, x)
    if x.dtype == torch.float64:
        checks.check_dtype(_NAME, "w1", w1, (torch.float64,))
    checks.check_mask(_NAME, "present", present, x, (batch, modalities))


def modality_score_reference(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, present: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The definition in plain PyTorch: (score (B, M), pooled (B, M, C)); pooled is what backward needs."""
    dtype = checks.accumulate_dtype(x.dtype)
    pooled = x.mean(2, dtype=dtype)
    if present is not None:
        pooled = torch.where(present.unsqueeze(-1), pooled, 0)
    _, logit = _mlp(pooled, w1.to(dtype), b1.to(dtype), w2.to(dtype), b2.to(dtype))
    score = torch.where(_finite(pooled, logit), logit.sigmoid(), torch.nan)
    if present is not None:
        score = torch.where(present, score, 0)
    return score, pooled


def _mlp(pooled: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> tuple[Tensor, Tensor]:
    before = F.linear(pooled, w1, b1)
    return before, F.gelu(before) @ w2 + b2


def _finite(pooled: Tensor, logit: Tensor) -> Tensor:
    return pooled.isfinite().all(-1) & logit.isfinite()


def modality_score_backward_reference(
    d_score: Tensor, pooled: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, present: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(d_pooled (B, M, C), d_w1, d_b1, d_w2, d_b2). Masks come before the arithmetic: NaN times 0 is NaN."""
    dtype = pooled.dtype
    v1, c1, v2, c2 = (w.to(dtype) for w in (w1, b1, w2, b2))
    _, logit = _mlp(pooled, v1, c1, v2, c2)
    alive = _finite(pooled, logit) if present is None else _finite(pooled, logit) & present
    pooled = torch.where(alive.unsqueeze(-1), pooled, 0)
    before, logit = _mlp(pooled, v1, c1, v2, c2)
    score = logit.sigmoid()
    d_logit = torch.where(alive, d_score * (score * (1 - score)), 0)
    d_before = torch.ops.aten.gelu_backward(d_logit.unsqueeze(-1) * v2, before)
    d_pooled = torch.where(alive.unsqueeze(-1), d_before @ v1, 0)
    d_w1 = torch.einsum("bmr,bmc->rc", d_before, pooled)
    d_w2 = torch.einsum("bm,bmr->r", d_logit, F.gelu(before))
    return d_pooled, d_w1.to(w1), d_before.sum((0, 1)).to(b1), d_w2.to(w2), d_logit.sum().to(b2)


def _fake(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, present: Tensor | None) -> Any:
    batch, modalities, _, channels = x.shape
    dtype = checks.accumulate_dtype(x.dtype)
    return x.new_empty((batch, modalities), dtype=dtype), x.new_empty((batch, modalities, channels), dtype=dtype)


def _backward_fake(
    d_score: Tensor, pooled: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, present: Tensor | None
) -> Any:
    like = [w.new_empty(w.shape) for w in (w1, b1, w2, b2)]
    return pooled.new_empty(pooled.shape), *like


def _flops(x: Any, w1: Any, *args: Any, **kwargs: Any) -> int:
    """Multiply-adds of the MLP, times two; the mean has additions only."""
    return 2 * x[0] * x[1] * (w1[0] * w1[1] + w1[0])


def _backward_flops(d_score: Any, pooled: Any, w1: Any, *args: Any, **kwargs: Any) -> int:
    return 3 * _flops((*pooled[:2], 1, pooled[2]), w1)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    x, w1, b1, w2, b2, present = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], w1, b1, w2, b2, present)
    ctx.x_shape, ctx.x_dtype = x.shape, x.dtype


def _gradients(ctx: Any, backward: Any, d_score: Tensor | None, _: None) -> Any:
    if d_score is None:
        return (None,) * 6
    d_pooled, d_w1, d_b1, d_w2, d_b2 = backward(d_score, *ctx.saved_tensors)
    d_token = (d_pooled / ctx.x_shape[2]).to(ctx.x_dtype)
    return d_token.unsqueeze(2).expand(ctx.x_shape), d_w1, d_b1, d_w2, d_b2, None


_WEIGHTS = "Tensor w1, Tensor b1, Tensor w2, Tensor b2, Tensor? present"

register(
    Op(
        forward=Kernel(
            _NAME,
            f"(Tensor x, {_WEIGHTS}) -> (Tensor score, Tensor pooled)",
            modality_score_reference,
            _fake,
            _flops,
        ),
        backward=Kernel(
            f"{_NAME}_backward",
            f"(Tensor d_score, Tensor pooled, {_WEIGHTS})"
            " -> (Tensor d_pooled, Tensor d_w1, Tensor d_b1, Tensor d_w2, Tensor d_b2)",
            modality_score_backward_reference,
            _backward_fake,
            _backward_flops,
        ),
        save=_save,
        gradients=_gradients,
    )
)
