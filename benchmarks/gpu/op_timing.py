"""The three ops at the stage shapes of EGFormer-B0 on DELIVER (four sensors, keep 3, 2, 1, 1), all implementations.

Stage i has as many modalities as stage i - 1 has kept: (M, K) = (4, 3), (3, 2), (2, 1), (1, 1). Each implementation is
compared with the reference first (agree.py) and timed only when it agrees; those that do take turns. Achieved rates are
the bytes or FLOPs of an ideal kernel (benchmarks/ops_cases.py) over the median time, and their share of the ceilings
of device.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.agree import disagreement, gradients_of, outputs_of
from benchmarks.gpu.baselines import Implementation, compiler, implementations
from benchmarks.gpu.device import clock, host_seconds, peak_bytes, synchronize
from benchmarks.gpu.part import Part
from benchmarks.ops import WAYS
from benchmarks.ops_cases import OPS, Case, Stage, Work, dropping_stages
from benchmarks.timing import alternate
from egformer_fast import use_backend

GRID = ((torch.bfloat16, 1024, 1), (torch.bfloat16, 512, 1), (torch.bfloat16, 1024, 4), (torch.float32, 1024, 1))
NAMES = {  # of outputs, then of the inputs that gradients are of
    "modality_score": (("score",), ("x", "w1", "b1", "w2", "b2")),
    "modality_drop": (("survivors", "fused"), ("x", "score")),
    "modality_attention": (("out",), ("q", "k", "v", "bias")),
}


def stages(tiny: bool) -> Iterator[tuple[torch.dtype, Stage]]:
    """The places, the most wanted ones first; tiny: one a dtype."""
    half, single = torch.bfloat16, torch.float32
    grid = ((half, 128, 2), (single, 128, 2)) if tiny else GRID
    for dtype, size, batch in grid:
        for stage in dropping_stages(size, batch):
            if not tiny or stage.stage == (0 if dtype == half else 2):
                yield dtype, stage


def place(dtype: torch.dtype, stage: Stage) -> dict[str, Any]:
    return {"dtype": str(dtype).removeprefix("torch."), **asdict(stage)}


def compile_only(op: str, device: str, places: list[tuple[torch.dtype, Stage]]) -> None:
    """Run what torch.compile and Triton compile once, so that a later process finds it in their caches."""
    for dtype, stage in places:
        case = OPS[op][0](stage, device, dtype)
        for name, implementation in implementations(op, case, device).items():
            try:
                for way in WAYS.values():
                    way(implementation.call, case.inputs)()
                synchronize(device)
            except Exception as error:  # the timing run meets it again and records it
                print(f"{op} {place(dtype, stage)} {name}: {error!r}"[:500])


class Checker:
    """What one case's implementations are compared with: the reference in float64, and the eager baseline."""

    def __init__(self, op: str, case: Case, eager: Implementation) -> None:
        self.op, self.case = op, case
        self.inputs64 = [t.double() for t in case.inputs]
        self.upstream: list[Tensor] = []
        self.known: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
        self.eager = eager

    def results(self, call: Callable[..., Any], what: str, inputs: list[Tensor]) -> list[Tensor]:
        if what == "forward":
            return outputs_of(call, inputs)
        return gradients_of(call, inputs, self.upstream)

    def complaint(self, implementation: Implementation, what: str) -> str | None:
        if what not in self.known:
            with use_backend("reference"):
                if not self.upstream:
                    self.upstream = [torch.randn_like(t) for t in outputs_of(self.case.ours, self.case.inputs)]
                exact = self.results(self.case.ours, what, self.inputs64)
            self.known[what] = exact, self.results(self.eager.call, what, self.case.inputs)
        exact, plain = self.known[what]
        inputs = self.inputs64 if implementation.kind == "eager" else self.case.inputs
        got = self.results(implementation.call, what, inputs)
        return disagreement(implementation.kind, got, exact, plain, NAMES[self.op][what != "forward"])


def achieved(work: Work, seconds: float, rates: dict[str, float], dtype: str) -> dict[str, float]:
    """Bytes and FLOPs a second, and their shares of the measured ceilings."""
    found = {"bytes_per_s": work.moved / seconds, "of_copy": work.moved / seconds / rates["copy"]}
    if work.flops:
        rate = work.flops / seconds
        found |= {"flops_per_s": rate, "of_gemm": rate / rates[f"gemm {dtype}"]}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def usable(part: Part, where: dict[str, Any], case: Case, checker: Checker, what: str) -> dict[str, Callable[[], None]]:
    """The implementations that agree with the reference, warm; the failures of the others are in the part."""
    way = WAYS[what]
    found = {}
    for name, implementation in implementations(checker.op, case, part.device).items():
        if name in part.data["lost"]:
            continue
        part.begin(where, name, implementation.kind == "ours")
        try:
            problem = checker.complaint(implementation, what)
            if problem is None:
                found[name] = way(implementation.call, case.inputs)
                found[name]()
                synchronize(part.device)
                continue
        except Exception as error:  # whatever an implementation raises, the others go on
            found.pop(name, None)
            problem = error
        part.fail({**where, "what": what}, name, problem, implementation.kind == "ours")
    return found


def measure(part: Part, op: str, dtype: torch.dtype, stage: Stage, rates: dict[str, float], timer: Any) -> None:
    """Both ways at one place: two rows."""
    where = place(dtype, stage)
    part.begin(where)
    case = OPS[op][0](stage, part.device, dtype)
    checker = Checker(op, case, implementations(op, case, part.device)["eager"])
    rows = []
    for what, work in (("forward", case.forward), ("forward + backward", case.both)):
        runs = usable(part, where, case, checker, what)
        part.begin(where)
        timings = (
            alternate(runs, rounds=3 if part.tiny else 15, warmup=1 if part.tiny else 3, clock=timer) if runs else {}
        )
        for name, run in runs.items():
            timings[name]["host_s"] = host_seconds(run, part.device)
            timings[name]["peak_bytes"] = peak_bytes(run, part.device)
            timings[name].update(achieved(work, timings[name]["median_s"], rates, where["dtype"]))
        rows.append({"op": op, "what": what, **where, "moved": work.moved, "flops": work.flops, "timings": timings})
    part.add(rows)


def run(part: Part, op: str, rates: dict[str, float]) -> int:
    """All places of one op, until the time is up."""
    torch.manual_seed(0)
    part.data.update({"op": op, "rates": rates, "torch_compile": compiler(part.device)})
    timer = clock(part.device)
    for dtype, stage in stages(part.tiny):
        part.attempt(place(dtype, stage), functools.partial(measure, part, op, dtype, stage, rates, timer))
    return part.finish()
