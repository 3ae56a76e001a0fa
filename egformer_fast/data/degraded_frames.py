"""DegradedFrames: a data set with a known degradation in one modality of each frame, for evaluation.

The degradation acts on what the model sees: the scaled map, after the data set's resize, before normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .corruptions import draws
from .degradations import FROM_ANOTHER, applicable, degrade
from .folder import DescribedFrames
from .frame import Frame
from .modality import SPARSE_KINDS
from .transforms import deterministic_part, resize

Plan = Sequence["tuple[str, str] | None"]
_TRIES = 8


class DegradedFrames(DescribedFrames):
    """The frames of another data set, degraded by plan; samples tell it in `degraded`.

    A modality that is absent or dead in a frame stays so, and one that its degradation leaves as it was is not called
    degraded. What is drawn follows from (seed, frame, modality, degradation) alone.

    Args:
        frames: the data set, read as in evaluation.
        plan: for each frame (modality, name of a degradation), or None for a frame that stays as it is.
    """

    def __init__(self, frames: DescribedFrames, plan: Plan, seed: int = 0) -> None:
        super().__init__(frames.description, frames.sensors, frames.names, frames.split)
        self._frames, self._plan, self._seed = frames, plan, seed

    def files(self, index: int) -> dict[str, Path]:
        return self._frames.files(index)

    def frame(self, index: int) -> Frame:
        frame, planned = self._seen(index), self._plan[index]
        if planned is None or planned[0] not in frame.live:
            return frame
        name, degradation = planned
        rng = draws(self._seed, index, name, degradation)
        other = self._other(index, name, frame, rng) if degradation in FROM_ANOTHER else None
        if other is None and degradation in FROM_ANOTHER:
            return frame
        image = frame.maps[name]
        worse = degrade(degradation, image, frame.kinds[name], rng, other)
        degraded = frame.degraded if np.array_equal(worse, image) else frame.degraded | {name}
        return replace(frame, maps={**frame.maps, name: worse}, degraded=degraded)

    def _seen(self, index: int) -> Frame:
        """The data set's frame with what of its transform draws nothing."""
        return deterministic_part(self._frames.transform)(self._frames.frame(index), np.random.default_rng(0))

    def _other(self, index: int, name: str, frame: Frame, rng: np.random.Generator) -> np.ndarray | None:
        """(C, H, W) of this modality in another frame, of this one's size; None where none of some has it."""
        numbers = rng.permutation(len(self)).tolist()
        for number in [number for number in numbers if number != index][:_TRIES]:
            other = self._seen(number)
            if name in other.live:
                height, width = frame.label.shape
                mode = "nearest" if frame.kinds[name] in SPARSE_KINDS else "bilinear"
                return resize(other.maps[name], (height, width), mode)
        return None


def one_for_all(frames: DescribedFrames, modality: str, degradation: str) -> Plan:
    """The plan that degrades one modality in every frame, in one way."""
    return [(modality, degradation)] * len(frames)


def half_at_random(frames: DescribedFrames, modalities: Sequence[str], seed: int = 0) -> Plan:
    """The plan that degrades one of these modalities in half of the frames; which frame, which modality and which of
    the ways of its kind are drawn evenly, from (seed, frame)."""
    plan: list[tuple[str, str] | None] = []
    for index in range(len(frames)):
        rng = draws(seed, index, "", "half")
        name = modalities[int(rng.integers(len(modalities)))]
        ways = applicable(frames.sensors[name].kind)
        way = ways[int(rng.integers(len(ways)))]
        plan.append((name, way) if rng.random() < 0.5 else None)
    return plan
