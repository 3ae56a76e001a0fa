"""Evaluation of a model on a named split: scores, per condition, per subset of sensors, and what the model kept.

`evaluate` returns plain numbers, ready for JSON (None where nothing was counted):

    dataset, split, modalities, classes, settings {keep, missing, tta}
    frames
    miou, miou_all_classes, pixel_accuracy, fwiou, iou {class: value}, pixels {class: count}, frame_mean {...}
                                     definitions: egformer_fast.train.metrics
    present {sensor: share of the frames}
    kept    {sensor: share at each of the 4 stages, of the frames in which the sensor was present}
    score   {sensor: mean at each stage, over the frames in which it was still scored}
    blind_frames {count, names}      no usable sensor: the prediction is the ignore index, so every pixel is wrong
    conditions, cases {name: frames to score as above, over the frames of one weather, or of one sensor failure}
    subsets {"rgb+depth": the same, with only these sensors given}, subset_mean {plain means over the subsets}
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

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
    check_modalities,
    evaluation_mode,
    segment,
)
from egformer_fast.train.metrics import ConfusionMatrix, FrameMeans, confusion

Subsets = str | Sequence[Sequence[str]]
SUBSET_MEANS = ("miou", "miou_all_classes", "pixel_accuracy", "fwiou")
MAX_BLIND_NAMES = 20


class Group:
    """Scores and choices over one group of frames: all, one condition, one subset of sensors."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self.frames = 0
        self.matrix = ConfusionMatrix(len(classes))
        self.means = FrameMeans()
        self.sensors: tuple[str, ...] = ()
        self.present = self.kept = self.scored = self.score = torch.zeros((), dtype=torch.float64)

    def add(self, counts: Tensor, result: Segmented, rows: Tensor | slice = slice(None)) -> None:
        """counts: (B, num_classes, num_classes + 1) from metrics.confusion; rows: which of the B frames to add."""
        self.frames += len(counts[rows])
        self.matrix.add(counts[rows])
        self.means.add(counts[rows])
        if not result.sensors:
            return
        self.sensors = result.sensors
        score = result.score[rows].double()
        self.present = self.present + result.present[rows].sum(0)
        self.kept = self.kept + result.kept[rows].sum(0)
        self.scored = self.scored + score.isfinite().sum(0)
        self.score = self.score + score.nan_to_num(0).sum(0)

    def report(self) -> dict[str, Any]:
        scores = self.matrix.compute()
        for key in ("iou", "pixels"):
            scores[key] = dict(zip(self.classes, scores[key], strict=True))
        table: dict[str, dict[str, Any]] = {"present": {}, "kept": {}, "score": {}}
        for number, name in enumerate(self.sensors):
            present = float(self.present[number])
            table["present"][name] = present / self.frames
            table["kept"][name] = [count / present if present else None for count in self.kept[:, number].tolist()]
            sums = zip(self.score[:, number].tolist(), self.scored[:, number].tolist(), strict=True)
            table["score"][name] = [total / count if count else None for total, count in sums]
        return {"frames": self.frames, **scores, "frame_mean": self.means.compute(), **table}


class _Evaluation:
    """The groups of one call of `evaluate`, filled batch by batch."""

    def __init__(self, dataset: EvalDataset, subsets: list[list[str]]) -> None:
        self.dataset, self.subsets = dataset, subsets
        self.total = Group(dataset.classes)
        self.by_subset = {"+".join(names): Group(dataset.classes) for names in subsets}
        self.by_name: dict[str, dict[str, Group]] = {"condition": {}, "case": {}}
        self.blind: list[str] = []

    def count(self, result: Segmented, label: Tensor) -> Tensor:
        return confusion(result.prediction, label, len(self.dataset.classes), self.dataset.ignore_index)

    def add(self, batch: Sample, result: Segmented) -> Tensor:
        """Add a batch to the total and to its conditions and cases; returns its confusion matrices."""
        counts = self.count(result, batch["label"])
        self.total.add(counts, result)
        self.blind += [batch["name"][frame] for frame in result.blind.nonzero().flatten().tolist()]
        for key, groups in self.by_name.items():
            names = batch.get(key, [])
            for name in set(names) - {""}:
                rows = torch.tensor([other == name for other in names])
                groups.setdefault(name, Group(self.dataset.classes)).add(counts, result, rows)
        return counts

    def report(self) -> dict[str, Any]:
        by_name = {
            key: {name: groups[name].report() for name in sorted(groups)} for key, groups in self.by_name.items()
        }
        subsets = {name: group.report() for name, group in self.by_subset.items()}
        return {
            **self.total.report(),
            "blind_frames": {"count": len(self.blind), "names": self.blind[:MAX_BLIND_NAMES]},
            "conditions": by_name["condition"],
            "cases": by_name["case"],
            "subsets": subsets,
            "subset_mean": {key: _mean([scores[key] for scores in subsets.values()]) for key in SUBSET_MEANS},
        }


