"""modality_attention in Triton; the formulas are in egformer_fast/ops/modality_attention.py.

Forward: one program owns a block of queries of one (sample, head) and scans the slots; the tokens of a kept slot are
read in place through index, with an online softmax in base 2; a padded slot, or one of bias -inf, loads nothing.
Backward, in the kernels of _attention_backward.py, recomputes the probabilities from lse.
16-bit inputs are multiplied on tensor cores and added up in float32. float32 is multiplied in full precision, unless
torch's own switch (torch.set_float32_matmul_precision) allows TF32.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from egformer_fast.triton import _attention_backward as backward
from egformer_fast.triton import _autotune
from egformer_fast.triton._attention_configs import LARGEST_DIM, Config
from egformer_fast.triton._attention_math import LN2, load_slot, load_tokens, product
from egformer_fast.triton._common import INTERPRETED, launch, to_type


@triton.jit
def _attend(
    q, k, v, index, bias, out, lse, scale: tl.float64, heads, queries, keys, modalities, slots, blocks, q_b, q_h, q_n,
    q_d, k_b, k_m, k_h, k_n, k_d, v_b, v_m, v_h, v_n, v_d, D: tl.constexpr, D_PAD: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    dtype: tl.constexpr = lse.dtype.element_ty
    bh = (tl.program_id(0) // blocks).to(tl.int64)
    b, h = bh // heads, bh % heads
    n = (tl.program_id(0) % blocks).to(tl.int64) * QUERIES + tl.arange(0, QUERIES)
    d = tl.arange(0, D_PAD)
    t = tl.arange(0, KEYS).to(tl.int64)
    factor = to_type(scale, tl.float64) * 1.4426950408889634
    factor = factor.to(dtype)
    q_tile = load_tokens(q + b * q_b + h * q_h, n, queries, q_n, d, q_d, D, D_PAD, UPCAST)
    largest = tl.full((QUERIES,), float("-inf"), dtype)
    total = tl.zeros((QUERIES,), dtype)
    result = tl.zeros((QUERIES, D_PAD), dtype)
    for j in range(slots):
        m, prior, count = load_slot(index, bias, b, j, slots, modalities, keys, dtype)
        k_slot = k + b * k_b + m * k_m + h * k_h
        v_slot = v + b * v_b + m * v_m + h * v_h
        for first in range(0, count, KEYS):
            start = tl.cast(first, tl.int64)
            k_tile = load_tokens(k_slot + start * k_n, t, count - start, k_n, d, k_d, D, D_PAD, UPCAST)
            logit = product(q_tile, tl.trans(k_tile), PRECISION, dtype) * factor + prior
            logit = tl.where((t < count - start)[None, :], logit, float("-inf"))
            higher = tl.maximum(largest, tl.max(logit, 1))
            base = tl.where(higher == float("-inf"), 0.0, higher)
            p = tl.exp2(logit - base[:, None])
            fade = tl.exp2(largest - base)
            total = total * fade + tl.sum(p, 1)
            v_tile = load_tokens(v_slot + start * v_n, t, count - start, v_n, d, v_d, D, D_PAD, UPCAST)
            result = result * fade[:, None] + product(p.to(v_tile.dtype), v_tile, PRECISION, dtype)
            largest = higher
    some = total > 0
    # A sum that is NaN is not empty: it goes on as it is.
    empty = total == 0
    result = result / tl.where(empty, 1.0, total)[:, None]
    natural = (largest + tl.log2(tl.where(some, total, 1.0))) * LN2
    natural = tl.where(total == total, natural, float("nan"))
    rows = bh * queries + n
    inside = (n < queries)[:, None] & (d < D)[None, :]
    tl.store(out + rows[:, None] * D + d[None, :], result.to(out.dtype.element_ty), mask=inside)
    tl.store(lse + rows, natural, mask=n < queries)


def _shared(q: Tensor, k: Tensor, v: Tensor, index: Tensor | None, bias: Tensor | None) -> dict[str, Any]:
    """The keyword arguments that all kernels take."""
    batch, heads, queries, dim = q.shape
    if dim > LARGEST_DIM:
        raise ValueError(
            f"modality_attention: the triton backend takes D <= {LARGEST_DIM}, got {dim}; use_backend('reference')"
            " serves any D"
        )
    names = ("q_b", "q_h", "q_n", "q_d"), *(tuple(f"{t}_{i}" for i in "bmhnd") for t in "kv")
    strides = {n: s for t, name in zip((q, k, v), names, strict=True) for n, s in zip(name, t.stride(), strict=True)}
    return {
        "q": q, "k": k, "v": v, "bias": None if bias is None else bias.contiguous(),
        "index": None if index is None else index.contiguous(), **strides,
        "heads": heads, "queries": queries, "keys": k.shape[3], "modalities": k.shape[1],
        "slots": k.shape[1] if index is None else index.shape[1], "D": dim,
        "D_PAD": max(16, triton.next_power_of_2(dim)),
        "PRECISION": "tf32" if torch.get_float32_matmul_precision() != "highest" else "ieee",
        # The interpreter multiplies bfloat16 as if its bits were integers.
        "UPCAST": INTERPRETED and q.dtype == torch.bfloat16,
    }  # fmt: skip


def _blocks(kernel: str, shared: dict[str, Any], run: Callable[[Config], object]) -> Config:
    q, k, slots, dim, precision = (shared[name] for name in ("q", "k", "slots", "D_PAD", "PRECISION"))
    return _autotune.blocks(kernel, q, k, slots, dim, precision, run)


def _query_parts(programs: int, queries: int) -> int:
    """Into how many parts the scan over the queries is cut, where without parts there were so many programs."""
    return max(1, min(512 // max(1, programs), queries // 256))


def modality_attention(
    q: Tensor, k: Tensor, v: Tensor, index: Tensor | None, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    shared = _shared(q, k, v, index, bias)
    batch, heads, queries, _ = q.shape
    out = q.new_empty(q.shape)
    lse = q.new_empty(q.shape[:3], dtype=torch.float64 if q.dtype == torch.float64 else torch.float32)

    def attend(choice: Config) -> None:
        block, keys, warps, stages = choice
        blocks = math.ceil(queries / block)
        launch(
            _attend, batch * heads * blocks, **shared, out=out, lse=lse, scale=scale, blocks=blocks, QUERIES=block,
            KEYS=keys, num_warps=warps, num_stages=stages,
        )  # fmt: skip

    attend(_blocks("forward", shared, attend))
    return out, lse


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shared = _shared(q, k, v, index, bias)
    batch, modalities, heads, keys, dim = k.shape
    queries, slots = q.shape[2], shared["slots"]
    d_q = q.new_empty(q.shape)
    d_out, delta = d_out.contiguous(), lse.new_empty(lse.shape)
    launch(backward.row_dots, math.ceil(lse.numel() / 64), d_out, out, delta, lse.numel(), D=dim,
           D_PAD=shared["D_PAD"], ROWS=64)  # fmt: skip
    shared |= {"d_out": d_out, "lse": lse, "delta": delta, "scale": scale}

    def pull(choice: Config) -> tuple[Tensor | None, Tensor, Tensor]:
        block, key_block, warps, stages = choice
        blocks, key_blocks = math.ceil(queries / block), math.ceil(keys / key_block)
        partial = None if bias is None else lse.new_empty((batch, slots, heads, blocks))
        parts = _query_parts(batch * slots * heads * key_blocks, queries)
        sums = [t.new_empty(t.shape) if parts == 1 else lse.new_empty((parts, *t.shape)) for t in (k, v)]
        sizes = {"QUERIES": block, "KEYS": key_block, "num_warps": warps, "num_stages": stages}
        launch(
            backward.query_gradient, batch * heads * blocks, **shared, **sizes, d_q=d_q, partial=partial, blocks=blocks
        )  # fmt: skip
        launch(
            backward.key_gradients, batch * modalities * heads * key_blocks, **shared, **sizes, d_k=sums[0],
            d_v=sums[1], blocks=key_blocks, parts=parts, K_PAD=triton.next_power_of_2(max(1, slots)),
        )  # fmt: skip
        if parts > 1:
            sums = [part.sum(0).to(k.dtype) for part in sums]
        return partial, sums[0], sums[1]

    partial, d_k, d_v = pull(_blocks("backward", shared, pull))
    return d_q, d_k, d_v, lse.new_empty((0,)) if partial is None else partial.sum((2, 3))
