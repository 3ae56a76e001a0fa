"""Trace: which sensors a forward pass looked at, how it scored them and which it kept, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class StageTrace:
    """One stage. S slots enter it, K leave it; sensor numbers follow Trace.modalities, -1 is an empty slot.

    score: (B, S); sensor: (B, S) int64, who sits in each slot; kept: (B, K) int64; weight: (B, K), sums to 1. Score and
    weight carry gradients where the pass does: detach what outlives a training step.
    """

    score: Tensor
    sensor: Tensor
    kept: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Trace:
    """The choices of one forward pass."""

    modalities: tuple[str, ...]
    stages: list[StageTrace] = field(default_factory=list)

    def score_table(self, stage: int) -> Tensor:
        """(B, M) scores by sensor; NaN where a sensor was absent, broken or dropped before this stage."""
        return self._by_sensor(self.stages[stage].score, self.stages[stage].sensor, torch.nan)

    def weight_table(self, stage: int) -> Tensor:
        """(B, M) weights by sensor; 0 where a sensor was not kept."""
        return self._by_sensor(self.stages[stage].weight, self.stages[stage].kept, 0.0)

    def kept_mask(self, stage: int) -> Tensor:
        """(B, M) bool: the sensors that survive this stage."""
        kept = self.stages[stage].kept
        return (kept.unsqueeze(2) == torch.arange(len(self.modalities), device=kept.device)).any(1)

    def _by_sensor(self, value: Tensor, sensor: Tensor, default: float) -> Tensor:
        """Slots that hold nothing are written to one more column, which is cut off."""
        modalities = len(self.modalities)
        table = value.new_full((value.shape[0], modalities + 1), default)
        column = torch.where(sensor >= 0, sensor, modalities)
        return table.scatter(1, column, value)[:, :modalities]
