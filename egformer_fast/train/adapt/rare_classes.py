"""Rare-class sampling: source frames are drawn by class, the rarer the likelier (DAFormer, arXiv 2111.14887).

    f[c] = share of class c in the labelled pixels of the split,   P(c) ∝ exp((1 - f[c]) / T) over classes that occur
    a draw: a class from P, a frame with enough of it, and of ten random crops the first with enough of it

"Enough" is `share` of a crop's pixels. All draws follow from (seed, number of the batch, rank).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from egformer_fast.errors import DataError
from egformer_fast.train.sampling import FrameSet

RARE = 4 << 40
CROPS = 10


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


class RareClassStream(Sampler[list[tuple[int, int, int]]]):
    """Endless batches of (draw, frame, class) from batch number `start` on.

    counts: see count_pixels. pixels: how many of a class a frame must have to be drawn for it; where none has as many,
    the one with most.
    """

    def __init__(
        self, counts: np.ndarray, pixels: int, temperature: float, batch_size: int, seed: int, start: int, rank: int
    ) -> None:
        self.probability = class_probability(counts, temperature)
        self.frames = [
            np.flatnonzero(column >= min(max(1, pixels), max(1, column.max(initial=0)))) for column in counts.T
        ]
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
