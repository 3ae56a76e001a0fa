"""A small described data set and what training leaves behind of a small model, for tests of the commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from egformer_fast.models import egformer_b0
from egformer_fast.train.config import Config
from egformer_fast.train.config_file import save_config

DESCRIPTION = """
name: tiny
modalities:
  rgb: {path: "{split}/rgb/{id}.png", kind: rgb, optional: true}
  depth: {path: "{split}/depth/depth_{id}.npy", kind: depth, scale: 4, mean: [0.5], std: [2.0], optional: true}
label: {path: "{split}/label/{id}.png"}
classes: [road, sky, car]
palette: [[128, 64, 128], [70, 130, 180], [0, 0, 142]]
cases: {shaken: f3}
failing: {shaken: rgb}
splits: {train: train, test: test}
"""
SIZE = (32, 64)


def write_data(root: Path) -> Path:
    """Four test frames: complete, without rgb, without any sensor, complete with an rgb that is said to fail."""
    rng = np.random.default_rng(0)
    for kind in ("rgb", "depth", "label"):
        (root / "test" / kind).mkdir(parents=True)
    for number in range(4):
        label = Image.fromarray(rng.integers(0, 3, SIZE, dtype=np.uint8))
        label.save(root / "test" / "label" / f"f{number}.png")
        if number not in (1, 2):
            image = Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
            image.save(root / "test" / "rgb" / f"f{number}.png")
        if number != 2:
            np.save(root / "test" / "depth" / f"depth_f{number}.npy", rng.random(SIZE, dtype=np.float32) * 4)
    (root / "dataset.yaml").write_text(DESCRIPTION)
    return root


def write_run(folder: Path, data: Path) -> Path:
    """A run folder with a checkpoint."""
    best = folder / "checkpoints" / "best"
    torch.manual_seed(0)
    egformer_b0(3, {"rgb": 3, "depth": 1}, head_dim=32).save_pretrained(best)
    shutil.copy(data / "dataset.yaml", best)
    config = Config()
    config.data.description, config.data.root = "dataset.yaml", str(data)
    save_config(config, folder / "config.yaml")
    return folder
