"""The CUDA kernels, executed on the CPU, under the names and signatures of the torch ops.

Outputs start as NaN (index: a number that no test expects), so that an element that a kernel does not write shows up.
"""

from __future__ import annotations

import math
import os

import numpy as np
import simt_build
import torch
from torch import Tensor

UNWRITTEN_INDEX = -77
# More of each test matrix: `make test-full`.
FULL = os.environ.get("EGFORMER_TEST_FULL") == "1"


def array(tensor: Tensor | None) -> np.ndarray | None:
    """A view; bfloat16 as its bits."""
    if tensor is None:
        return None
    tensor = tensor.detach()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def arrays(*tensors: Tensor | None) -> list[np.ndarray | None]:
    return [array(tensor) for tensor in tensors]


def dense(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def rows(tensor: Tensor | None) -> Tensor | None:
    """As the bindings do: channels dense, other strides free."""
    return tensor if tensor is None or tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def unwritten(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    size = dtype.itemsize
    storage = torch.full((math.prod(shape) + 32 // size,), UNWRITTEN_INDEX if size == 8 else math.nan, dtype=dtype)
    first = -storage.data_ptr() % 32 // size  # aligned to sectors, as GPU memory is
    return storage[first : first + math.prod(shape)].view(shape)


HEAD_DIMS = (16, 32, 64, 128)


def padded_heads(tensor: Tensor) -> Tensor:
    """As the bindings do: D filled up with zeros to a size that the kernels have, rows on 16-byte addresses."""
    dim, chunk = tensor.shape[-1], 16 // tensor.element_size()
    padded = next(size for size in HEAD_DIMS if size >= dim)
    aligned = all(s % chunk == 0 for s in tensor.stride()[:-1]) and tensor.data_ptr() % 16 == 0
    if padded == dim and aligned and tensor.stride(-1) == 1:
        return tensor
    return torch.nn.functional.pad(tensor, (0, padded - dim)).contiguous()


def modality_attention(
    q: Tensor, k: Tensor, v: Tensor, index: Tensor | None, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    wide = [padded_heads(t) for t in (q, k, v)]
    out, lse = unwritten(wide[0].shape, q.dtype), unwritten(q.shape[:3], torch.float32)
    simt_build.module().modality_attention(*arrays(*wide, dense(index), dense(bias)), scale, *arrays(out, lse))
    return out[..., : q.shape[3]], lse


def modality_attention_backward(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor | None,
    bias: Tensor | None,
    out: Tensor,
    lse: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    simt, dim = simt_build.module(), q.shape[3]
    grad, *wide = (padded_heads(t) for t in (d_out, q, k, v))
    d_wide = [unwritten(t.shape, t.dtype) for t in wide]
    d_bias = None if bias is None else unwritten(bias.shape, bias.dtype)
    slots = k.shape[1] if index is None else index.shape[1]
    scratch = unwritten((simt.modality_attention_scratch(*arrays(*wide[:2]), slots),), torch.float32)
    inputs = arrays(grad, *wide, dense(index), dense(bias), padded_heads(out).contiguous(), lse)
    simt.modality_attention_backward(*inputs, scale, *arrays(*d_wide, d_bias, scratch))
    d_q, d_k, d_v = (t[..., :dim] for t in d_wide)
    return d_q, d_k, d_v, d_bias


def modality_score(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, present: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    score = unwritten(x.shape[:2], torch.float32)
    pooled = unwritten((*x.shape[:2], x.shape[3]), torch.float32)
    inputs = (rows(x), *map(dense, (w1, b1, w2, b2, present)))
    simt_build.module().modality_score(*arrays(*inputs, score, pooled))
    return score, pooled


def modality_score_backward(
    d_score: Tensor, pooled: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, present: Tensor | None = None
) -> tuple[Tensor, ...]:
    outputs = [unwritten(t.shape, t.dtype) for t in (pooled, w1, b1, w2, b2)]
    inputs = map(dense, (d_score, pooled, w1, b1, w2, b2, present))
    simt_build.module().modality_score_backward(*arrays(*inputs, *outputs))
    return tuple(outputs)


def modality_drop(
    x: Tensor,
    score: Tensor,
    keep: int,
    present: Tensor | None = None,
    priority: Tensor | None = None,
    threshold: float = 0.0,
    per_batch: bool = False,
    gather: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, _, tokens, channels = x.shape
    survivors = unwritten((batch, keep, tokens, channels), x.dtype) if gather else None
    fused, index = unwritten((batch, tokens, channels), x.dtype), unwritten((batch, keep), torch.int64)
    weight = unwritten((batch, keep), torch.float32)
    x, score, present, priority = rows(x), dense(score), dense(present), dense(priority)
    arguments = (array(x), array(score), keep, array(present), array(priority), threshold, per_batch)
    simt_build.module().modality_drop(*arguments, *arrays(survivors, fused, index, weight))
    return (x.new_empty((batch, 0, tokens, channels)) if survivors is None else survivors), fused, index, weight


def modality_drop_backward(
    d_survivors: Tensor | None,
    d_fused: Tensor | None,
    d_weight: Tensor | None,
    x: Tensor,
    score: Tensor,
    index: Tensor,
    weight: Tensor,
) -> tuple[Tensor, Tensor]:
    d_x, d_score = unwritten(x.shape, x.dtype), unwritten(score.shape, torch.float32)
    inputs = (rows(d_survivors), rows(d_fused), dense(d_weight), rows(x), dense(score), dense(index), dense(weight))
    simt_build.module().modality_drop_backward(*arrays(*inputs, d_x, d_score))
    return d_x, d_score
