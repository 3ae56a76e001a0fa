"""A camera of a calibration file, and how points and directions fall into its picture.

    point x of a sensor      X = T x (4x4, sensor to camera),   pixel = K X / X_z      where X_z > 0
    direction of a sensor    the same without T's shift: what is far away, and what has no known distance

A pixel's centre has whole coordinates (OpenCV's convention, which calibrations follow), so points go to the nearest
whole ones. The calibration is JSON: intrinsics.NAME.K (3x3) and extrinsics.NAME (4x4), as MUSES has it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from egformer_fast.errors import DataError


@dataclass(frozen=True)
class Hits:
    """Which of N points fall into the picture: index (n,) into them, and their row and column (n,) int64."""

    index: np.ndarray
    row: np.ndarray
    column: np.ndarray


class Calibration:
    """The calibration file of this name in the nearest folder above `path`.

    Raises DataError: there is none, it is not JSON, or a matrix is absent or of another shape.
    """

    def __init__(self, path: Path, name: str) -> None:
        found = next((folder / name for folder in path.parents if (folder / name).is_file()), None)
        if found is None:
            raise DataError(f"{path}: no {name} in any folder above it; its projection needs that")
        self.file = found
        self._content = _load(found, found.stat().st_mtime_ns)

    def intrinsics(self, camera: str) -> np.ndarray:
        """(3, 3) float64."""
        return self._matrix(("intrinsics", camera, "K"), 3)

    def extrinsics(self, name: str) -> np.ndarray:
        """(4, 4) float64."""
        return self._matrix(("extrinsics", name), 4)

    def _matrix(self, keys: tuple[str, ...], side: int) -> np.ndarray:
        here: Any = self._content
        for key in keys:
            here = here.get(key) if isinstance(here, dict) else None
        try:
            matrix = np.array(here, np.float64)
        except (TypeError, ValueError):
            matrix = np.empty(0)
        if matrix.shape != (side, side) or not np.isfinite(matrix).all():
            raise DataError(f"{self.file}: {'.'.join(keys)}: wanted {side}x{side} numbers; found {here!r}")
        return matrix


@lru_cache(maxsize=16)
def _load(path: Path, changed: int) -> Any:
    """`changed` is the time of the file's last change, so that a mended file is read anew."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from error


def project(points: np.ndarray, transform: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]) -> Hits:
    """points: (N, 3), transform: (4, 4) to the camera (z forward), intrinsics: (3, 3); size: (height, width)."""
    return look(points @ transform[:3, :3].T + transform[:3, 3], intrinsics, size)


def look(rays: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]) -> Hits:
    """rays: (N, 3) in the camera's frame. What lies behind the camera is not seen."""
    front = np.flatnonzero(np.isfinite(rays).all(1) & (rays[:, 2] > 0))
    pixels = rays[front] @ intrinsics.T
    # Points just in front of the lens fall anywhere: bounded, so that they do not overflow as whole numbers.
    place = np.clip(pixels[:, :2] / pixels[:, 2:], -1e6, 1e6)
    column, row = np.rint(place).astype(np.int64).T
    inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
    return Hits(front[inside], row[inside], column[inside])


def paint(hits: Hits, values: np.ndarray, front: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, H, W) float32, 0 where nothing falls.

    values: (N, C) of all points. front: (N,), of the points in one pixel the one with the largest is seen.
    """
    order = np.argsort(front[hits.index], kind="stable")
    image = np.zeros((values.shape[1], *size), np.float32)
    # Of repeated places the last one stays.
    image[:, hits.row[order], hits.column[order]] = values[hits.index[order]].T
    return image
