"""Events of an event camera: HDF5 with events/x, y, t (microseconds) and p (1 brighter, 0 darker).

Picture: [brighter, darker, 0], the number of events of the `window_ms` before the file's last event, which stands for
the frame's time. An event has no distance: it goes where a point far away in its direction goes, K_camera R K_event^-1
of its pixel, R the turn from event camera to camera. (Rectifying both cameras and undoing it for one amounts to that:
the two rectifying turns differ by R.) Needs h5py, and hdf5plugin where one of its filters compressed the file.

Times are unsigned in MUSES and start at 0: subtracting the window from them in their own type wraps round and selects
no event at all. They are made signed first.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from egformer_fast.errors import DataError

from .camera import Calibration, look
from .projection import Projection

FIELDS = ("x", "y", "t", "p")


def read_events(path: Path) -> dict[str, np.ndarray]:
    """x, y, t (int64), p (bool: brighter), each (N,).

    Raises ImportError without h5py; DataError naming the file: not HDF5, a field absent, of unequal lengths.
    """
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            events = {field: file[f"events/{field}"][:] for field in FIELDS}
    # h5py raises OSError for broken files and absent filters, KeyError for absent fields.
    except (OSError, KeyError, AttributeError, TypeError) as error:
        hint = "" if _has_filters() else " (hdf5plugin is not installed; files compressed by its filters need it)"
        raise DataError(f"{path}: cannot be read as events: {error}{hint}") from error
    lengths = {field: array.shape for field, array in events.items()}
    if len(set(lengths.values())) != 1 or events["x"].ndim != 1:
        raise DataError(f"{path}: wanted events/x, y, t, p of one length, found {lengths}")
    whole = {field: events[field].astype(np.int64) for field in ("x", "y", "t")}
    return {**whole, "p": events["p"] > 0}


def picture(path: Path, spec: Projection) -> np.ndarray:
    """(3, H, W) float32."""
    calibration = Calibration(path, spec.calibration)
    event_k, camera_k = calibration.intrinsics(spec.sensor), calibration.intrinsics(spec.camera)
    events = read_events(path)
    time = events["t"]
    recent = np.flatnonzero(time > time.max(initial=0) - spec.window_ms * 1000)
    pixels = np.column_stack([events["x"][recent], events["y"][recent], np.ones(len(recent))])
    turn = calibration.extrinsics(spec.extrinsics)[:3, :3] @ np.linalg.inv(event_k)
    hits = look(pixels @ turn.T, camera_k, spec.size)
    counts = np.zeros((3, *spec.size), np.float32)
    darker = ~events["p"][recent][hits.index]
    np.add.at(counts, (darker.astype(int), hits.row, hits.column), 1)
    return counts


def _h5py() -> Any:
    _has_filters()
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "event files (.h5) need h5py, which is not installed: pip install 'egformer-fast[events]'"
        ) from error
    return h5py


def _has_filters() -> bool:
    """Importing hdf5plugin registers its filters."""
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401

        return True
    return False
