"""A MUSES of a few frames of 12x16 pixels: what the authors' tools write, and the raw files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from toy_files import RNG, image, png16, save

HEIGHT, WIDTH = 12, 16
# Split, weather, time of day, name.
FRAMES = (
    ("train", "clear", "day", "REC0006_frame_042692"),
    ("train", "rain", "night", "REC0007_frame_000001"),
    ("val", "fog", "day", "REC0008_frame_000002"),
    ("test", "snow", "night", "REC0009_frame_000003"),
)
Frame = tuple[str, str, str, str]
Content = dict[tuple[str, str], np.ndarray]


def path_of(root: Path, folder: str, frame: Frame, ending: str) -> Path:
    split, weather, time, name = frame
    path = root / folder / split / weather / time / f"{name}_{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_frames(root: Path) -> Content:
    """RGB and labels; the labels of the test split are hidden."""
    content = {}
    for frame in FRAMES:
        content["rgb", frame[3]] = image(HEIGHT, WIDTH, 3)
        content["label", frame[3]] = np.append(np.arange(19), 255).astype(np.uint8)[
            RNG.integers(0, 20, (HEIGHT, WIDTH))
        ]
        save(path_of(root, "frame_camera", frame, "frame_camera.png"), content["rgb", frame[3]])
        if frame[0] != "test":
            save(path_of(root, "gt_semantic", frame, "gt_labelTrainIds.png"), content["label", frame[3]])
    return content


def write_projected(root: Path, ending: str) -> Content:
    """As the tools write them; returns the values that were meant: (H, W, 3) by (sensor, name)."""
    content = write_frames(root)
    for frame in FRAMES:
        sparse = RNG.random((HEIGHT, WIDTH, 1)) < 0.3
        # Values that the 16-bit coding keeps: multiples of 1/150.
        lidar = np.where(sparse, RNG.integers(-1500, 30000, (HEIGHT, WIDTH, 3)) / 150, 0).astype(np.float32)
        radar = lidar * np.float32([1, 1, 0])
        events = np.where(sparse, RNG.integers(0, 9, (HEIGHT, WIDTH, 3)) * [1, 1, 0], 0).astype(np.uint8)
        for sensor, array in (("lidar", lidar), ("radar", radar), ("event", events)):
            stem = "event_camera" if sensor == "event" else sensor
            path = path_of(root, f"projected_to_rgb/{stem}", frame, f"{stem}.{ending}")
            content[sensor, frame[3]] = array
            if ending == "npz":
                np.savez_compressed(path, array)
            elif sensor == "event":
                save(path, array[..., ::-1])
            else:
                # OpenCV takes the channels for blue, green, red.
                path.write_bytes(png16(((array + 100) * 150).round().astype(np.uint16)[..., ::-1], 2))
    return content
