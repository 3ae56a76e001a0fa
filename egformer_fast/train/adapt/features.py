"""Feature distance: what a pretrained encoder knows of things must not be lost to the source's look (2111.14887).

    distance = mean over cells of |f_student - f_start|_2      cells: 3/4 of their pixels are of one chosen class

f is the fused map of the last stage (what the head reads), f_start that of the model as the run began, on the same
source frames. It is worth its time only where the run starts from pretrained weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAJORITY = 0.75


@contextmanager
def last_fused(model: nn.Module, wanted: bool = True) -> Iterator[list[Tensor]]:
    """A list that each forward pass of an EGFormer appends its last fused map to, (B, N, C), while this is open; empty
    where it is not wanted."""
    seen: list[Tensor] = []
    if not wanted:
        yield seen
        return

    def note(block: nn.Module, inputs: Any, output: Any) -> None:
        seen.append(output.fused)

    handle = model.fusion[-1].register_forward_hook(note)  # type: ignore[index, union-attr]
    try:
        yield seen
    finally:
        handle.remove()


class StartingFeatures:
    """A frozen copy of a model. classes: class numbers whose features are held, all when empty."""

    def __init__(self, model: nn.Module, classes: Sequence[int]) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.classes = list(classes)

    def distance(
        self, fused: Tensor, inputs: Mapping[str, Tensor], present: Tensor, keep: Sequence[int], label: Tensor
    ) -> Tensor:
        """fused: (B, N, C) of the student on the same frames, with gradients; label: (B, H, W)."""
        with torch.no_grad(), last_fused(self.model) as seen:
            self.model(inputs, present, keep=keep)
        cells = self._cells(label, fused.shape[1])
        apart = (fused.float() - seen[0].float()).norm(dim=2)
        return (apart * cells).sum() / cells.sum().clamp_min(1)

    def _cells(self, label: Tensor, count: int) -> Tensor:
        """(B, N) float32: 1 for the cells to compare."""
        height, width = label.shape[1:]
        divisors = [number for number in range(1, count + 1) if count % number == 0]
        rows = min(divisors, key=lambda number: abs(number - (count * height / width) ** 0.5))
        size = (rows, count // rows)
        classes = self.classes or label.unique()[label.unique() < 255].tolist()
        shares = [F.adaptive_avg_pool2d((label == number).float().unsqueeze(1), size) for number in classes]
        if not shares:
            return label.new_zeros((len(label), count), dtype=torch.float32)
        return (torch.cat(shares, 1).amax(1) >= MAJORITY).flatten(1).float()

    def state_dict(self) -> dict[str, Any]:
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state)
