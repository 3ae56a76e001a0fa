"""Segmentation metrics from confusion matrices.

    n[t, p]    labelled pixels of class t predicted as p; the last column holds those that got no prediction
    iou[c]     = n[c,c] / (sum_p n[c,p] + sum_t n[t,c] - n[c,c])
    accuracy   = sum_c n[c,c] / sum n
    fwiou      = sum_c (sum_p n[c,p] / sum n) * iou[c]

Conventions, because published figures differ in them:
- miou is the mean over the classes that occur, in the label or in the prediction, anywhere in the data set;
  miou_all_classes is the mean over all classes with 0 for those that do not occur (DELIVER's evaluation code).
- The miou of one frame is OmbriaNet's, from the evaluation notebook behind its published table (the same as FCN's
  py_img_seg_eval): the sum of the IoU of the classes in the label or the prediction, divided by the number of classes
  in the label alone. A predicted class that the label lacks adds 0.
- Pixels whose label is the ignore index count nowhere. A labelled pixel without a prediction is a wrong one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FRAME_METRICS = ("pixel_accuracy", "miou", "fwiou")


def confusion(prediction: Tensor, label: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """One confusion matrix for each frame.

    Args:
        prediction: (B, H, W), an integer dtype: class numbers, or `ignore_index` for no prediction.
        label: (B, H, W), an integer dtype: class numbers, or `ignore_index`.

    Returns:
        (B, num_classes, num_classes + 1) int64 on the CPU: label by prediction, the last column for no prediction.

    Raises:
        ValueError: shapes differ, or a value is neither a class nor the ignore index; the message says which.
        TypeError: an argument is not of an integer dtype.
    """
    if prediction.shape != label.shape or label.dim() != 3:
        raise ValueError(
            f"confusion: prediction and label must both be (B, H, W), got {tuple(prediction.shape)} and"
            f" {tuple(label.shape)}"
        )
    if 0 <= ignore_index < num_classes:
        raise ValueError(f"confusion: ignore_index {ignore_index} is one of the classes 0 to {num_classes - 1}")
    for name, value in (("prediction", prediction), ("label", label)):
        if value.is_floating_point() or value.is_complex():
            raise TypeError(f"confusion: {name} must have an integer dtype, got {value.dtype}")
    prediction, label = prediction.long(), label.long()
    for name, value in (("prediction", prediction), ("label", label)):
        wrong = ((value < 0) | (value >= num_classes)) & (value != ignore_index)
        if bool(wrong.any()):
            raise ValueError(
                f"confusion: {name} has the value {int(value[wrong][0])}, which is neither a class (0 to"
                f" {num_classes - 1}) nor the ignore index {ignore_index}"
            )
    cells = num_classes * (num_classes + 1)
    frame = torch.arange(len(label), device=label.device).view(-1, 1, 1)
    column = torch.where(prediction == ignore_index, num_classes, prediction)
    cell = frame * cells + label * (num_classes + 1) + column
    counts = torch.bincount(cell[label != ignore_index], minlength=len(label) * cells)
    return counts.view(-1, num_classes, num_classes + 1).cpu()


class ConfusionMatrix:
    """Metrics over a whole data set: every labelled pixel counts once, whichever frame it is in."""

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.counts = torch.zeros(num_classes, num_classes + 1, dtype=torch.int64)

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Count a batch; prediction, label: (B, H, W) as in `confusion`."""
        self.add(confusion(prediction, label, self.num_classes, self.ignore_index))

    def add(self, frames: Tensor) -> None:
        """frames: (B, num_classes, num_classes + 1), as `confusion` returns."""
        self.counts += frames.sum(0)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add what another one (of another process, or another part of the data) has counted.

        Raises:
            ValueError: the other one has another number of classes.
        """
        if other.num_classes != self.num_classes:
            raise ValueError(f"merge: {other.num_classes} classes do not add to {self.num_classes}")
        self.counts += other.counts

    def compute(self) -> dict[str, Any]:
        """Metrics as plain numbers; None where nothing was counted.

        Returns:
            miou, miou_all_classes, pixel_accuracy, fwiou: float or None. iou: a list by class, None where the class is
            in no label and no prediction. pixels: labelled pixels by class. no_prediction: labelled pixels that got
            none.
        """
        hit, label, predicted, iou = _parts(self.counts)
        pixels = label.sum()
        occurs = label + predicted > 0
        none = pixels == 0
        return {
            "miou": None if none else float(iou[occurs].mean()),
            "miou_all_classes": None if none else float(iou.mean()),
            "pixel_accuracy": None if none else float(hit.sum() / pixels),
            "fwiou": None if none else float((label * iou).sum() / pixels),
            "iou": [float(value) if there else None for value, there in zip(iou, occurs, strict=True)],
            "pixels": [int(count) for count in label],
            "no_prediction": int(self.counts[:, -1].sum()),
        }


class FrameMeans:
    """Means over frames of the metrics of each frame; a frame without a labelled pixel has none and does not count."""

    def __init__(self) -> None:
        self.frames = 0
        self._sums = dict.fromkeys(FRAME_METRICS, 0.0)

    def add(self, frames: Tensor) -> None:
        """frames: (B, num_classes, num_classes + 1), as `confusion` returns."""
        for counts in frames:
            if bool(counts.any()):
                self.frames += 1
                for name, value in frame_metrics(counts).items():
                    self._sums[name] += value

    def compute(self) -> dict[str, Any]:
        """pixel_accuracy, miou, fwiou: float, or None without frames; frames: how many counted."""
        means = {name: total / self.frames if self.frames else None for name, total in self._sums.items()}
        return {**means, "frames": self.frames}


def frame_metrics(counts: Tensor) -> dict[str, float]:
    """pixel_accuracy, miou and fwiou of one frame, by OmbriaNet's definitions (see the head of this file).

    Args:
        counts: (num_classes, num_classes + 1), with at least one labelled pixel.
    """
    hit, label, _, iou = _parts(counts)
    return {
        "pixel_accuracy": float(hit.sum() / label.sum()),
        "miou": float(iou.sum() / (label > 0).sum()),
        "fwiou": float((label * iou).sum() / label.sum()),
    }


def _parts(counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """By class, float64: pixels hit, labelled, predicted, and the IoU (0 where the class does not occur)."""
    counts = counts.double()
    hit, label, predicted = counts.diagonal(), counts.sum(1), counts[:, :-1].sum(0)
    return hit, label, predicted, hit / (label + predicted - hit).clamp_min(1)
