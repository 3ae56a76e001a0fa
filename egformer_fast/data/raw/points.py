"""LiDAR points: a file of float64 rows [x, y, z, intensity, ...] in metres, in the LiDAR's frame.

Picture: [distance, intensity, height z], of the nearest point in each pixel. Not corrected for the car's motion while
the sensor turns.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from egformer_fast.errors import DataError

from .camera import Calibration, paint, project
from .projection import Projection


def read_points(path: Path, columns: int) -> np.ndarray:
    """(N, columns) float64. Raises DataError where the file is no whole number of rows."""
    content = path.read_bytes()
    if not content or len(content) % (8 * columns):
        raise DataError(
            f"{path}: wanted rows of {columns} float64 numbers ({8 * columns} bytes), found {len(content)} bytes"
        )
    return np.frombuffer(content, np.float64).reshape(-1, columns)


def picture(path: Path, spec: Projection) -> np.ndarray:
    """(3, H, W) float32."""
    calibration = Calibration(path, spec.calibration)
    points = read_points(path, spec.columns)
    distance = np.linalg.norm(points[:, :3], axis=1)
    near, far = spec.distances
    # NaN is not within any distances.
    points, distance = (array[(distance >= near) & (distance <= far)] for array in (points, distance))
    hits = project(
        points[:, :3], calibration.extrinsics(spec.extrinsics), calibration.intrinsics(spec.camera), spec.size
    )
    return paint(hits, np.column_stack([distance, points[:, 3], points[:, 2]]), -distance, spec.size)
