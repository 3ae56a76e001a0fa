"""The key `project` of a modality: which raw format its files have, and how they fall into the camera's picture.

project:
  format: points               points (LiDAR), radar or events
  size: [1080, 1920]           height and width of the camera's own picture, in whose pixels `intrinsics` is. A label
                               of another size: `resize: nearest` beside `project`, not a smaller size here
  calibration: calib.json      found in the nearest folder above a file (default calib.json)
  camera: rgb                  its name in `intrinsics` of the calibration (default rgb)
  extrinsics: lidar2rgb        name of the 4x4 matrix from the sensor to the camera
  columns: 6                   points: float64 numbers a point (default 6)
  distances: [1, 200]          points, radar: metres that are kept (default [1, 1000])
  sensor: event                events: the event camera's name in `intrinsics` (default event)
  window_ms: 30                events: how far back before the last one (default 30)
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..section import Section

FORMATS = ("points", "radar", "events")


@dataclass(frozen=True)
class Projection:
    """See the head of this file. size: (height, width). distances: (nearest, farthest)."""

    format: str
    size: tuple[int, int]
    calibration: str
    camera: str
    extrinsics: str
    columns: int
    distances: tuple[float, float]
    sensor: str
    window_ms: float


def read_projection(section: Section) -> Projection:
    """From the mapping under `project`. Raises DataError naming file and key."""
    size = section.integers("size", ())
    if len(size) != 2 or min(size) < 1:
        raise section.error("size", "wanted height and width in pixels", list(size))
    near, far = section.numbers("distances", 2, (1.0, 1000.0))
    if not 0 <= near < far:
        raise section.error("distances", "wanted two distances in metres, the smaller first", [near, far])
    columns = section.integer("columns", 6)
    if columns < 4:
        raise section.error("columns", "wanted 4 or more: x, y, z, intensity", columns)
    window = section.number("window_ms", 30.0)
    if window <= 0:
        raise section.error("window_ms", "wanted more than 0", window)
    return Projection(
        format=str(section.choice("format", FORMATS)),
        size=(size[0], size[1]),
        calibration=section.text("calibration", "calib.json"),
        camera=section.text("camera", "rgb"),
        extrinsics=section.text("extrinsics"),
        columns=columns,
        distances=(near, far),
        sensor=section.text("sensor", "event"),
        window_ms=window,
    )


def read_raw(path: Path, spec: Projection) -> np.ndarray:
    """(3, H, W) float32 of a raw file.

    Raises DataError naming the file that is wrong: the raw one, or its calibration; ImportError: see events.py.
    """
    # Loaded by name: h5py and its like are asked for only by who has such files.
    picture: np.ndarray = importlib.import_module(f"{__package__}.{spec.format}").picture(path, spec)
    return picture
