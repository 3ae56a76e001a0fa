"""How the passes of a step are computed: precision, gradients between processes, and the optimizer's step."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from egformer_fast.errors import ConfigError
from egformer_fast.models import Trace
from egformer_fast.train.build import make_optimizer
from egformer_fast.train.config import Config
from egformer_fast.train.distributed import Processes, exchanging_gradients
from egformer_fast.train.objective import Objective
from egformer_fast.train.sampling import Labelled

AUTOCAST = {"none": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Arithmetic:
    """The optimizer of a model and an objective that are on their device already.

    Attributes:
        net: the model, or what wraps it so that gradients are averaged over the processes; train with it.

    Raises:
        ConfigError: float16 without a GPU.
    """

    def __init__(self, model: nn.Module, objective: Objective, config: Config, place: Processes) -> None:
        self.options, self.place, self.objective = config.train, place, objective
        self.net = exchanging_gradients(model, place)
        self.optimizer = make_optimizer(model, objective, config)
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.dtype = AUTOCAST[config.train.autocast]
        if self.dtype is torch.float16 and place.device.type != "cuda":
            raise ConfigError("train.autocast: found 'float16', but there is no GPU; wanted bfloat16 or none")
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=self.dtype is torch.float16)

    def predict(self, *inputs: Any, net: nn.Module | None = None, **options: Any) -> Any:
        """net(*inputs, **options) in the run's precision; default the net that is trained."""
        with torch.autocast(self.place.device.type, self.dtype, enabled=self.dtype is not None):
            return (self.net if net is None else net)(*inputs, **options)

    def loss(
        self, frames: Labelled, keep: tuple[int, ...], rng: np.random.Generator
    ) -> tuple[Tensor, Trace, dict[str, float]]:
        """The objective of a batch: (loss, Trace, values for the log)."""
        return self.objective(self.predict, frames, keep, rng)  # type: ignore[no-any-return]

    def exchange(self, now: bool) -> contextlib.AbstractContextManager[None]:
        """Around a forward and a backward pass; gradients are exchanged once a step, in the last one."""
        wait = self.place.world > 1 and not now
        return self.net.no_sync() if wait else contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add a batch's gradients, of which a step has `accumulate`."""
        self.scaler.scale(loss / self.options.accumulate).backward()

    def gradient_norm(self) -> float:
        """Of all gradients, before they are clipped."""
        self.scaler.unscale_(self.optimizer)
        return float(nn.utils.clip_grad_norm_(self.parameters, self.options.clip or math.inf))

    def is_step(self, norm: float) -> bool:
        """Whether gradients of this norm may be followed. With a scaler an overflow is part of its search for a scale:
        it skips the step by itself."""
        return math.isfinite(norm) or self.scaler.is_enabled()

    def set_rate(self, factor: float) -> None:
        """Learning rates as a share of their peaks."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor

    def step(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
