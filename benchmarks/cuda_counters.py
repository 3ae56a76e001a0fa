"""What the CUDA kernels ask of memory and of a multiprocessor at the stages of EGFormer-B0 (512x512, four modalities,
keep 3, 2, 1, 1, batch 1), counted where the tests execute them thread by thread on the CPU (csrc/testing).

By kernel: 32-byte sectors of global memory that its warps request, beside two floors: `once`, every operand moved one
time, and `floor`, which lets attention read keys and values once for each tile of queries, and queries once for each
tile of keys (a GPU serves those from its L2 cache); further passes over the banks of shared memory, barriers, products
of tensor cores (16x8x16), and shared memory of a block. Counted are the accesses of tokens and of tiles; single values
(scores, index, bias, lse, partial sums that are added one by one) are plain accesses that the layer does not see.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.cuda_sources import cuda_on_cpu, digest, simt_build
from benchmarks.ops_cases import Stage, dropping_stages
from benchmarks.registry import Unavailable, case

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COUNTED = ("loads", "load_sectors", "stores", "store_sectors", "shared_requests", "bank_conflicts")
COUNTED += ("barriers", "matrix_products", "shared_bytes", "blocks")
TILE = 64  # rows of attention's tiles of queries, and of the tiles of keys that a block owns, for D = 32
Floors = dict[str, tuple[float, float]]  # by kernel: bytes once, bytes with what tiles read again


def aligned(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Random values at an address that a sector starts at, as in a GPU's memory."""
    return cuda_on_cpu.unwritten(shape, dtype).copy_(torch.randn(shape))


def score(s: Stage, dtype: torch.dtype) -> Floors:
    hidden = max(8, s.channels // 4)
    x = aligned((s.batch, s.modalities, s.tokens, s.channels), dtype)
    weights = [aligned(shape, dtype) for shape in ((hidden, s.channels), (hidden,), (hidden,), ())]
    value, pooled = cuda_on_cpu.modality_score(x, *weights)
    cuda_on_cpu.modality_score_backward(torch.ones_like(value), pooled, *weights)
    return {"modality_score: pool": (x.nbytes, x.nbytes)}


def drop(s: Stage, dtype: torch.dtype) -> Floors:
    x = aligned((s.batch, s.modalities, s.tokens, s.channels), dtype)
    values = torch.rand(x.shape[:2])
    survivors, fused, index, weight = cuda_on_cpu.modality_drop(x, values, s.keep)
    cuda_on_cpu.modality_drop_backward(survivors, fused, weight, x, values, index, weight)
    forward = survivors.nbytes * 2 + fused.nbytes
    backward = survivors.nbytes * 2 + fused.nbytes + x.nbytes
    return {"modality_drop": (forward, forward), "modality_drop: backward": (backward, backward)}


def attention(s: Stage, dtype: torch.dtype) -> Floors:
    dim = s.channels // s.heads
    q = aligned((s.batch, s.heads, s.tokens, dim), dtype)
    k, v = (aligned((s.batch, s.keep, s.heads, s.keys, dim), dtype) for _ in range(2))
    index, bias = torch.arange(s.keep).expand(s.batch, s.keep), torch.zeros(s.batch, s.keep)
    out, lse = cuda_on_cpu.modality_attention(q, k, v, index, bias, dim**-0.5)
    cuda_on_cpu.modality_attention_backward(out, q, k, v, index, bias, out, lse, dim**-0.5)
    one, both = q.nbytes, k.nbytes + v.nbytes
    query_tiles, key_tiles = -(-s.tokens // TILE), -(-s.keys // TILE)
    # Blocks that own keys are cut along the queries; they leave partial sums in float32.
    blocks = simt_build.module().counters()["modality_attention_d_keys"]["blocks"]
    parts = blocks // (s.batch * s.keep * s.heads * key_tiles)
    partial = parts * (k.numel() + v.numel()) * 4 if parts > 1 else 0
    floors = {
        "modality_attention": (2 * one + both, 2 * one + query_tiles * both),
        "modality_attention_row_terms": (2 * one, 2 * one),
        "modality_attention_d_queries": (3 * one + both, 3 * one + query_tiles * both),
        "modality_attention_d_keys": (
            2 * one + 2 * both,
            2 * one * s.keep * key_tiles + parts * both + (partial or both),
        ),
    }
    return {**floors, "modality_attention_sum_parts": (partial, partial)} if partial else floors


OPS: dict[str, Callable[[Stage, torch.dtype], Floors]] = {
    "modality_score": score,
    "modality_drop": drop,
    "modality_attention": attention,
}


def measure() -> Iterator[dict[str, Any]]:
    """One row for each stage, dtype and kernel."""
    simt = simt_build.module()
    for (op, run), s, (name, dtype) in itertools.product(OPS.items(), dropping_stages(512), DTYPES.items()):
        torch.manual_seed(0)
        simt.reset(count_memory=True)
        floors = run(s, dtype)
        where = {"op": op, "stage": s.stage + 1, "tokens": s.tokens, "channels": s.channels, "keep": s.keep}
        where |= {"modalities": s.modalities, "dtype": name}
        for kernel, counts in simt.counters().items():
            once, floor = (round(value / 32) or None for value in floors.get(kernel, (0, 0)))
            yield {**where, "kernel": kernel, **{key: counts[key] for key in COUNTED}, "once": once, "floor": floor}
    simt.reset()


@case
def cuda_counters() -> dict[str, Any]:
    if simt_build.cuda_include() is None:
        raise Unavailable("there are no CUDA headers (cuda_fp16.h); set CUDA_HOME or install the toolkit")
    return {"sources": digest(), "rows": list(measure())}
