"""The backward kernels of modality_attention: deterministic, no atomics.

    P = 2^(logit - lse)     dP = d_out v^T     dS = P * (dP - delta)     delta = rowsum(d_out * out)
    d_q = scale * dS k      d_k = scale * dS^T q      d_v = P^T d_out      d_bias = sums of dS

`query_gradient`: a program owns a block of queries, scans the slots as forward does, and leaves one partial sum of
d_bias per slot. `key_gradients`: a program owns a block of one modality's keys and scans the queries, once, also where
several slots hold the modality: they share logits and dP and differ in bias alone, so that the sum of their
probabilities is that of one slot with bias logsumexp. Keys are few (a pooled map) where queries are many, so the
queries are cut into parts, each of which leaves its sums in memory, until a large GPU has programs enough.
"""

import triton
import triton.language as tl

from egformer_fast.triton._attention_math import load_slot, load_tokens, product
from egformer_fast.triton._common import to_type


@triton.jit
def row_dots(d_out, out, delta, rows, D: tl.constexpr, D_PAD: tl.constexpr, ROWS: tl.constexpr):
    dtype: tl.constexpr = delta.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    d = tl.arange(0, D_PAD)
    a = load_tokens(d_out, row, rows, D, d, 1, D, D_PAD, False).to(dtype)
    b = load_tokens(out, row, rows, D, d, 1, D, D_PAD, False).to(dtype)
    tl.store(delta + row, tl.sum(a * b, 1), mask=row < rows)


@triton.jit
def _load_lse(lse, rows, inside):
    """lse in base 2; +inf, which makes a probability 0, where there was nothing to attend to and beyond the end."""
    value = tl.load(lse + rows, mask=inside, other=float("inf")) * 1.4426950408889634
    return tl.where(value == float("-inf"), float("inf"), value)


