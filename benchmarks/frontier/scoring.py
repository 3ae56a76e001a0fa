"""What a trained model is scored on: frames as they are, subsets of modalities, dead sensors, frames with failures.

    all       every modality given
    subset    each of the 2^M - 1 sets of modalities, the others withheld and said to be missing
    dead      each modality in turn reads zeros in every frame and is given as present: nobody says that it is dead
    failing   the frames in which a sensor fails, pooled;  case: those of one failure;  condition: of one weather

A model that lacks a modality of the task predicts nothing in a subset of such modalities alone, so its score is 0, and
the death of one changes nothing. The zeros are those of the files, as `data.zeroed` draws them in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
from torch import nn

from egformer_fast.data import Compose, FolderDataset, Frame
from egformer_fast.train.evaluate import evaluate

Report = dict[str, Any]


@dataclass(frozen=True)
class Dead:
    """A transform: modality `name` reads zeros, unannounced."""

    name: str
    random: ClassVar[bool] = False

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        return replace(frame, maps={**frame.maps, self.name: np.zeros_like(frame.maps[self.name])})


def scores_of(report: Report, lesion: str | None = None) -> dict[str, Any]:
    """The scores of one group of frames, flat; over all pixels, and means over frames (frame_...).

    lesion: adds the class's Dice from the pooled counts, 2 IoU / (1 + IoU).
    """
    scores = {key: report[key] for key in ("frames", "miou", "pixel_accuracy", "fwiou")}
    scores |= {f"frame_{key}": report["frame_mean"][key] for key in ("miou", "pixel_accuracy", "fwiou")}
    if lesion is not None:
        iou = report["iou"][lesion]
        scores[f"dice_{lesion}"] = None if iou is None else 2 * iou / (1 + iou)
    return scores


def score(
    model: nn.Module,
    dataset: FolderDataset,
    modalities: Sequence[str],
    lesion: str | None = None,
    batch_size: int = 8,
) -> tuple[Report, list[dict[str, Any]]]:
    """(report with all modalities given, rows of scores: part, name and scores_of).

    Args:
        model: an EGFormer or LateFusion. dataset: its modalities, of the split to score.
        modalities: those of the task, which the model may have only some of.
    """
    own = [name for name in modalities if name in dataset.modalities]
    whole = evaluate(model, dataset, batch_size, subsets="all")
    dead = {name: evaluate(model, _changed(dataset, Dead(name)), batch_size) for name in own}

    def row(part: str, name: str, report: Report) -> dict[str, Any]:
        return {"part": part, "name": name, **scores_of(report, lesion)}

    rows = [row("all", "", whole)]
    for names in _subsets(modalities):
        known = "+".join(name for name in names if name in own)
        scores = row("subset", "+".join(names), whole["subsets"][known] if known else whole)
        rows.append(scores if known else _nothing(scores))
    rows += [row("dead", name, dead.get(name, whole)) for name in modalities]
    failing = [index for index in range(len(dataset)) if dataset.group(index)[1]]
    if failing:
        rows.append(row("failing", "", evaluate(model, dataset, batch_size, indices=failing)))
    for part, reports in (("case", whole["cases"]), ("condition", whole["conditions"])):
        rows += [row(part, name, report) for name, report in reports.items()]
    return whole, rows


def _nothing(row: dict[str, Any]) -> dict[str, Any]:
    """The same frames without a prediction."""
    return {key: 0.0 if isinstance(value, float) else value for key, value in row.items()}


def _subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All that are not empty, the largest first."""
    for size in range(len(names), 0, -1):
        yield from combinations(names, size)


def _changed(dataset: FolderDataset, transform: Dead) -> FolderDataset:
    """The same frames through one more transform."""
    parts = [] if dataset.transform is None else [dataset.transform]
    names = list(dataset.modalities)
    return FolderDataset(dataset.description, dataset.root, dataset.split, names, Compose([*parts, transform]))
