"""One frame from (seed, split, index) and a domain: the same numbers give the same pictures, whatever was drawn before.

np.random.default_rng((seed, split, index)) draws the street (another domain adds numbers of its own to the key), and
each sensor has a stream of its own beside it, so one street can be seen in every weather and size, and a failure of one
sensor leaves the others' bytes alone. Index decides weather, kind of street and failure in a fixed pattern that meets
all combinations: slot = index mod n of the n weathers in the domain's mix, k = index div n, map = 1 + (k + slot) mod 5;
every third k has a failure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import sensors
from .domain import HOME, Domain
from .geometry import SolidTable
from .raycast import cast
from .shading import Surface, render
from .street import MAPS, draw_scene
from .weather import FAILURES

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Case:
    """What kind of frame an index stands for; `failure` is "" when all sensors work."""

    weather: str
    failure: str
    map: int
    point: int


@dataclass
class Frame:
    """Pictures of one moment: rgb, depth, event, lidar (H, W, 3) and label (H, W), all uint8; label holds the class."""

    rgb: np.ndarray
    depth: np.ndarray
    event: np.ndarray
    lidar: np.ndarray
    label: np.ndarray


def case_of(index: int, domain: Domain = HOME) -> Case:
    """Weather, failure and place of frame `index` of any split."""
    if index < 0:
        raise ValueError(f"frame index must be >= 0, found {index}")
    point, slot = divmod(index, len(domain.mix))
    failure = FAILURES[(point // 3 + slot) % len(FAILURES)] if point % 3 == 2 else ""
    return Case(domain.mix[slot], failure, 1 + (point + slot) % MAPS, point)


def draw_frame(
    seed: int,
    split: str,
    index: int,
    size: tuple[int, int] = (256, 256),
    case: Case | None = None,
    domain: Domain = HOME,
) -> Frame:
    """Draw one frame of height and width `size`; `case` overrides the index's own weather, failure and street.

    Raises ValueError for an unknown split or a size below 32.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, found {split!r}")
    if min(size) < 32:
        raise ValueError(f"height and width must be at least 32 pixels, found {size[0]} x {size[1]}")
    case = case or case_of(index, domain)
    key = (seed, SPLITS.index(split), index, *domain.stream)
    scene = draw_scene(np.random.default_rng(key), case.map, domain)
    weather, hardware = domain.weathers[case.weather], domain.hardware
    streams = [np.random.default_rng((*key, sensor)) for sensor in range(1, 5)]
    table = SolidTable(scene.solids)
    view = cast(scene, table, *size)
    surface = Surface(scene, table, view)
    radiance = render(scene, table, view, surface, weather)
    return Frame(
        rgb=sensors.rgb(radiance, weather, case.failure, streams[0], hardware),
        depth=sensors.depth(view, weather, streams[1], hardware),
        event=sensors.event(scene, table, view, radiance, weather, case.failure, streams[2], hardware),
        lidar=sensors.lidar(scene, view, surface, weather, case.failure, streams[3], hardware),
        label=view.label,
    )
