"""A turning radar's sweep as MUSES stores it: an 8-bit picture, one column an azimuth, one row a range bin.

    rows 0 to 10    header: time stamps, encoder, and in row 10 whether the azimuth is valid
    row 11 + i      echo at distance (i + 1) · 0.0438 m
    column j        azimuth -(-180 + 0.9 (j + 1)) degrees of 400: x forward, y to the left

A radar of this kind knows no heights: its echoes are put on the road, 1.62 m below it. Picture: [distance, strength, 0]
of the strongest echo in each pixel. Not corrected for the car's motion while the sensor turns.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from egformer_fast.errors import DataError

from ..reading import read_map
from .camera import Calibration, paint, project
from .projection import Projection

AZIMUTHS, HEADER, VALID_ROW = 400, 11, 10
BIN, HEIGHT = 0.0438, -1.62


def read_echoes(path: Path, near: float, far: float) -> np.ndarray:
    """(N, 4) float64 [x, y, z, strength], strength 1 to 255, of valid azimuths. Raises DataError for another shape."""
    sweep = read_map(path, 1, (0,))[0]
    if sweep.dtype != np.uint8 or sweep.shape[1] != AZIMUTHS or sweep.shape[0] <= HEADER:
        raise DataError(
            f"{path}: wanted an 8-bit picture of {AZIMUTHS} columns and more than {HEADER} rows, found {sweep.dtype} of"
            f" {sweep.shape}"
        )
    echoes = np.where(sweep[VALID_ROW] > 0, sweep[HEADER:], 0)
    distances = BIN * np.arange(1, len(echoes) + 1)
    row, column = np.nonzero(echoes * ((distances >= near) & (distances <= far))[:, None])
    distance, azimuth = distances[row], np.deg2rad(180 - 360 / AZIMUTHS * (column + 1))
    x, y = distance * np.cos(azimuth), distance * np.sin(azimuth)
    return np.column_stack([x, y, np.full(len(x), HEIGHT), echoes[row, column]])


def picture(path: Path, spec: Projection) -> np.ndarray:
    """(3, H, W) float32."""
    calibration = Calibration(path, spec.calibration)
    echoes = read_echoes(path, *spec.distances)
    distance = np.linalg.norm(echoes[:, :3], axis=1)
    hits = project(
        echoes[:, :3], calibration.extrinsics(spec.extrinsics), calibration.intrinsics(spec.camera), spec.size
    )
    values = np.column_stack([distance, echoes[:, 3], np.zeros(len(echoes))])
    return paint(hits, values, echoes[:, 3], spec.size)
