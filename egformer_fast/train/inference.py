"""From data set samples to predictions: batches of equal size, sensors matched by name, frames that no sensor sees.

The data set and the model may list their modalities in different orders, and the data set may have more of them: a
sample's `present` follows the data set, everything here after `Sensors.select` follows the model. A frame in which no
sensor is usable (present, and its input finite) is blind: the model is not asked, its prediction is the ignore index.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from egformer_fast.data.polarisation import signs
from egformer_fast.errors import DataError
from egformer_fast.models.inputs import all_finite

Sample = dict[str, Any]

# Each view is (quarter turns, mirrored afterwards); the first one is the frame as it is.
TTA_VIEWS: dict[str, list[tuple[int, bool]]] = {
    "none": [(0, False)],
    "flip": [(0, False), (0, True)],
    "dihedral": [(turns, mirrored) for mirrored in (False, True) for turns in range(4)],
}


class EvalDataset(Protocol):
    """What is asked of a data set here; FolderDataset has it."""

    name: str
    split: str
    modalities: dict[str, int]
    classes: list[str]
    ignore_index: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class Segmented:
    """Predictions for B frames; S modalities as the trace names them (early fusion has a single one, "stacked"), and as
    many stages as the trace has; a batch of blind frames has none of either.

    prediction: (B, H, W) int64, the ignore index in blind frames. blind: (B,) bool. present: (B, S) bool, who entered
    stage 1. score: (B, stages, S) float32, NaN where a modality was not scored. kept: (B, stages, S) bool. weight:
    (B, stages, S) float32, 0 where a modality was not kept. All on the CPU.
    """

    sensors: tuple[str, ...]
    prediction: Tensor
    blind: Tensor
    present: Tensor
    score: Tensor
    kept: Tensor
    weight: Tensor


class Sensors:
    """Picks a model's inputs out of a data set's batches.

    Args:
        model: has `modalities`, name -> channels.
        dataset: likewise; must have the model's modalities, except for those in `missing`.
        missing: names of modalities to withhold in every frame.

    Raises:
        DataError: the data set lacks a modality, or has it with another channel count.
        ValueError: `missing` names an unknown modality, or all of them.
    """

    def __init__(self, model: nn.Module, dataset: EvalDataset, missing: Sequence[str] = ()) -> None:
        wanted: dict[str, int] = dict(model.modalities)  # type: ignore[arg-type]
        check_modalities("missing", missing, list(wanted))
        self.names = list(wanted)
        self.given = [name for name in wanted if name not in missing]
        if not self.given:
            raise ValueError(f"missing: withholds all modalities of the model, {list(wanted)}")
        for name in self.given:
            found = dataset.modalities.get(name)
            if found is None:
                raise DataError(
                    f"the model takes modality {name!r}, which data set {dataset.name!r} does not have (it has"
                    f" {list(dataset.modalities)}); to do without it, declare it missing"
                )
            if found != wanted[name]:
                raise DataError(
                    f"modality {name!r} has {found} channel(s) in data set {dataset.name!r}, the model takes"
                    f" {wanted[name]}"
                )
        self.angles = [name for name in self.given if name in getattr(dataset, "angles", ())]
        self._columns = {name: list(dataset.modalities).index(name) for name in self.given}

    def select(self, batch: Sample, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
        """(inputs, present): given modalities only, and usable sensors (B, M) in the model's order."""
        inputs = {name: batch["inputs"][name].to(device) for name in self.given}
        present = torch.zeros(len(batch["present"]), len(self.names), dtype=torch.bool, device=device)
        for name, column in self._columns.items():
            finite = all_finite(inputs[name])
            present[:, self.names.index(name)] = batch["present"][:, column].to(device) & finite
        return inputs, present

    def degraded(self, batch: Sample) -> Tensor:
        """(B, M) bool in the model's order: who fails in a frame, as the data set says; none where it says nothing."""
        failing = torch.zeros(len(batch["present"]), len(self.names), dtype=torch.bool)
        if "degraded" in batch:
            for name, column in self._columns.items():
                failing[:, self.names.index(name)] = batch["degraded"][:, column]
        return failing

    def mask(self, names: Sequence[str], device: torch.device) -> Tensor:
        """(M,) bool: which of the model's modalities are in `names`."""
        return torch.tensor([name in names for name in self.names], device=device)


