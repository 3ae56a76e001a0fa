"""NYU Depth V2, MFNet and PST900 of a few frames of 6x8 pixels, in the exact layouts of the published sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from toy_files import RNG, image, save

HEIGHT, WIDTH = 6, 8
Content = dict[tuple[str, str], np.ndarray]


def flat_jpeg(path: Path, value: tuple[int, ...]) -> np.ndarray:
    """A JPEG of one colour, which the codec keeps to a step or two."""
    array = np.full((HEIGHT, WIDTH, len(value)), value, np.uint8).squeeze()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, quality=100)
    return array


def write_nyuv2(root: Path, with_paths: bool) -> Content:
    """with_paths: lists of paths, as DFormer has them; else of names, as CMX has them."""
    content = {}
    names = [f"{number:04}" for number in range(9)]
    for name in names:
        content["RGB", name] = flat_jpeg(root / f"RGB/{name}.jpg", (200, 100, 50))
        content["HHA", name] = flat_jpeg(root / f"HHA/{name}.jpg", (30, 60, 90))
        content["Depth", name] = image(HEIGHT, WIDTH)
        content["Label", name] = RNG.integers(0, 41, (HEIGHT, WIDTH)).astype(np.uint8)
        save(root / f"Depth/{name}.png", content["Depth", name])
        save(root / f"Label/{name}.png", content["Label", name])
    lines = [f"RGB/{name}.jpg Label/{name}.png" if with_paths else name for name in names]
    (root / "train.txt").write_text("\n".join(lines[:7]))
    (root / "test.txt").write_text("\n".join(lines[7:]) + "\n")
    return content


MFNET = {"train": ["00001D", "00002N"], "val": ["00003N"], "test": ["00004D"]}


def write_mfnet(root: Path, folders: bool = False) -> Content:
    content = {}
    for split, names in MFNET.items():
        root.mkdir(exist_ok=True)
        # The published list of training frames names mirrored ones too, which do not come with it.
        mirrored = [f"{name}_flip" for name in names] if split == "train" else []
        (root / f"{split}.txt").write_text("\n".join(names + mirrored) + "\n")
        for name in names:
            if folders:
                content["rgb", name] = flat_jpeg(root / f"rgb/{name}.jpg", (200, 100, 50))
                content["ther", name] = flat_jpeg(root / f"ther/{name}.jpg", (80,))
            else:
                content["images", name] = image(HEIGHT, WIDTH, 4)
                save(root / f"images/{name}.png", content["images", name])
            content["labels", name] = RNG.integers(0, 9, (HEIGHT, WIDTH)).astype(np.uint8)
            save(root / f"labels/{name}.png", content["labels", name])
    return content


def write_pst900(root: Path) -> Content:
    content = {}
    for number in range(9):
        split, name = "test" if number > 6 else "train", f"31_bag1a_rect_rgb_frame{number:010}"
        arrays = {
            "rgb": image(HEIGHT, WIDTH, 3),
            "thermal": image(HEIGHT, WIDTH),
            "thermal_raw": RNG.integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16),
            "depth": RNG.integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16),
            "labels": RNG.integers(0, 5, (HEIGHT, WIDTH)).astype(np.uint8),
        }
        for folder, array in arrays.items():
            save(root / split / folder / f"{name}.png", array)
            content[folder, name] = array
    return content
