"""Pictures of predictions: the grid drawn at every evaluation, and one figure a frame for `predict` and for documents.

`frame_views` asks the model once a frame and gathers all that a picture shows; `write_grid` and `frame_figure` only lay
it out. In a score panel a bar is the score of a sensor at a stage: blue, it was kept; grey, it was dropped there;
no bar, it was dropped before or was missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from egformer_fast.files import write_whole
from egformer_fast.train.drawing import (
    Array,
    Picture,
    Row,
    colored,
    compose,
    empty_tile,
    legend,
    overlay,
    palette_png,
    score_panel,
    tile,
)
from egformer_fast.train.inference import Sensors, batches, evaluation_mode, segment
from egformer_fast.train.metrics import confusion, frame_metrics

INPUTS_A_LINE = 4


@dataclass(frozen=True)
class FrameView:
    """One frame and what the model made of it.

    images: modality -> uint8 (H, W, 3), None where that sensor is missing or broken. label: (H, W) int64, or None where
    no pixel is labelled. prediction: (H, W) int64. sensors: S names; score: (stages, S) float; kept: (stages, S) bool;
    present: (S,) bool (see inference.Segmented).
    """

    name: str
    condition: str
    images: dict[str, Array | None]
    label: Array | None
    prediction: Array
    sensors: tuple[str, ...]
    score: Array
    kept: Array
    present: Array

    @property
    def blind(self) -> bool:
        """No sensor was usable, so nothing was predicted."""
        return all(image is None for image in self.images.values())

    def scores(self, num_classes: int, ignore_index: int) -> dict[str, float] | None:
        """metrics.frame_metrics of this frame, None without a label."""
        if self.label is None:
            return None
        prediction, label = torch.from_numpy(self.prediction), torch.from_numpy(self.label)
        return frame_metrics(confusion(prediction[None], label[None], num_classes, ignore_index)[0])

    def title(self, name: str) -> str:
        """A sensor's name and how far it came."""
        if self.images[name] is None or name not in self.sensors:
            return name
        last = int(self.kept[:, self.sensors.index(name)].sum())
        if len(self.kept) == 1:
            return f"{name}: kept" if last else f"{name}: dropped"
        return f"{name}: kept to stage {last}" if last else f"{name}: dropped at stage 1"

    def heading(self, num_classes: int, ignore_index: int) -> str:
        # Names of described data sets begin with the condition.
        parts = [self.name, "" if self.name.startswith(f"{self.condition}/") else self.condition]
        scores = self.scores(num_classes, ignore_index)
        if self.blind:
            parts.append("no usable sensor, nothing predicted")
        elif scores:
            parts.append(f"pixel accuracy {scores['pixel_accuracy']:.3f}, mIoU {scores['miou']:.3f}")
        return "   ".join(part for part in parts if part)


def frame_views(
    model: nn.Module,
    dataset: Any,
    indices: Sequence[int] | None = None,
    keep: Sequence[int] | None = None,
    missing: Sequence[str] = (),
    tta: str = "none",
    batch_size: int = 4,
    workers: int = 0,
) -> Iterator[FrameView]:
    """Predict frames one after the other; arguments as in evaluate.evaluate. dataset: also has `raw(i)`."""
    sensors = Sensors(model, dataset, missing)
    place = next(model.parameters()).device
    order = list(range(len(dataset)) if indices is None else indices)
    done = 0
    for batch in batches(dataset, order, batch_size, workers):
        inputs, present = sensors.select(batch, place)
        # Inside the loop: a caller that stops half-way must not leave gradients switched off.
        with evaluation_mode(model):
            result = segment(model, inputs, present, keep, tta, dataset.ignore_index, sensors.angles)
        for row, usable in enumerate(present.tolist()):
            shown = dataset.raw(order[done])["inputs"]
            label = batch["label"][row].numpy()
            yield FrameView(
                name=batch["name"][row],
                condition=batch["condition"][row],
                images={
                    name: shown[name] if there else None for name, there in zip(sensors.names, usable, strict=True)
                },
                label=label if (label != dataset.ignore_index).any() else None,
                prediction=result.prediction[row].numpy(),
                sensors=result.sensors,
                score=result.score[row].numpy(),
                kept=result.kept[row].numpy(),
                present=result.present[row].numpy(),
            )
            done += 1


def pictures_grid(
    model: nn.Module,
    dataset: Any,
    indices: Sequence[int],
    path: str | Path,
    keep: Sequence[int] | None = None,
    missing: Sequence[str] = (),
) -> None:
    """Predict some frames and write their grid; arguments as in frame_views."""
    write_grid(frame_views(model, dataset, indices, keep, missing), dataset, path)


