"""Means that follow a run: m <- d m + (1 - d) value,  d = min(decay, n / (n + 1)) for the n values so far.

The first values count as much as each other, so that nothing has to be known before the first step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class RunningMean:
    """Of tensors of one shape, on the CPU, each element for itself.

    value: float64, the means, 0 before the first value. count: float64, how many values each has taken in.
    """

    def __init__(self, *shape: int, decay: float = 0.99) -> None:
        self.decay = decay
        self.value = torch.zeros(shape, dtype=torch.float64)
        self.count = torch.zeros(shape, dtype=torch.float64)

    def update(self, value: Tensor, seen: Tensor | None = None) -> Tensor:
        """Take in a value; returns the new means. seen: bool, the elements to take; None: all."""
        value = value.detach().double().cpu()
        taken = torch.ones_like(self.value, dtype=torch.bool) if seen is None else seen.cpu().expand_as(self.value)
        decay = (self.count / (self.count + 1)).clamp_max(self.decay)
        self.value = torch.where(taken, decay * self.value + (1 - decay) * value, self.value)
        self.count = self.count + taken
        return self.value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value, self.count = state["value"], state["count"]
