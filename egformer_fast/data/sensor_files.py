"""One sensor's file, or its several files, to one array: what a modality of a description says about reading.

picture, files of the {part}s, or raw recording -> (C, H, W) in the files' dtype -> cut -> angles doubled
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from egformer_fast.errors import DataError

from .modality import Modality
from .polarisation import doubled
from .raw import read_raw
from .reading import read_map

NO_CUT = (0, 0, 0, 0)


def files_of(path: Path, sensor: Modality) -> list[Path]:
    """The files that a frame's path stands for: one for each part, where it has {part} in it."""
    return [Path(str(path).replace("{part}", part)) for part in sensor.parts] or [path]


def is_there(path: Path, sensor: Modality | None) -> bool:
    """Whether all of its files exist; sensor None: a label."""
    return all(file.is_file() for file in (files_of(path, sensor) if sensor else [path]))


def read_sensor(path: Path, sensor: Modality, cut: Sequence[int] = NO_CUT) -> np.ndarray:
    """A sensor's frame as (C, H, W), unscaled; not to be written to.

    Args:
        cut: pixels to leave out at the left, right, top and bottom.

    Raises DataError naming the file: as read_map, parts of different sizes, nothing left by the cut, no angle.
    """
    files = files_of(path, sensor)
    if sensor.project:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        return _finished(read_raw(path, sensor.project), path, sensor, cut)
    if not sensor.parts:
        return _finished(read_map(path, sensor.channels, sensor.select), path, sensor, cut)
    planes = [read_map(file, sensor.channels // len(files)) for file in files]
    for file, plane in zip(files, planes, strict=True):
        if plane.shape != planes[0].shape:
            raise DataError(f"{file}: {_size(plane)} pixels (height x width), but {files[0]} has {_size(planes[0])}")
    return _finished(np.concatenate(planes), path, sensor, cut)


def trimmed(array: np.ndarray, cut: Sequence[int], path: Path) -> np.ndarray:
    """(..., H, W) without `cut` pixels at the left, right, top and bottom. Raises DataError where nothing is left."""
    left, right, top, bottom = cut
    height, width = array.shape[-2:]
    if left + right >= width or top + bottom >= height:
        raise DataError(f"{path}: {_size(array)} pixels (height x width), nothing left after `cut` of {tuple(cut)}")
    return array[..., top : height - bottom, left : width - right]


def _finished(image: np.ndarray, path: Path, sensor: Modality, cut: Sequence[int]) -> np.ndarray:
    image = trimmed(image, cut, path)
    return doubled(image, path) if sensor.angle == "once" else image


def _size(array: np.ndarray) -> str:
    return f"{array.shape[-2]}x{array.shape[-1]}"
