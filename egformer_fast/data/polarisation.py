"""Angles of linear polarisation, held as (sin 2p, cos 2p) of the angle p.

A polarisation angle has no direction: p and p + 180 degrees are the same light. Only sine and cosine of twice the angle
are one number for one light; sin p and cos p jump where p wraps round, so that mirroring and bilinear resampling give
angles that were never there. Files of either coding are read to (sin 2p, cos 2p):

    once    sin 2p = 2 sin p cos p,   cos 2p = cos^2 p - sin^2 p
    twice   the files hold it already

Moving the picture turns the light with it, whichever way up the angle is counted:

    mirrored left-right, or top-bottom    p -> -p             sin 2p -> -sin 2p
    turned by a quarter, either way       p -> p +- 90 deg    both change sign
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from egformer_fast.errors import DataError

ANGLES = ("once", "twice")
_NOISE = 1e-3


def doubled(image: np.ndarray, path: Path) -> np.ndarray:
    """(sin p, cos p), (2, H, W) float -> (sin 2p, cos 2p) float32.

    Raises DataError where the file cannot be sine and cosine of p: outside -1 to 1, or both negative somewhere in the
    frame (p covers a half circle, so one of the two has one sign).
    """
    sine, cosine = image.astype(np.float32)
    lowest = [np.min(plane, where=np.isfinite(plane), initial=0) for plane in (sine, cosine)]
    if np.max(np.abs(image), where=np.isfinite(image), initial=0) > 1 + _NOISE:
        raise DataError(f"{path}: sine or cosine of an angle is outside -1 to 1")
    if max(lowest) < -_NOISE:
        raise DataError(
            f"{path}: sine and cosine both have both signs, so they are of twice the angle of polarisation; say"
            " `angle: twice` in the description"
        )
    return np.stack([2 * sine * cosine, cosine**2 - sine**2])


def signs(flips: int, quarter_turns: int) -> np.ndarray:
    """(2, 1, 1) float32: factors of (sin 2p, cos 2p) after so many mirrorings and quarter turns."""
    turned = (-1) ** quarter_turns
    return np.array([turned * (-1) ** flips, turned], np.float32)[:, None, None]