def write_grid(views: Iterable[FrameView], dataset: Any, path: str | Path, width: int = 144) -> None:
    """Write a grid: one row a frame; inputs | label | prediction | scores. width: of a tile, in pixels."""
    rows: list[Row] = []
    shown: set[int] = set()
    for view in views:
        size = _size(view, width)
        panel = (int(width * 1.9), size[1])
        pictures = [
            *_inputs(view, size),
            _label_tile(view.label, dataset, size, "no label"),
            _label_tile(None if view.blind else view.prediction, dataset, size, "nothing predicted"),
            score_panel(panel, view.sensors, view.score, view.kept, view.present, text=11),
        ]
        titles = [*view.images, "label", "prediction", "scores (blue: kept)"] if not rows else []
        rows.append(Row(pictures, titles, view.heading(len(dataset.classes), dataset.ignore_index)))
        shown |= _classes(view, dataset)
    rows.append(_legend_row(shown, dataset, sum(picture.width for picture in rows[0].pictures), 12))
    save_picture(compose(rows), path)


def frame_figure(view: FrameView, dataset: Any, path: str | Path, width: int = 320) -> None:
    """Write the figure of one frame: its inputs above; label, prediction, overlay and scores below; a legend.

    dataset: has classes, palette and ignore_index. width: of a tile, in pixels.
    """
    size, text = _size(view, width), max(12, width // 20)
    inputs = _inputs(view, size)
    names = [view.title(name) for name in view.images]
    heading = view.heading(len(dataset.classes), dataset.ignore_index)
    rows = [
        Row(inputs[first : first + INPUTS_A_LINE], names[first : first + INPUTS_A_LINE], "" if first else heading)
        for first in range(0, len(inputs), INPUTS_A_LINE)
    ]
    results = {"prediction": _label_tile(None if view.blind else view.prediction, dataset, size, "nothing predicted")}
    if view.label is not None:
        results = {"label": _label_tile(view.label, dataset, size, ""), **results}
    if not view.blind:
        results["overlay"] = tile(frame_overlay(view, dataset), size)
        panel = (int(width * 1.3), size[1])
        results["scores by stage (blue: kept)"] = score_panel(
            panel, view.sensors, view.score, view.kept, view.present, text=max(11, width // 24)
        )
    rows.append(Row(list(results.values()), list(results)))
    total = max(sum(picture.width for picture in row.pictures) for row in rows)
    rows.append(_legend_row(_classes(view, dataset), dataset, total, text))
    save_picture(compose(rows, text, gap=text // 2, margin=text), path)


def frame_overlay(view: FrameView, dataset: Any) -> Array:
    """The prediction over the first usable image, uint8 (H, W, 3); hatched where the frame is blind."""
    base = next((image for image in view.images.values() if image is not None), None)
    if base is None:
        return colored(view.prediction, dataset.palette, dataset.ignore_index)
    return overlay(base, view.prediction, dataset.palette, dataset.ignore_index)


def save_label(prediction: Array, palette: Array, path: str | Path, ignore_index: int = 255) -> None:
    """Write (H, W) class numbers as a palette PNG: pixel values are the class numbers, 255 is ignore."""
    save_picture(palette_png(np.where(prediction == ignore_index, 255, prediction), palette), path)


def save_picture(picture: Picture, path: str | Path) -> None:
    """Write a PNG that appears whole or not at all; makes the folder."""
    content = BytesIO()
    picture.save(content, format="PNG")
    write_whole(Path(path), content.getvalue())


def _size(view: FrameView, width: int) -> tuple[int, int]:
    height, columns = view.prediction.shape
    return width, max(1, round(width * height / columns))


def _inputs(view: FrameView, size: tuple[int, int]) -> list[Picture]:
    return [empty_tile(size, "missing") if image is None else tile(image, size) for image in view.images.values()]


def _label_tile(label: Array | None, dataset: Any, size: tuple[int, int], note: str) -> Picture:
    if label is None:
        return empty_tile(size, note)
    return tile(colored(label, dataset.palette, dataset.ignore_index), size, smooth=False)


def _classes(view: FrameView, dataset: Any) -> set[int]:
    """Class numbers in the label or the prediction."""
    found = set(np.unique(view.prediction).tolist())
    if view.label is not None:
        found |= set(np.unique(view.label).tolist())
    return found - {dataset.ignore_index}


def _legend_row(shown: set[int], dataset: Any, width: int, text: int) -> Row:
    names = [dataset.classes[number] for number in sorted(shown)]
    return Row([legend(width, names, [tuple(dataset.palette[number].tolist()) for number in sorted(shown)], text)])
