"""Bytes that the Triton kernels load and store, counted, against the bytes that they cannot do without.

The kernels run in Triton's interpreter with the block sizes of a GPU (`blocks_of`), and every load and store that the
interpreter executes is counted by kernel and argument: unmasked lanes only, so what a padded or dropped slot does not
load costs nothing. Nothing here is a time, and a cache is not modelled: a byte loaded twice counts twice.

    floor  each input that is needed read once, each output written once
    bound  attention: the floor, but K and V once for each block of queries (as flash attention does, with the kernel's
           own block size); its backward: also Q, d_out, lse and delta once for each block of keys. Else the floor.

Shapes: four sensors of DELIVER, keep (3, 2, 1, 1), at MiT-B0's stages, batch 1. The interpreter needs milliseconds for
a tile, so N is scaled down: to TOKENS tokens, and QUERIES queries of attention (`tokens_run`); channels, heads, slots
and pooled keys are those of the whole map. Tiles and blocks of queries are alike and each loads the same, so the ratio
holds for the whole map, whose figures are under `whole_map` (of score, whose weights weigh less there, it is an upper
estimate).
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.ops_cases import Stage, dropping_stages
from benchmarks.registry import case

TOKENS, QUERIES = 1024, 512
SIZES = (512, 1024)
DTYPES = {"float32": torch.float32, "float16": torch.float16}
CHIP = "sm_90"  # whose blocks are run
CHIPS = ("sm_80", "sm_90", "sm_100", "gfx942")  # for whose blocks the bytes of the whole map are worked out

Counts = dict[tuple[str, str, str], int]  # (kernel, argument, "read" or "written") -> bytes


class _Counter:
    """The tensors of the kernel that runs, by address, and the bytes counted so far."""

    def __init__(self) -> None:
        self.counts: Counts = {}
        self._kernel = ""
        self._spans: list[tuple[int, int, str]] = []

    def enter(self, kernel: str, arguments: dict[str, Any]) -> None:
        self._kernel = kernel
        self._spans = []
        for name, value in arguments.items():
            if isinstance(value, Tensor) and value.numel():
                storage = value.untyped_storage()
                self._spans.append((storage.data_ptr(), storage.data_ptr() + storage.nbytes(), name))

    def count(self, what: str, addresses: Any, mask: Any, size: int) -> None:
        touched = addresses[mask]
        if touched.size == 0:
            return
        low, high = int(touched.min()), int(touched.max()) + size
        names = [name for first, last, name in self._spans if first <= low and high <= last]
        if not names:
            raise RuntimeError(f"{self._kernel}: {what} bytes {low} .. {high}, which lie in none of its arguments")
        key = (self._kernel, names[0], what)
        self.counts[key] = self.counts.get(key, 0) + size * touched.size


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what kernels load and store inside. Needs TRITON_INTERPRET=1 and tensors on the CPU."""
    import inspect

    import numpy as np
    from triton.runtime import interpreter

    counter = _Counter()
    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    load, store, run = builder.create_masked_load, builder.create_masked_store, executor.__call__

    def count(what: str, pointers: Any, mask: Any) -> None:
        size = pointers.get_element_ty().primitive_bitwidth // 8
        counter.count(what, *np.broadcast_arrays(pointers.data, mask.data.astype(bool)), size)

    def counted_load(self: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
        count("read", pointers, mask)
        return load(self, pointers, mask, *rest)

    def counted_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        count("written", pointers, mask)
        return store(self, pointers, value, mask, *rest)

    def counted_run(self: Any, *args: Any, **kwargs: Any) -> None:
        known = {name: value for name, value in kwargs.items() if name in self.arg_names}
        counter.enter(self.fn.__name__, inspect.getcallargs(self.fn, *args, **known))
        run(self, *args, **kwargs)

    builder.create_masked_load, builder.create_masked_store = counted_load, counted_store
    executor.__call__ = counted_run
    try:
        yield counter.counts
    finally:
        builder.create_masked_load, builder.create_masked_store, executor.__call__ = load, store, run


@dataclass(frozen=True)
class Run:
    """One op at one shape: `call` runs its kernels; floor and bound in bytes."""

    call: Callable[[], object]
    floor: int
    bound: int


def size_of(*tensors: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def score_runs(stage: Stage, dtype: torch.dtype, tokens: int) -> dict[str, Run]:
    from egformer_fast.triton.modality_score import modality_score, modality_score_backward

    hidden = max(8, stage.channels // 4)
    x = torch.zeros((stage.batch, stage.modalities, tokens, stage.channels), dtype=dtype)
    weights = [torch.zeros(s, dtype=dtype) for s in ((hidden, stage.channels), (hidden,), (hidden,), ())]
    score, pooled = torch.zeros(x.shape[:2]), torch.zeros((*x.shape[:2], stage.channels))
    forward = size_of(x, *weights, score, pooled)
    backward = size_of(score, pooled, *weights) + size_of(pooled, *weights)
    return {
        "forward": Run(lambda: modality_score(x, *weights, None), forward, forward),
        "backward": Run(lambda: modality_score_backward(score, pooled, *weights, None), backward, backward),
    }


def drop_runs(stage: Stage, dtype: torch.dtype, tokens: int) -> dict[str, Run]:
    from egformer_fast.triton.modality_drop import modality_drop, modality_drop_backward

    x = torch.zeros((stage.batch, stage.modalities, tokens, stage.channels), dtype=dtype)
    score = torch.rand(x.shape[:2])
    outputs = [torch.zeros_like(x[:, : stage.keep]), torch.zeros_like(x[:, 0])]
    index = score.topk(stage.keep).indices.sort(1).values
    weight = torch.full(index.shape, 1 / stage.keep)
    kept = size_of(x) * stage.keep // x.shape[1]
    forward = kept + size_of(score, *outputs, index, weight)
    backward = kept + size_of(*outputs, weight, score, index, weight) + size_of(x, score)
    arguments = (x, score, stage.keep, None, None, 0.0, False, True)
    gradients = (*outputs, torch.zeros_like(weight), x, score, index, weight)
    return {
        "forward": Run(lambda: modality_drop(*arguments), forward, forward),
        "backward": Run(lambda: modality_drop_backward(*gradients), backward, backward),
    }


def attention_runs(stage: Stage, dtype: torch.dtype, queries: int, index: Tensor | None = None) -> dict[str, Run]:
    """The survivors are slots 0 .. keep - 1, as in the model, unless `index` says which are held."""
    from egformer_fast.triton._attention_configs import config
    from egformer_fast.triton.modality_attention import modality_attention, modality_attention_backward

    dim, slots = stage.channels // stage.heads, stage.keep
    q = torch.zeros((stage.batch, stage.heads, queries, dim), dtype=dtype)
    k, v = (torch.zeros((stage.batch, slots, stage.heads, stage.keys, dim), dtype=dtype) for _ in range(2))
    index = torch.arange(slots).repeat(stage.batch, 1) if index is None else index
    bias, lse = torch.zeros(index.shape), torch.zeros(q.shape[:3])
    held = int((index >= 0).sum())
    slot = size_of(k[0, 0])  # one slot's keys of all heads; its values are as many bytes
    small = size_of(index, bias)
    block_forward, block_backward = (config(way, q.element_size(), dim)[0] for way in ("forward", "backward"))
    key_block = config("backward", q.element_size(), dim)[1]
    forward = size_of(q, q, lse) + small  # q, out
    blocks, backward_blocks = -(-queries // block_forward), -(-queries // block_backward)
    key_blocks = -(-stage.keys // key_block)
    gradients = size_of(q, q, q, q, lse) + small + size_of(k, v, bias)  # q, d_out, out, d_q; d_k, d_v, d_bias
    scanned = size_of(q[0], q[0], lse[0], lse[0])  # what a block of keys scans of its sample: q, d_out, lse, delta
    bound_backward = (
        size_of(q, q, lse)  # delta from out and d_out
        + size_of(q, q, lse, lse, q) + 2 * slot * held * backward_blocks  # d_q
        + scanned * held * key_blocks + 2 * slot * held + size_of(k, v)  # d_k and d_v
        + small + size_of(bias)
    )  # fmt: skip
    arguments = (q, k, v, index, bias)
    return {
        "forward": Run(
            lambda: modality_attention(*arguments, 0.1),
            forward + 2 * slot * held,
            forward + 2 * slot * held * blocks,
        ),
        "backward": Run(
            lambda: modality_attention_backward(q, *arguments, q, lse, 0.1),
            gradients + 2 * slot * held,
            bound_backward,
        ),
    }


def measure(run: Run) -> dict[str, Any]:
    """Bytes read and written by each kernel, and their sum over floor and bound."""
    with counting() as counts:
        run.call()
    kernels: dict[str, dict[str, int]] = {}
    for (kernel, _, what), size in counts.items():
        kernels.setdefault(kernel, {"read": 0, "written": 0})[what] += size
    total = sum(counts.values())
    ratios = {"over_floor": round(total / run.floor, 4), "over_bound": round(total / run.bound, 4)}
    return {"bytes": total, "floor": run.floor, "bound": run.bound, **ratios, "kernels": kernels}


OPS = {"modality_score": score_runs, "modality_drop": drop_runs, "modality_attention": attention_runs}


def rows() -> Iterator[dict[str, Any]]:
    from egformer_fast.triton._common import blocks_of

    stages = [stage for size in SIZES for stage in dropping_stages(size)]
    for stage, name, op in itertools.product(stages, DTYPES, OPS):
        tokens = min(stage.tokens, QUERIES if op == "modality_attention" else TOKENS)
        whole = {}
        for chip in CHIPS:
            with blocks_of(chip):
                whole[chip] = OPS[op](stage, DTYPES[name], stage.tokens)
        with blocks_of(CHIP):
            for what, run in OPS[op](stage, DTYPES[name], tokens).items():
                counted = measure(run)
                moved = {chip: round(runs[what].bound * counted["bytes"] / run.bound) for chip, runs in whole.items()}
                place = {"op": op, "what": what, "dtype": name}
                place |= {"size": stage.size, "stage": stage.stage, "tokens_run": tokens}
                yield {**place, **counted, "whole_map": {"floor": whole[CHIP][what].floor, "bytes": moved}}


@case
def triton_traffic() -> dict[str, Any]:
    """In a process of its own: Triton's interpreter is on or off for a whole process."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "benchmarks.triton_traffic"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed; it needs triton\n{done.stderr}")
    import triton

    stages = dropping_stages(SIZES[0])
    facts = {"triton": triton.__version__, "blocks_run": CHIP}
    facts |= {"modalities": [s.modalities for s in stages], "keep": [s.keep for s in stages]}
    return {**facts, "rows": json.loads(done.stdout)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(json.dumps(list(rows())))
