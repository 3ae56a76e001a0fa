"""What robustness protocols do to a modality's normalised tensor: zeros, zeros at random, salt and pepper, Gaussian.

    zero_filled(x)          = 0
    randomly_zeroed(x, r)   = 0 in each element, every channel for itself, with probability r, else x       RMM
    salt_and_pepper(x, d)   = max x in n, then min x in another n drawn elements, n = floor(d size / 2)     NM
    gaussian(x, s)          = x + s · N(0, 1)                                                               NM

After 2503.18445, whose code works on normalised tensors; a value of 0 is a modality's mean there, not a dark pixel.
Positions of salt and of pepper are drawn with replacement, so a little less than the density changes. Each draw follows
from (seed, frame, modality, setting) alone: a result depends on no batch, order or number of loading processes.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor


def draws(seed: int, frame: int, modality: str, setting: str) -> np.random.Generator:
    """The generator of one corruption of one modality of one frame. frame: its number in the data set."""
    words = [zlib.crc32(word.encode()) for word in (modality, setting)]
    return np.random.default_rng((seed, frame, *words))


def zero_filled(image: Tensor) -> Tensor:
    """image: any shape -> zeros."""
    return torch.zeros_like(image)


def randomly_zeroed(image: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """image: (C, H, W), each element of which is 0 with probability `share` in what is returned."""
    lost = torch.from_numpy(rng.random(image.shape, np.float32) < share)
    return image.masked_fill(lost.to(image.device), 0)


def salt_and_pepper(image: Tensor, density: float, rng: np.random.Generator) -> Tensor:
    """image: (C, H, W), a share `density` of whose elements is its maximum or minimum in what is returned."""
    salt, pepper = (torch.from_numpy(rng.integers(image.numel(), size=int(density * image.numel() / 2))) for _ in "sp")
    noisy = image.flatten().clone()
    noisy[salt.to(image.device)] = image.max()
    noisy[pepper.to(image.device)] = image.min()
    return noisy.view(image.shape)


def gaussian(image: Tensor, sigma: float, rng: np.random.Generator) -> Tensor:
    """image: (C, H, W), with independent normal noise of standard deviation `sigma` in what is returned."""
    noise = torch.from_numpy(rng.standard_normal(image.shape, np.float32))
    return image + sigma * noise.to(image)
