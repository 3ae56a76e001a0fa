"""Bilinear resizing of maps, half-pixel centres (align_corners=False): torch's own, or two matrix products.

    out[y, x] = sum over i, j of Wy[y, i] · Wx[x, j] · map[i, j]        two entries a row of Wy and Wx

On a GPU the backward pass of torch's kernel adds up in whatever order its blocks end. Asked for one order, torch takes
the resizing apart into gathers, whose backward pass was two thirds of a training step; products have one order too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """x: (B, C, h, w) -> (B, C, *size), in x's dtype; under `torch.use_deterministic_algorithms` in one order."""
    if x.is_cuda and torch.are_deterministic_algorithms_enabled():
        return resize_by_products(x, size)
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def resize_by_products(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`resize` as two matrix products, in float32 at least; in and out are best channels_last."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    rows, columns = (_matrix(old, new, dtype, x.device) for old, new in zip(x.shape[2:], size, strict=True))
    with torch.autocast(x.device.type, enabled=False):
        wide = columns @ x.permute(0, 2, 3, 1).to(dtype)
        out = (rows @ wide.flatten(2)).unflatten(2, wide.shape[2:])
    return out.permute(0, 3, 1, 2).to(x.dtype)


def _matrix(old: int, new: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(new, old): the resizing of a line, from what torch makes of the unit vectors."""
    units = torch.eye(old, dtype=dtype, device=device)
    return F.interpolate(units[None], new, mode="linear", align_corners=False)[0].mT
