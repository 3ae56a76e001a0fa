"""Mean and spread of the sensor scores in the source domain, and how far a target batch is from them.

    distance = mean over (stage, sensor) scored in both domains of  (mean_t - mean_s)^2 + (std_t - std_s)^2

A score that has never seen the target may rank its sensors at random; pulling the statistics together keeps the ranking
meaningful there, without saying which sensor is to win. The source's are running means without gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from egformer_fast.train.adapt.running_mean import RunningMean


class ScoreStatistics:
    """stages, sensors: how many there are; a score table is (stages, B, sensors), NaN where nothing was scored."""

    def __init__(self, stages: int, sensors: int) -> None:
        self.moments = RunningMean(2, stages, sensors)

    def update(self, scores: Tensor) -> None:
        """Take in a source batch."""
        mean, square, seen = _moments(scores.detach().float())
        self.moments.update(torch.stack([mean, square]), seen)

    def distance(self, scores: Tensor) -> Tensor:
        """Of a target batch, with gradients; 0 where no sensor was scored in both domains."""
        mean, square, seen = _moments(scores.float())
        moments = self.moments.value.to(scores.device, torch.float32)
        both = seen & (self.moments.count[0] > 0).to(scores.device)
        apart = (mean - moments[0]).square() + (_std(mean, square) - _std(moments[0], moments[1])).square()
        return torch.where(both, apart, 0.0).sum() / both.sum().clamp_min(1)

    def state_dict(self) -> dict[str, Any]:
        return self.moments.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.moments.load_state_dict(state)


def _moments(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mean, mean of squares, bool: any) over the frames that have a score, each (stages, sensors)."""
    seen = ~scores.isnan()
    values = torch.where(seen, scores, 0.0)
    count = seen.sum(1).clamp_min(1)
    return values.sum(1) / count, values.square().sum(1) / count, seen.any(1)


def _std(mean: Tensor, square: Tensor) -> Tensor:
    # The root's slope is infinite at 0, where the scores of a batch of one frame lie.
    return (square - mean.square()).clamp_min(1e-8).sqrt()
