"""The three ops on the CPU against the baselines of ops_cases.py, at all its stage shapes.

A baseline runs in eager mode and under torch.compile (dynamic=True: one compile serves all shapes of a rank); the
faster of the two in a case is what counts. Attention's backward on several threads has eager mode alone: what torch
2.13 compiles for it corrupts the heap at MiT-B0, 512, stage 2, one kept; on one thread it was slower than eager mode
in nearly all cases.

Floor of forward: for score, bytes read over the measured rate of copying (read and written bytes a second); for drop,
bytes read and written over the rate of copying into a new tensor, which drop returns too; for attention, FLOPs over the
measured rate of a large float32 matrix product. All at the same number of threads. Freed memory is kept by the process,
so that no turn pays for pages (keep_freed_memory).
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import statistics
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from benchmarks.ops_cases import OPS, Call, Stage, stages
from benchmarks.registry import case
from benchmarks.timing import alternate, wall_clock
from egformer_fast import use_backend

TURN = 0.003  # seconds of a variant's turn, at least
CASE = 0.5  # seconds of a case, about; never fewer than 5 rounds, but 3 where a call takes longer than SLOW
SLOW = 0.25
FLOORS = {"modality_score": "copy", "modality_drop": "copy to new", "modality_attention": "gemm"}


def both_ways(function: Call, inputs: list[Tensor]) -> Callable[[], None]:
    """Forward, and backward from dense gradients of all outputs."""
    leaves = [t.clone().requires_grad_() for t in inputs]
    outputs = function(*leaves)
    several = isinstance(outputs, tuple)
    gradients = [torch.randn_like(t) for t in (outputs if several else (outputs,))]

    def run() -> None:
        outputs = function(*leaves)
        torch.autograd.backward(outputs if several else (outputs,), gradients)
        for leaf in leaves:
            leaf.grad = None

    return run


def forward(function: Call, inputs: list[Tensor]) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            function(*inputs)

    return run


WAYS = {"forward": forward, "forward + backward": both_ways}


def turns(variants: dict[str, Callable[[], None]]) -> tuple[dict[str, Callable[[], None]], int, int]:
    """The variants, warm and repeated until a turn takes some milliseconds; (repeated variants, repeats, rounds)."""
    for run in variants.values():
        run()
    once = wall_clock(next(iter(variants.values())))
    if once < SLOW:
        for run in variants.values():
            run()
    repeats = max(1, min(50, math.ceil(TURN / once)))

    def repeated(run: Callable[[], None]) -> Callable[[], None]:
        return lambda: [run() for _ in range(repeats)] and None

    rounds = 3 if once > SLOW else max(5, min(9, math.floor(CASE / (repeats * once * len(variants)))))
    return {name: repeated(run) for name, run in variants.items()}, repeats, rounds


@functools.cache
def compiled(plain: Call) -> Call:
    return torch.compile(plain, dynamic=True)


def measure(op: str, s: Stage, rates: dict[str, float]) -> list[dict[str, Any]]:
    case = OPS[op][0](s)
    rows = []
    for what, way in WAYS.items():
        plain = {
            "eager": lambda *a: case.plain(*a, *case.constants),
            "compile": lambda *a: compiled(case.plain)(*a, *case.constants),
        }
        if (op, what) == ("modality_attention", "forward + backward") and torch.get_num_threads() > 1:
            del plain["compile"]
        with use_backend("cpu"):
            ways = {"cpu": way(case.ours, case.inputs)} | {n: way(run, case.inputs) for n, run in plain.items()}
            variants, repeats, rounds = turns(ways)
            timings = alternate(variants, rounds=rounds, warmup=0)
        milliseconds = {
            name: [
                float(f"{1000 * value / repeats:.4g}")
                for value in (t["quartiles_s"][0], t["median_s"], t["quartiles_s"][1])
            ]
            for name, t in timings.items()
        }
        ours_ms = milliseconds["cpu"][1]
        row: dict[str, Any] = {"what": what, **vars(s), "quartiles_ms": milliseconds, "rounds": rounds}
        row["speedup"] = round(min(milliseconds[name][1] for name in plain) / ours_ms, 3)
        if what == "forward":
            work = case.forward.flops or case.forward.moved
            row["over_floor"] = round(ours_ms / (1000 * work / rates[FLOORS[op]]), 3)
        rows.append(row)
    return rows


def ceilings() -> dict[str, float]:
    """Measured rates: bytes a second of copying and of copying into a new tensor, float32 FLOPs a second."""

    def best(run: Callable[[], Any], times: int = 7) -> float:
        return min(wall_clock(run) for _ in range(times))

    source = torch.randn(1 << 26)
    target = torch.empty_like(source)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return {
        "copy": 8.0 * source.numel() / best(lambda: target.copy_(source)),
        "copy to new": 8.0 * source.numel() / best(source.clone),
        "gemm": 2.0 * 1024**3 / best(lambda: a @ b),
    }


def summary(rows: list[dict[str, Any]], what: str) -> dict[str, Any]:
    """Geometric mean and smallest speedup; distance from the floor at the two largest shapes."""
    chosen = [row for row in rows if row["what"] == what]
    slowest = min(chosen, key=lambda row: row["speedup"])
    result = {
        "cases": len(chosen),
        "geometric_mean": round(statistics.geometric_mean(row["speedup"] for row in chosen), 3),
        "smallest": slowest["speedup"],
        "smallest_at": {field.name: slowest[field.name] for field in fields(Stage)},
        "below_0.9": sum(row["speedup"] < 0.9 for row in chosen),
    }
    if what == "forward":
        by_size: dict[int, list[float]] = {}
        for row in chosen:
            stage = Stage(**{field.name: row[field.name] for field in fields(Stage)})
            by_size.setdefault(stage.batch * stage.tokens * stage.channels, []).append(row["over_floor"])
        largest = sorted(by_size)[-2:]
        result["over_floor_largest"] = [round(statistics.geometric_mean(by_size[size]), 3) for size in largest]
    return result


def keep_freed_memory() -> None:
    """Have glibc hand freed memory out again instead of returning it to the system (all variants alike).

    Otherwise pages of large results are mapped anew in some turns and not in others, which costs more than the ops do.
    """
    libc = ctypes.CDLL(None)
    for option, value in ((-4, 0), (-1, 2**31 - 1)):  # M_MMAP_MAX: no mappings; M_TRIM_THRESHOLD: keep the heap
        if not getattr(libc, "mallopt", lambda *_: 0)(option, value):
            print("  mallopt is not available: large results may be mapped anew in every turn")


def run_op(op: str, threads: int, chosen: tuple[Stage, ...] | None = None) -> dict[str, Any]:
    """One op at all stage shapes, or at the chosen ones."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    keep_freed_memory()
    torch._dynamo.config.recompile_limit = 64
    rates = ceilings()
    rows: list[dict[str, Any]] = []
    try:
        for number, stage in enumerate(chosen or stages(OPS[op][1])):
            rows += measure(op, stage, rates)
            print(f"  {number + 1}: {stage}, {rows[-2]['speedup']}x, {rows[-1]['speedup']}x", flush=True)
    finally:
        torch.set_num_threads(before)
    summaries = {what: summary(rows, what) for what in WAYS}
    return {"op": op, "threads": threads, "rates": rates, "summary": summaries, "rows": rows}


def register_cases() -> None:
    """One case an op and a number of threads: modality_score_1_thread, ..., modality_attention_2_threads."""
    for op, threads in itertools.product(OPS, (1, 2)):
        run = functools.partial(run_op, op, threads)
        run.__name__ = f"{op}_{threads}_thread" + "s" * (threads > 1)  # type: ignore[attr-defined]
        case(run)


register_cases()
