"""The raw files of a MUSES of a few frames: calib.json, points, a radar sweep, events."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from miniature_muses import FRAMES, HEIGHT, WIDTH, Content, path_of, write_frames
from toy_files import save

# x forward, y to the left, z up -> the camera's x right, y down, z forward.
FORWARD = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
K = np.array([[10, 0, 8], [0, 10, 6], [0, 0, 1]], float)


def calibration(root: Path, **extrinsics: np.ndarray) -> Path:
    """An event camera of half the resolution at the camera's place; keywords replace matrices."""
    half = K * [[0.5], [0.5], [1]]
    matrices = {"lidar2rgb": FORWARD, "radar2rgb": FORWARD, "event2rgb": np.eye(4)} | extrinsics
    content = {
        "intrinsics": {"rgb": {"K": K.tolist()}, "event": {"K": half.tolist()}},
        "extrinsics": {name: matrix.tolist() for name, matrix in matrices.items()},
    }
    path = root / "calib.json"
    path.write_text(json.dumps(content))
    return path


def write_points(path: Path, points: list[list[float]]) -> Path:
    """Rows x, y, z, intensity; ring and time are made up."""
    rows = np.array([[*point, 0, 1.6e9] for point in points], np.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rows.tobytes())
    return path


def write_sweep(
    path: Path, echoes: list[tuple[int, int, int]], invalid: tuple[int, ...] = (), bins: int = 4000
) -> Path:
    """echoes: (bin, azimuth column, strength)."""
    sweep = np.zeros((11 + bins, 400), np.uint8)
    # Time stamps and encoder are no echoes.
    sweep[:10] = 77
    sweep[10] = 255
    sweep[10, list(invalid)] = 0
    for place, column, strength in echoes:
        sweep[11 + place, column] = strength
    return save(path, sweep)


def write_events(path: Path, events: list[tuple[int, int, int, int]]) -> Path:
    """events: (x, y, microseconds, polarity), in the types of the published files."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.array(events, np.int64).reshape(-1, 4).T
    with h5py.File(path, "w") as file:
        for name, column, dtype in zip("xytp", columns, ("uint16", "uint16", "uint32", "uint8"), strict=True):
            file.create_dataset(f"events/{name}", data=column.astype(dtype), compression="gzip")
    return path


def write(root: Path) -> Content:
    """A whole set; the picture's size is to be given as 12x16."""
    content = write_frames(root)
    calibration(root)
    for frame in FRAMES:
        write_points(path_of(root, "lidar", frame, "lidar.bin"), [[10, 0, 0, 50]])
        write_sweep(path_of(root, "radar", frame, "radar.png"), [(455, 199, 90)])
        write_events(path_of(root, "event_camera", frame, "event_camera.h5"), [(4, 3, 100, 1)])
    return content


DESCRIPTION = f"""extends: muses_raw
modalities:
  event: {{project: {{size: [{HEIGHT}, {WIDTH}]}}}}
  lidar: {{project: {{size: [{HEIGHT}, {WIDTH}]}}}}
  radar: {{project: {{size: [{HEIGHT}, {WIDTH}]}}}}
"""