def evaluate(
    model: nn.Module,
    dataset: EvalDataset,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    indices: Sequence[int] | None = None,
    subsets: Subsets | None = None,
    keep: Sequence[int] | None = None,
    missing: Sequence[str] = (),
    tta: str = "none",
    workers: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a model on a data set; the report is described at the head of this file.

    Args:
        model: an EGFormer; in evaluation mode for the time of the call.
        dataset: samples as FolderDataset gives them; frames may differ in size.
        batch_size: at most so many frames of equal size together. With rank "batch" the choice of sensors, and so the
            result, depends on it.
        device: default, where the model is.
        indices: frames to evaluate; default all.
        subsets: "all" (2^M - 1 of them) or lists of modalities; each is evaluated with the other sensors withheld.
        keep: sensors to keep at each stage instead of the model's setting.
        missing: modalities to withhold in every frame.
        tta: test-time augmentation, see inference.segment.
        workers: processes that load frames.
        progress: show a bar.

    Raises:
        DataError: the data set does not fit the model.
        ValueError: an argument is wrong; the message names it.
    """
    if tta not in TTA_VIEWS:
        raise ValueError(f"tta: found {tta!r}, wanted one of {list(TTA_VIEWS)}")
    check_classes(model, dataset)
    sensors = Sensors(model, dataset, missing)
    state = _Evaluation(dataset, _subset_lists(subsets, sensors.given))
    place = torch.device(device) if device is not None else next(model.parameters()).device
    model.to(place)
    bar = _bar(len(dataset) if indices is None else len(indices), progress)
    with evaluation_mode(model), bar:
        for batch in batches(dataset, indices, batch_size, workers):
            inputs, present = sensors.select(batch, place)
            result = segment(model, inputs, present, keep, tta, dataset.ignore_index, sensors.angles)
            counts = state.add(batch, result)
            for names, group in zip(state.subsets, state.by_subset.values(), strict=True):
                if names == sensors.given:
                    group.add(counts, result)
                else:
                    shown = {name: inputs[name] for name in names}
                    given = present & sensors.mask(names, place)
                    some = segment(model, shown, given, keep, tta, dataset.ignore_index, sensors.angles)
                    group.add(state.count(some, batch["label"]), some)
            bar.update(len(counts))
    settings = {"keep": list(keep or model.keep), "missing": list(missing), "tta": tta}  # type: ignore[arg-type]
    return {
        "dataset": dataset.name,
        "split": dataset.split,
        "modalities": sensors.given,
        "classes": list(dataset.classes),
        "settings": settings,
        **state.report(),
    }


def _subset_lists(subsets: Subsets | None, given: list[str]) -> list[list[str]]:
    """The subsets asked for, each in the model's order, in the order asked for and each once."""
    if subsets is None:
        return []
    if subsets == "all":
        return [list(names) for size in range(len(given), 0, -1) for names in combinations(given, size)]
    if isinstance(subsets, str):
        raise ValueError(f"subsets: found {subsets!r}, wanted 'all' or lists of modalities")
    lists: list[list[str]] = []
    for names in subsets:
        check_modalities("subsets", names, given)
        ordered = [name for name in given if name in names]
        if not ordered:
            raise ValueError("subsets: found an empty one, wanted at least one modality in each")
        if ordered not in lists:
            lists.append(ordered)
    return lists


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _bar(total: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit="frame", desc="eval", disable=not progress, leave=False)
