"""Feature distance: what a pretrained encoder knows of things must not be lost to the source's look (2111.14887).

    distance = mean over cells of |f_student - f_start|_2      cells: 3/4 of their pixels are of one chosen class

f is the fused map of the last stage (what the head reads), f_start that of the model as the run began, on the same
source frames. It is worth its time only where the run starts from pretrained weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egformer_fast.models.mit import map_to_tokens

MAJORITY = 0.75
STRIDE = 32  # pixels a cell; stages round up where it does not divide a side


@contextmanager
def last_fused(model: nn.Module, wanted: bool = True) -> Iterator[list[Tensor]]:
    """A list that each forward pass of an EGFormer appends its last fused map to, (B, N, C), while this is open; empty
    where it is not wanted."""
    seen: list[Tensor] = []
    if not wanted:
        yield seen
        return

    def note(head: nn.Module, inputs: Any) -> None:
        seen.append(map_to_tokens(inputs[0][-1]))

    handle = model.head.register_forward_pre_hook(note)  # type: ignore[union-attr]
    try:
        yield seen
    finally:
        handle.remove()


class StartingFeatures:
    """`model` is a frozen copy of a model. classes: class numbers whose features are held, all when empty."""

    def __init__(self, model: nn.Module, classes: Sequence[int]) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.classes = list(classes) or list(range(model.num_classes))  # type: ignore[arg-type]

    def distance(self, fused: Tensor, start: Tensor, label: Tensor) -> Tensor:
        """fused, start: (B, N, C) of the student and of `model` on the same frames; label: (B, H, W)."""
        cells = self._cells(label, fused.shape[1])
        apart = (fused.float() - start.float()).norm(dim=2)
        return (apart * cells).sum() / cells.sum().clamp_min(1)

    def _cells(self, label: Tensor, count: int) -> Tensor:
        """(B, N) float32: 1 for the cells to compare."""
        rows = -(-label.shape[1] // STRIDE)
        size = (rows, count // rows)
        shares = [F.adaptive_avg_pool2d((label == number).float().unsqueeze(1), size) for number in self.classes]
        return (torch.cat(shares, 1).amax(1) >= MAJORITY).flatten(1).float()

    def state_dict(self) -> dict[str, Any]:
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state)
