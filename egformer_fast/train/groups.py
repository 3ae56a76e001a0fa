"""Group: the scores and choices of one group of frames: all of them, one condition, one subset of modalities.

A group is filled batch by batch and reports plain numbers, ready for JSON (None where nothing was counted).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from egformer_fast.train.inference import Segmented
from egformer_fast.train.metrics import ConfusionMatrix, FrameMeans

MEANS = ("miou", "miou_all_classes", "pixel_accuracy", "fwiou")


class Group:
    """Confusion, presence, scores and kept modalities over a group of frames. classes: their names."""

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


def means(reports: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Plain means over reports of groups; what a group lacks counts nowhere."""
    return {key: _mean([report[key] for report in reports]) for key in MEANS}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