@triton.jit
def query_gradient(
    q, k, v, index, bias, d_out, lse, delta, d_q, partial, scale: tl.float64, heads, queries, keys, modalities, slots,
    blocks, q_b, q_h, q_n, q_d, k_b, k_m, k_h, k_n, k_d, v_b, v_m, v_h, v_n, v_d, D: tl.constexpr,
    D_PAD: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    dtype: tl.constexpr = lse.dtype.element_ty
    block = tl.program_id(0) % blocks
    bh = (tl.program_id(0) // blocks).to(tl.int64)
    b, h = bh // heads, bh % heads
    n = block.to(tl.int64) * QUERIES + tl.arange(0, QUERIES)
    d = tl.arange(0, D_PAD)
    t = tl.arange(0, KEYS).to(tl.int64)
    factor = to_type(scale, dtype)
    rows = bh * queries + n
    q_tile = load_tokens(q + b * q_b + h * q_h, n, queries, q_n, d, q_d, D, D_PAD, UPCAST)
    pull = load_tokens(d_out + bh * queries * D, n, queries, D, d, 1, D, D_PAD, UPCAST)
    base = _load_lse(lse, rows, n < queries)
    mean = tl.load(delta + rows, mask=n < queries, other=0.0)
    result = tl.zeros((QUERIES, D_PAD), dtype)
    for j in range(slots):
        m, prior, count = load_slot(index, bias, b, j, slots, modalities, keys, dtype)
        k_slot = k + b * k_b + m * k_m + h * k_h
        v_slot = v + b * v_b + m * v_m + h * v_h
        sums = tl.zeros((QUERIES,), dtype)
        for first in range(0, count, KEYS):
            start = tl.cast(first, tl.int64)
            k_tile = load_tokens(k_slot + start * k_n, t, count - start, k_n, d, k_d, D, D_PAD, UPCAST)
            v_tile = load_tokens(v_slot + start * v_n, t, count - start, v_n, d, v_d, D, D_PAD, UPCAST)
            logit = product(q_tile, tl.trans(k_tile), PRECISION, dtype) * (factor * 1.4426950408889634) + prior
            p = tl.where((t < count - start)[None, :], tl.exp2(logit - base[:, None]), 0.0)
            slope = p * (product(pull, tl.trans(v_tile), PRECISION, dtype) - mean[:, None])
            sums += tl.sum(slope, 1)
            result += product(slope.to(k_tile.dtype), k_tile, PRECISION, dtype)
        if partial is not None:
            tl.store(partial + ((b * slots + j) * heads + h) * blocks + block, tl.sum(sums, 0))
    inside = (n < queries)[:, None] & (d < D)[None, :]
    tl.store(d_q + rows[:, None] * D + d[None, :], (result * factor).to(d_q.dtype.element_ty), mask=inside)


@triton.jit
def _prior_of(index, bias, b, m, slots, dtype: tl.constexpr, K_PAD: tl.constexpr):
    """logsumexp in base 2 of the biases of all slots that hold modality m: -inf where none does."""
    j = tl.arange(0, K_PAD)
    held = j == m if index is None else tl.load(index + b * slots + j, mask=j < slots, other=-1) == m
    prior = tl.zeros((K_PAD,), dtype)
    if bias is not None:
        prior = tl.load(bias + b * slots + j, mask=held & (j < slots), other=0.0).to(dtype) * 1.4426950408889634
    prior = tl.where(held, prior, float("-inf"))
    largest = tl.max(prior, 0)
    base = tl.where(largest == float("-inf"), 0.0, largest)
    total = tl.sum(tl.exp2(prior - base), 0)
    return tl.where(total == 0, float("-inf"), base + tl.log2(tl.where(total == 0, 1.0, total)))


@triton.jit
def key_gradients(
    q, k, v, index, bias, d_out, lse, delta, d_k, d_v, scale: tl.float64, heads, queries, keys, modalities, slots,
    blocks, q_b, q_h, q_n, q_d, k_b, k_m, k_h, k_n, k_d, v_b, v_m, v_h, v_n, v_d, D: tl.constexpr,
    D_PAD: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
    K_PAD: tl.constexpr,
):  # fmt: skip
    dtype: tl.constexpr = lse.dtype.element_ty
    bmh = (tl.program_id(0) // blocks).to(tl.int64)
    h, m, b = bmh % heads, bmh // heads % modalities, bmh // heads // modalities
    token = (tl.program_id(0) % blocks).to(tl.int64) * KEYS + tl.arange(0, KEYS)
    d = tl.arange(0, D_PAD)
    n = tl.arange(0, QUERIES).to(tl.int64)
    factor = to_type(scale, dtype)
    prior = _prior_of(index, bias, b, m, slots, dtype, K_PAD)
    # Nothing is loaded for a modality that no slot holds: its gradients are zeros.
    live = prior != float("-inf")
    tokens = tl.where(live, keys, 0)
    k_tile = load_tokens(k + b * k_b + m * k_m + h * k_h, token, tokens, k_n, d, k_d, D, D_PAD, UPCAST)
    v_tile = load_tokens(v + b * v_b + m * v_m + h * v_h, token, tokens, v_n, d, v_d, D, D_PAD, UPCAST)
    rows = (b * heads + h) * queries
    q_head = q + b * q_b + h * q_h
    key_sum = tl.zeros((KEYS, D_PAD), dtype)
    value_sum = tl.zeros((KEYS, D_PAD), dtype)
    part, parts = tl.program_id(1), tl.num_programs(1)
    tiles = tl.where(live, tl.cdiv(queries, QUERIES), 0)
    for first in range(tiles * part // parts * QUERIES, tiles * (part + 1) // parts * QUERIES, QUERIES):
        start = tl.cast(first, tl.int64)
        left = queries - start
        q_tile = load_tokens(q_head + start * q_n, n, left, q_n, d, q_d, D, D_PAD, UPCAST)
        pull = load_tokens(d_out + (rows + start) * D, n, left, D, d, 1, D, D_PAD, UPCAST)
        base = _load_lse(lse, rows + start + n, n < left)
        mean = tl.load(delta + rows + start + n, mask=n < left, other=0.0)
        logit = product(k_tile, tl.trans(q_tile), PRECISION, dtype) * (factor * 1.4426950408889634) + prior
        p = tl.exp2(logit - base[None, :])
        value_sum += product(p.to(pull.dtype), pull, PRECISION, dtype)
        slope = p * (product(v_tile, tl.trans(pull), PRECISION, dtype) - mean[None, :])
        key_sum += product(slope.to(q_tile.dtype), q_tile, PRECISION, dtype)
    inside = (token < keys)[:, None] & (d < D)[None, :]
    bmh += tl.program_id(1).to(tl.int64) * (tl.num_programs(0) // blocks)
    target = (bmh * keys + token)[:, None] * D + d[None, :]
    tl.store(d_k + target, (key_sum * factor).to(d_k.dtype.element_ty), mask=inside)
    tl.store(d_v + target, value_sum.to(d_v.dtype.element_ty), mask=inside)
