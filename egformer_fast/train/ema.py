"""EMA: an exponential moving average of a model's weights, evaluated in place of the last ones.

    average <- d · average + (1 - d) · weight        d = min(decay, (1 + n) / (ramp + n)) after n updates

BatchNorm's running statistics are averaged like weights; whole-number buffers are copied. The rising d lets a run
forget its random start. ramp 10 is TensorFlow's, 2 that of DAFormer's teacher, whose d is .999 after 998 updates; with
ramp 10 it takes 8990, more than a short run has. Unlike torch.optim.swa_utils.AveragedModel the average is a model of
the same class, so save_pretrained and evaluation take it as it is.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class Ema:
    """`ema.model` is the averaged copy, always in eval mode and without gradients; `decay` in [0, 1), `ramp` from 1, at
    which d is `decay` from the first update."""

    def __init__(self, model: nn.Module, decay: float, ramp: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.ramp, self.updates = decay, ramp, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights of `model`, after an optimizer step."""
        decay = min(self.decay, (1 + self.updates) / (self.ramp + self.updates))
        self.updates += 1
        source = model.state_dict()
        averaged = {name: value for name, value in self.model.state_dict().items() if value.is_floating_point()}
        torch._foreach_lerp_(list(averaged.values()), [source[name] for name in averaged], 1 - decay)
        for name, value in self.model.state_dict().items():
            if name not in averaged:
                value.copy_(source[name])

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.updates = state["updates"]
