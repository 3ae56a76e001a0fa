"""Textures from numbers: a lattice hash and a smooth value noise, both pure functions of position.

Position decides the value, so a texture sticks to its surface and does not depend on the picture's size or the frame's
random stream.
"""

from __future__ import annotations

import numpy as np

_SIDE = 64
_TABLE = np.random.default_rng(7).random((_SIDE, _SIDE), dtype=np.float32).ravel()


def lattice_hash(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Uniform value in [0, 1) for each integer cell floor(x), floor(y), floor(z); float arrays in, float32 out."""
    cells = [np.floor(v).astype(np.int32).astype(np.uint32) for v in (x, y, z)]
    mixed = cells[0] * np.uint32(0x8DA6B343) ^ cells[1] * np.uint32(0xD8163841) ^ cells[2] * np.uint32(0xCB1AB31F)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0x5BD1E995)
    mixed ^= mixed >> np.uint32(15)
    return (mixed & np.uint32(0xFFFF)).astype(np.float32) / np.float32(65536)


def value_noise(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear value noise in [0, 1], lattice spacing 1, repeating every 64 units; float32."""
    floor_x, floor_y = np.floor(x), np.floor(y)
    fx, fy = (x - floor_x).astype(np.float32), (y - floor_y).astype(np.float32)
    x0, y0 = floor_x.astype(np.int32) & (_SIDE - 1), (floor_y.astype(np.int32) & (_SIDE - 1)) * _SIDE
    x1, y1 = (x0 + 1) & (_SIDE - 1), (y0 + _SIDE) & (_SIDE * _SIDE - 1)
    top = _TABLE[y0 + x0] * (1 - fx) + _TABLE[y0 + x1] * fx
    bottom = _TABLE[y1 + x0] * (1 - fx) + _TABLE[y1 + x1] * fx
    return top * (1 - fy) + bottom * fy
