"""An MCubeS of a few frames of 6x200 pixels, in the exact layout of the published set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from toy_files import RNG, image, save

HEIGHT, WIDTH = 6, 200
LISTS = {
    "train": ["outscene1_0000000150", "outscene1_0000000180"],
    "val": ["outscene2_0000000030"],
    "test": ["inscene3_7"],
}


def write(root: Path, twice: bool = False) -> dict[tuple[str, str], np.ndarray]:
    """All files; returns what is in them by (folder, frame), and under "angle" the angles in radians."""
    content = {}
    (root / "list_folder").mkdir(parents=True)
    for split, names in LISTS.items():
        (root / f"list_folder/{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            angle = RNG.uniform(0, np.pi, (HEIGHT, WIDTH))
            stored = 2 * angle if twice else angle
            arrays = {
                "polL_color": image(HEIGHT, WIDTH, 3),
                "polL_aolp_sin": np.sin(stored).astype(np.float32),
                "polL_aolp_cos": np.cos(stored).astype(np.float32),
                "polL_dolp": RNG.uniform(-0.01, 1, (HEIGHT, WIDTH)),
                "NIR_warped": RNG.integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16),
                "GT": np.append(np.arange(20), 255).astype(np.uint8)[RNG.integers(0, 21, (HEIGHT, WIDTH))],
            }
            for folder, array in arrays.items():
                npy = folder.startswith(("polL_aolp", "polL_dolp"))
                save(root / folder / f"{name}.{'npy' if npy else 'png'}", array)
                content[folder, name] = array
            content["angle", name] = angle
    return content
