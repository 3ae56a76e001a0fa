"""Rare-class sampling: source frames are drawn by class, the rarer the likelier (DAFormer, arXiv 2111.14887).

    f[c] = share of class c in the labelled pixels of the split,   P(c) ∝ exp((1 - f[c]) / T) over classes that occur
    a draw: a class from P, a frame with enough of it, and of ten random crops the first with enough of it

Enough of a frame is a number of pixels in the files' size (published: 3000); enough of a crop a share of it (half as
many pixels of 512x512). All draws follow from (seed, number of the batch, rank).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from egformer_fast.errors import DataError
from egformer_fast.train.sampling import FrameSet

RARE = 4 << 40
CROPS = 10
TENTH = 0.9  # quantile above which a class's fullest frames lie
FEW = 10


def count_pixels(dataset: Any, progress: bool = False) -> np.ndarray:
    """(frames, classes) int64: labelled pixels of each class in each frame of a FolderDataset, in the files' size."""
    counts = np.zeros((len(dataset), len(dataset.classes)), np.int64)
    for index in _counted(len(dataset), progress):
        files = dataset.files(index)
        if "label" in files:
            counts[index] = np.bincount(dataset.read_label(files["label"]).ravel(), minlength=256)[: counts.shape[1]]
    return counts


def _counted(frames: int, progress: bool) -> Iterable[int]:
    """0 to frames - 1, with a bar on a terminal."""
    from tqdm import tqdm

    return tqdm(range(frames), unit="frame", desc="counting classes", disable=None if progress else True, leave=False)


def class_probability(counts: np.ndarray, temperature: float) -> np.ndarray:
    """(classes,) probability of each class to be drawn; 0 for those that do not occur.

    Raises:
        DataError: nothing is labelled.
    """
    total = counts.sum(0)
    if total.sum() == 0:
        raise DataError("rare-class sampling: no pixel of the split is labelled; set adapt.rare_temperature=null")
    share = total / total.sum()
    logit = np.where(total > 0, (1 - share) / temperature, -np.inf)
    weight = np.exp(logit - logit.max())
    return weight / weight.sum()


def eligible_frames(counts: np.ndarray, pixels: int) -> list[np.ndarray]:
    """For each class the numbers of the frames that are drawn for it: those with `pixels` of it; where none has as
    many, the tenth with most. counts: see count_pixels."""
    return [_eligible(column, pixels) for column in counts.T]


def _eligible(column: np.ndarray, pixels: int) -> np.ndarray:
    found = np.flatnonzero(column >= pixels)
    occurring = column[column > 0]
    if len(found) or not len(occurring):
        return found
    return np.flatnonzero(column >= np.quantile(occurring, TENTH))


def pixels_of(share: float, counts: np.ndarray, crop: Sequence[int] | None) -> int:
    """How many pixels a frame must have where a crop of (height, width) must have half as many, `share` of its own.

    counts: see count_pixels; without crops, a frame's own pixels count."""
    return max(1, round(2 * share * (math.prod(crop) if crop else int(counts.sum(1).max()))))


def few_frames(counts: np.ndarray, pixels: int, classes: Sequence[str]) -> str:
    """A line on the classes that are drawn again and again from few frames, of those that occur; "" without such."""
    found = []
    for name, column, frames in zip(classes, counts.T, eligible_frames(counts, pixels), strict=True):
        enough = int(np.sum(column >= pixels))
        if len(frames) and enough < FEW:
            found.append(f"{name} {enough}" + (f" (drawn from the {len(frames)} with most)" if not enough else ""))
    if not found:
        return ""
    return f"rare-class sampling: few frames have {pixels} pixels (adapt.rare_pixels) of: {', '.join(found)}"


class RareClassStream(Sampler[list[tuple[int, int, int]]]):
    """Endless batches of (draw, frame, class) from batch number `start` on.

    counts: see count_pixels. pixels: see eligible_frames.
    """

    def __init__(
        self, counts: np.ndarray, pixels: int, temperature: float, batch_size: int, seed: int, start: int, rank: int
    ) -> None:
        self.probability = class_probability(counts, temperature)
        self.frames = eligible_frames(counts, pixels)
        self.batch_size, self.seed, self.start, self.rank = batch_size, seed, start, rank

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        number = self.start
        while True:
            rng = np.random.default_rng((self.seed, number, RARE + self.rank))
            classes = rng.choice(len(self.probability), self.batch_size, p=self.probability)
            yield [
                (int(rng.integers(1 << 32)), int(rng.choice(self.frames[wanted])), int(wanted)) for wanted in classes
            ]
            number += 1


class RareClassFrames(Dataset[dict[str, Any]]):
    """A data set indexed by (draw, frame, class): of CROPS draws of its transforms the first with enough of the class.

    share: of the pixels; where no draw has as many, the one with most of the class.
    """

    def __init__(self, frames: FrameSet, seed: int, share: float) -> None:
        self.frames, self.seed, self.share = frames, seed, share

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Any]:
        draw, index, wanted = key
        best: dict[str, Any] = {}
        most = -1.0
        rngs = (np.random.default_rng((self.seed, draw, index, attempt)) for attempt in range(CROPS))
        for sample in self.frames.samples(index, rngs):
            share = float(torch.mean((sample["label"] == wanted).float()))
            if share > most:
                best, most = sample, share
            if most >= self.share:
                break
        return best
