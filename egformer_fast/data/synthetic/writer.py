"""Writes frames into DELIVER's folders, so that its loaders and ours read them alike.

    {img,hha,lidar,event,semantic}/{weather}/{split}/MAP_x_pointY[_failure]/NNNNNN_{rgb,depth,lidar,event,semantic}_front.png
A failure shows in the folder's name, as in DELIVER; no suffix means that all sensors work. Read weather and failure
from whole path parts: "rain" is also in "train". `depth` lies under hha/ and is plain depth (sensors.py has the codes).
The label is one 8-bit channel of class + 1; 0 and 255 are void. A PNG gets its name when it is whole (written beside,
then moved), so a kill or a full disk leaves no half picture, and the label comes last.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from egformer_fast.files import write_whole

from .frame import SPLITS, Case, Frame, case_of

FOLDERS = {
    "rgb": ("img", "rgb"),
    "depth": ("hha", "depth"),
    "event": ("event", "event"),
    "lidar": ("lidar", "lidar"),
    "label": ("semantic", "semantic"),
}
_COMPRESSION = 4


def frame_paths(root: Path, split: str, index: int, case: Case | None = None) -> dict[str, Path]:
    """Files of a frame by picture name: rgb, depth, event, lidar, label. ValueError for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, found {split!r}")
    case = case or case_of(index)
    place = f"MAP_{case.map}_point{case.point}" + (f"_{case.failure}" if case.failure else "")
    middle = Path(case.weather, split, place)
    return {name: root / folder / middle / f"{index:06d}_{kind}_front.png" for name, (folder, kind) in FOLDERS.items()}


def png_bytes(picture: np.ndarray) -> bytes:
    """PNG of a uint8 picture (H, W) or (H, W, 3)."""
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()


def write_frame(root: Path, split: str, index: int, frame: Frame, case: Case | None = None) -> None:
    """Write the five pictures of a frame, the label last."""
    for name, path in frame_paths(root, split, index, case).items():
        picture = frame.label + np.uint8(1) if name == "label" else getattr(frame, name)
        write_whole(path, png_bytes(picture))


def is_written(root: Path, split: str, index: int, case: Case | None = None) -> bool:
    """True when all five files of the frame exist."""
    return all(path.is_file() for path in frame_paths(root, split, index, case).values())
