"""Runner: a model, the frames to score it on, and how; every protocol goes over the frames by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from egformer_fast.train.inference import (
    TTA_VIEWS,
    EvalDataset,
    Sample,
    Segmented,
    Sensors,
    batches,
    check_classes,
    evaluation_mode,
    segment,
)
from egformer_fast.train.metrics import confusion


class Step(NamedTuple):
    """A batch of B frames.

    numbers: theirs in the data set. sample: collated. inputs, present (B, M) bool: see Sensors.select. degraded: (B, M)
    bool on the CPU, usable modalities that are known to fail.
    """

    numbers: list[int]
    sample: Sample
    inputs: dict[str, Tensor]
    present: Tensor
    degraded: Tensor


@dataclass
class Runner:
    """Arguments, and what they raise, as in evaluate.evaluate. The model goes to the device."""

    model: nn.Module
    dataset: EvalDataset
    batch_size: int = 8
    device: str | torch.device | None = None
    indices: Sequence[int] | None = None
    keep: Sequence[int] | None = None
    missing: Sequence[str] = ()
    tta: str = "none"
    workers: int = 0
    progress: bool = False
    sensors: Sensors = field(init=False)

    def __post_init__(self) -> None:
        if self.tta not in TTA_VIEWS:
            raise ValueError(f"tta: found {self.tta!r}, wanted one of {list(TTA_VIEWS)}")
        check_classes(self.model, self.dataset)
        self.sensors = Sensors(self.model, self.dataset, self.missing)
        self._device = next(self.model.parameters()).device if self.device is None else torch.device(self.device)
        self.model.to(self._device)

    @property
    def numbers(self) -> list[int]:
        """The frames to score, in order."""
        return list(range(len(self.dataset)) if self.indices is None else self.indices)

    def steps(self, title: str = "eval") -> Iterator[Step]:
        """All frames once, under a progress bar of that title."""
        from tqdm import tqdm

        numbers, done = self.numbers, 0
        with tqdm(total=len(numbers), unit="frame", desc=title, disable=not self.progress, leave=False) as bar:
            for sample in batches(self.dataset, self.indices, self.batch_size, self.workers):
                inputs, present = self.sensors.select(sample, self._device)
                degraded = self.sensors.degraded(sample) & present.cpu()
                yield Step(numbers[done : done + len(present)], sample, inputs, present, degraded)
                done += len(present)
                bar.update(len(present))

    def given(self, step: Step, names: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        """(inputs, present) of a batch with these modalities alone, as for a model without the others."""
        return {name: step.inputs[name] for name in names}, step.present & self.sensors.mask(names, self._device)

    def segment(self, inputs: dict[str, Tensor], present: Tensor, scores: Sequence[Tensor] | None = None) -> Segmented:
        """As inference.segment, in evaluation mode."""
        angles, ignored = self.sensors.angles, self.dataset.ignore_index
        # Around each batch alone: a caller that stops half-way must not leave gradients switched off.
        with evaluation_mode(self.model):
            return segment(self.model, inputs, present, self.keep, self.tta, ignored, angles, scores)

    def count(self, result: Segmented, sample: Sample) -> Tensor:
        """Confusion matrices of the frames, (B, num_classes, num_classes + 1)."""
        return confusion(result.prediction, sample["label"], len(self.dataset.classes), self.dataset.ignore_index)

    @property
    def settings(self) -> dict[str, Any]:
        """What a report says of how it was made."""
        keep = self.keep or self.model.keep
        return {"keep": list(keep), "missing": list(self.missing), "tta": self.tta}  # type: ignore[arg-type]
