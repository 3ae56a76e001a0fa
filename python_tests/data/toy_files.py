"""Small data sets on disk for the tests of egformer_fast.data."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

RNG = np.random.default_rng(0)


def describe(folder: Path, **changes: Any) -> Path:
    """A description in the folder; modalities and label given by keyword replace the default ones."""
    content = {
        "modalities": {"a": {"path": "a/{split}/{id}.png", "kind": "sar"}},
        "label": {"path": "label/{split}/{id}.png"},
        "classes": ["x", "y"],
        "splits": {"train": None},
    } | changes
    path = folder / "toy.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)
    return path


def image(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def toy(root: Path, names: tuple[str, ...] = ("1", "2"), size: tuple[int, int] = (4, 6)) -> Path:
    for name in names:
        save(root / f"a/train/{name}.png", image(*size))
        save(root / f"label/train/{name}.png", image(*size) % 2)
    return describe(root)


def png(width: int, bits: int, colour_type: int, lines: np.ndarray, line_filter: int = 0) -> bytes:
    """A PNG of coded lines (H, bytes) uint8, every line with the same filter."""
    header = struct.pack(">IIBBBBB", width, len(lines), bits, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(bytes([line_filter]) + line.tobytes() for line in lines))
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    framed = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def png16(array: np.ndarray, colour_type: int, line_filter: int = 0) -> bytes:
    """A 16-bit PNG of (H, W, channels) uint16; filters: 0 none, 1 less the pixel to the left, 2 less the one above."""
    height, width, channels = array.shape
    lines = array.astype(">u2").reshape(height, -1).view(np.uint8)
    left = np.pad(lines, ((0, 0), (channels * 2, 0)))[:, : lines.shape[1]]
    above = np.pad(lines, ((1, 0), (0, 0)))[:-1]
    return png(width, 16, colour_type, lines - (np.zeros_like(lines), left, above)[line_filter], line_filter)
