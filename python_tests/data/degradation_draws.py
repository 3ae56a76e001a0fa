"""Images for the tests of degradations, and a degradation drawn from many seeds."""

from __future__ import annotations

import numpy as np

from egformer_fast.data.degradations import FROM_ANOTHER, degrade

SEEDS = range(200)


def picture(height: int = 16, width: int = 20, channels: int = 3) -> np.ndarray:
    """Waves between 0.1 and 0.9, of no generator: no two channels alike."""
    channel, row, column = np.indices((channels, height, width), dtype=np.float32)
    return 0.5 + 0.4 * np.sin(0.3 * row + 0.5 * column + channel, dtype=np.float32)


def scan(height: int = 16, width: int = 20, channels: int = 3) -> np.ndarray:
    """Returns in every second row and third column."""
    returns = np.zeros((channels, height, width), np.float32)
    returns[:, ::2, ::3] = picture(height, width, channels)[:, ::2, ::3]
    return returns


def draws(name: str, image: np.ndarray, kind: str, count: int = len(SEEDS)) -> list[np.ndarray]:
    other = image[..., ::-1] if name in FROM_ANOTHER else None
    return [degrade(name, image, kind, np.random.default_rng(seed), other) for seed in range(count)]
