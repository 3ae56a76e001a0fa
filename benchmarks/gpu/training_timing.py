"""A training step of the whole model: EGFormer-B0, four sensors, 25 classes, keep 3, 2, 1, 1.

A step is forward, cross entropy, backward and AdamW, bfloat16 by autocast, the variants taking turns, each with a model
and an optimizer of its own. "deterministic" is a step under `train.deterministic`. Every variant's gradient, of all
parameters as one vector, is compared with the reference backend's in float32 before it is timed: distance <= twice that
of the reference in bfloat16. Two such gradients of a deterministic variant must be equal to the bit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.baselines import usable_backends
from benchmarks.gpu.device import clock, host_seconds, peak_bytes
from benchmarks.gpu.model_timing import CLASSES, KEEPS, frame, model_of
from benchmarks.gpu.part import Part
from benchmarks.timing import alternate
from egformer_fast import use_backend
from egformer_fast.train.determinism import determinism
from egformer_fast.train.losses import SegmentationLoss


@dataclass
class Step:
    """One variant."""

    backend: str
    deterministic: bool
    device: str
    inputs: dict[str, Tensor]
    label: Tensor
    autocast: bool = True
    loss: SegmentationLoss = field(default_factory=SegmentationLoss)

    def __post_init__(self) -> None:
        self.model = model_of(torch.float32, self.device, fuse=False).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)

    def backward(self) -> None:
        kind = torch.device(self.device).type
        torch.manual_seed(0)  # stochastic depth
        with use_backend(self.backend), determinism(self.deterministic):
            with torch.autocast(kind, torch.bfloat16, enabled=self.autocast):
                logits = self.model(self.inputs, keep=KEEPS[0])
            self.loss(logits, self.label).backward()

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.backward()
        self.optimizer.step()

    def gradient(self) -> Tensor:
        """Of all parameters, as one vector."""
        self.optimizer.zero_grad()
        self.backward()
        parameters = self.model.parameters()
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])


def places(tiny: bool) -> Iterator[dict[str, int]]:
    for size, batch in ((64, 2),) if tiny else ((1024, 8), (512, 4)):
        yield {"size": size, "batch": batch}


def complaint(step: Step, exact: Tensor, plain: Tensor) -> str | None:
    """What is wrong with the gradient of a step, in one sentence; or None."""
    got = step.gradient()
    distance, bound = (float((one - exact).norm() / exact.norm()) for one in (got, plain))
    if not distance <= 2 * bound:
        return f"disagrees with the reference in its gradient: distance {distance:.3e}, wanted at most {2 * bound:.3e}"
    if step.deterministic and not torch.equal(got, step.gradient()):
        return "gives another gradient when asked again"
    return None


def measure(part: Part, where: dict[str, int]) -> None:
    part.begin(where)
    inputs = frame(where["size"], where["batch"], torch.float32, part.device)
    label = torch.randint(CLASSES, (where["batch"], where["size"], where["size"]))
    common: dict[str, Any] = {"device": part.device, "inputs": inputs, "label": label.to(part.device)}
    exact = Step("reference", True, autocast=False, **common).gradient()
    plain = Step("reference", False, **common).gradient()
    steps = {}
    for backend in dict.fromkeys(["reference", *usable_backends(part.device)]):
        for deterministic in (False, True):
            name = f"{backend} deterministic" if deterministic else backend
            if name in part.data["lost"]:
                continue
            ours = backend != "reference"
            part.begin(where, name, ours)
            try:
                step = Step(backend, deterministic, **common)
                problem: str | Exception | None = complaint(step, exact, plain)
                if problem is None:
                    print(f"  {where}: {name} agrees", flush=True)
                    steps[name] = step
                    continue
            except Exception as error:  # whatever a variant raises, the others go on
                problem = error
            part.fail(where, name, problem, ours or deterministic)
    part.begin(where)
    part.add([{**where, "timings": timed(part, steps)}])


def timed(part: Part, steps: dict[str, Step]) -> dict[str, dict[str, Any]]:
    """Seconds of a step by DeviceClock, and memory beyond weights and optimizer; host_s: of enqueuing it."""
    rounds, warmup = (3, 1) if part.tiny else (9, 2)
    timings = alternate(steps, rounds, warmup, clock(part.device)) if steps else {}
    for name, step in steps.items():
        timings[name]["host_s"] = host_seconds(step, part.device)
        timings[name]["peak_bytes"] = peak_bytes(step, part.device)
    return timings


def run(part: Part) -> int:
    """All places, until the time is up."""
    for where in places(part.tiny):
        part.attempt(where, functools.partial(measure, part, where))
    return part.finish()
