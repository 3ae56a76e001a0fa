"""RandomDegraded: sensors of a training frame made worse in a way that the sample tells (degradations.py has the ways).

It comes after geometry and light: what it draws is what the model sees. Padding stays as it is, since no sensor looks
beyond the edge of its frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .degradations import FROM_ANOTHER, applicable, degrade
from .frame import Frame
from .modality import SPARSE_KINDS
from .transforms import check_probability, resize, struck


@dataclass(frozen=True)
class RandomDegraded:
    """Degrade each clean sensor with probability p, in a way drawn evenly from those of its kind; the last clean one
    stays. `degraded` of the frame tells which; a sensor that its degradation left as it was (an empty scan, thinned)
    is not among them.

    frozen and swapped take the map of a frame that `other` draws, resized; where that one has none, or there is no
    other frame, another way is drawn. Raises ValueError: p is not from 0 to 1.

    aside: the maps stay as they are, the degraded ones go into `worse`: for scores that learn what is broken beside a
    segmentation that learns from what is not.
    """

    p: float
    aside: bool = False
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_probability("RandomDegraded: p", self.p)

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        clean = frame.clean
        hit = struck(frame, self.p, rng, clean)
        worse = {name: _degraded(frame, name, rng) for name in clean if name in hit}
        changed = {name for name, image in worse.items() if not np.array_equal(image, frame.maps[name])}
        frame = replace(frame, degraded=frame.degraded | changed)
        return replace(frame, worse=worse) if self.aside else replace(frame, maps={**frame.maps, **worse})


def _degraded(frame: Frame, name: str, rng: np.random.Generator) -> np.ndarray:
    """(C, H, W) of one sensor, degraded."""
    image, kind = frame.maps[name], frame.kinds[name]
    ways = applicable(kind)
    way, other = ways[int(rng.integers(len(ways)))], None
    if way in FROM_ANOTHER:
        other = _of_another_frame(frame, name, rng)
        if other is None:
            ways = tuple(way for way in ways if way not in FROM_ANOTHER)
            way = ways[int(rng.integers(len(ways)))]
    worse = degrade(way, image, kind, rng, other)
    return worse if frame.padding is None else np.where(frame.padding, image, worse)


def _of_another_frame(frame: Frame, name: str, rng: np.random.Generator) -> np.ndarray | None:
    """(C, H, W) of the same sensor in another frame, of this one's size; None where that has no live one."""
    other = frame.other(rng) if frame.other else None
    if other is None or name not in other.live:
        return None
    height, width = frame.maps[name].shape[1:]
    return resize(other.maps[name], (height, width), "nearest" if frame.kinds[name] in SPARSE_KINDS else "bilinear")
