"""A DELIVER of a few frames of 8x8 pixels, in the exact layout of the published set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from toy_files import image, save

SIZE = 8
# Weather, split, folder of the place (a failure is a word in it), file number.
FRAMES = (
    ("rain", "train", "MAP_1_point1", "000010"),
    ("sun", "train", "MAP_1_point2_eventlowres", "000020"),
    ("cloud", "val", "MAP_2_point3_lidarjitter", "000030"),
    ("rain", "val", "MAP_2_point4", "000040"),
    ("night", "test", "MAP_3_point5_motionblur", "000050"),
)
KINDS = {"img": "rgb", "hha": "depth", "depth": "depth", "event": "event", "lidar": "lidar", "semantic": "semantic"}


def path_of(root: Path, folder: str, frame: tuple[str, str, str, str]) -> Path:
    weather, split, place, number = frame
    return root / folder / weather / split / place / f"{number}_{KINDS[folder]}_front.png"


def write(root: Path) -> dict[tuple[str, str], np.ndarray]:
    """All files; returns what is in them by (folder, file number), (H, W, C) or (H, W)."""
    content = {}
    for frame in FRAMES:
        side = SIZE // 2 if "eventlowres" in frame[2] else SIZE
        arrays = {
            "img": image(SIZE, SIZE, 4),
            "hha": image(SIZE, SIZE, 3),
            "depth": image(SIZE, SIZE),
            "event": image(side, side, 3),
            "lidar": image(SIZE, SIZE, 3),
            "semantic": label(),
        }
        for folder, array in arrays.items():
            save(path_of(root, folder, frame), array)
            content[folder, frame[3]] = array
    return content


def label() -> np.ndarray:
    """Every stored value once or more: 0 and 255 are void, 1 to 25 are classes. (H, W) uint8."""
    values = np.append(np.arange(26), 255).astype(np.uint8)
    return np.resize(values, (SIZE, SIZE))


def colour_label(path: Path) -> np.ndarray:
    """Rewrite a label as the simulator stores it, the class in the red channel of four; returns (H, W)."""
    red = label()
    rest = np.zeros((SIZE, SIZE, 2), np.uint8) + 77
    alpha = np.full((SIZE, SIZE, 1), 255, np.uint8)
    Image.fromarray(np.concatenate([red[..., None], rest, alpha], 2)).save(path)
    return red