def check_modalities(argument: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raise ValueError for the first name that is not known."""
    for name in names:
        if name not in known:
            raise ValueError(f"{argument}: found modality {name!r}, wanted some of {list(known)}")


def check_classes(model: nn.Module, dataset: EvalDataset) -> None:
    """Raise DataError where the model and the data set do not have the same number of classes."""
    if model.num_classes != len(dataset.classes):
        raise DataError(
            f"the model predicts {model.num_classes} classes, data set {dataset.name!r} has {len(dataset.classes)}"
        )


def batches(dataset: EvalDataset, indices: Sequence[int] | None, batch_size: int, workers: int = 0) -> Iterator[Sample]:
    """Collated samples in order; a batch ends where the frame size changes."""
    from torch.utils.data import DataLoader, Subset, default_collate

    chosen: Any = Subset(dataset, range(len(dataset)) if indices is None else indices)  # type: ignore[arg-type]
    pending: list[Sample] = []
    for sample in DataLoader(chosen, batch_size=None, num_workers=workers):
        if pending and (len(pending) == batch_size or sample["label"].shape != pending[0]["label"].shape):
            yield default_collate(pending)
            pending = []
        pending.append(sample)
    if pending:
        yield default_collate(pending)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation behaviour and no gradients inside; training behaviour again afterwards where it was on."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if training:
            model.train()


def segment(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    present: Tensor,
    keep: Sequence[int] | None = None,
    tta: str = "none",
    ignore_index: int = 255,
    angles: Collection[str] = (),
    scores: Sequence[Tensor] | None = None,
) -> Segmented:
    """Predict a batch, inside `evaluation_mode`.

    Args:
        inputs: name -> (B, C, H, W). present: (B, M) bool, usable sensors in the model's order (see Sensors.select).
        keep: another keep than the model's.
        tta: test-time augmentation, the name of the views whose class probabilities are averaged: "none", "flip"
            (left-right) or "dihedral" (four turns, each also mirrored; for views from above). Scores and kept sensors
            are those of the frame as it is.
        angles: inputs that hold angles of polarisation, which turn with the picture (see data/polarisation.py).
        scores: (B, S) for each stage, taken in place of the model's, in all views.
    """
    blind = ~present.any(1)
    first = next(iter(inputs.values()))
    prediction = torch.full((len(first), *first.shape[2:]), ignore_index, device=first.device)
    if bool(blind.all()):
        nothing = torch.zeros(len(first), 0, 0)
        there = torch.zeros(len(first), 0, dtype=torch.bool)
        return Segmented((), prediction.cpu(), blind.cpu(), there, nothing, nothing.bool(), nothing)
    seen = {name: image[~blind] for name, image in inputs.items()}
    # Only where it is asked for: a model need not take scores.
    given = {} if scores is None else {"scores": [table.to(first.device)[~blind] for table in scores]}
    views = TTA_VIEWS[tta]
    total, trace = model(seen, present[~blind], keep=keep, trace=True, **given)
    if len(views) > 1:
        total = total.float().softmax(1)
        for view in views[1:]:
            other = {name: turned(image, view, name in angles) for name, image in seen.items()}
            logits = model(other, present[~blind], keep=keep, **given)
            total = total + turned_back(logits.float().softmax(1), view)
    prediction[~blind] = total.argmax(1)
    stages = range(len(trace.stages))
    score = torch.stack([trace.score_table(stage) for stage in stages], 1).float()
    kept = torch.stack([trace.kept_mask(stage) for stage in stages], 1)
    weight = torch.stack([trace.weight_table(stage) for stage in stages], 1).float()
    slots = torch.arange(len(trace.modalities), device=first.device)
    entered = (trace.stages[0].sensor.unsqueeze(2) == slots).any(1)
    return Segmented(
        tuple(trace.modalities),
        prediction.cpu(),
        blind.cpu(),
        _spread(entered, blind, False),
        _spread(score, blind, torch.nan),
        _spread(kept, blind, False),
        _spread(weight, blind, 0.0),
    )


def turned(image: Tensor, view: tuple[int, bool], angle: bool = False) -> Tensor:
    """image (B, C, H, W) in a view of TTA_VIEWS. angle: its channels are angles of polarisation."""
    turned = image.rot90(view[0], (2, 3))
    turned = turned.flip(3) if view[1] else turned
    return turned * torch.from_numpy(signs(int(view[1]), view[0])).to(turned) if angle else turned


def turned_back(image: Tensor, view: tuple[int, bool]) -> Tensor:
    """What was predicted for a view, as it lies in the frame."""
    return (image.flip(3) if view[1] else image).rot90(-view[0], (2, 3))


def _spread(value: Tensor, blind: Tensor, empty: float) -> Tensor:
    """Rows of the frames that were seen -> rows of all frames."""
    rows = value.new_full((len(blind), *value.shape[1:]), empty)
    rows[~blind] = value
    return rows.cpu()
