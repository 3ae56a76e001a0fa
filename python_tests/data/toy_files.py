"""Small data sets on disk for the tests of egformer_fast.data."""

from __future__ import annotations

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
