"""How a map is shown to people, whatever its sensor measures."""

from __future__ import annotations

import numpy as np


def displayed(image: np.ndarray, kind: str) -> np.ndarray:
    """float (C, H, W) -> uint8 (H, W, 3): one channel as grey, of several the first three."""
    finite = image[np.isfinite(image)]
    low, high = 0.0, 1.0
    if kind != "rgb" and finite.size:
        low, high = np.percentile(finite, (1, 99))
        low, high = (low, high) if low < high else (finite.min(), finite.max())
    shown = np.nan_to_num((image[:3] - low) / max(high - low, 1e-12), nan=0.0, posinf=1.0, neginf=0.0)
    shown = (np.clip(shown, 0, 1) * 255).round().astype(np.uint8)
    if len(shown) == 1:
        shown = shown.repeat(3, axis=0)
    return np.pad(shown, ((0, 3 - len(shown)), (0, 0), (0, 0))).transpose(1, 2, 0)
