"""ScoreLoss: what a score should say of a modality in a frame, supervised in training.

    target[b,m] = 0                                           where the modality is known to be degraded
                = exp(-(alone[b,m] - min over m' alone[b,m']))  else
    alone[b,m]  = cross entropy, over the frame, of a light head that sees this modality's tokens alone
    loss        = mean over scored (b, m) of BCE(score, target)  +  mean over clean (b, m) of alone

Left to the segmentation loss, gates of modalities become constants of the data set: published experience, and ours. The
degradations (noise, blur, exposure, a dead, frozen, shifted or exchanged frame, ...) are drawn by the data pipeline or
named by the data set. The head is there in training only: patches of 16 pixels, one hidden layer, a depthwise 3x3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egformer_fast.models import StageTrace

POOL = 4  # tokens of 4 pixels -> cells of 16


class ScoreLoss(nn.Module):
    """channels: of the tokens that the first scored stage reads."""

    def __init__(self, channels: int, num_classes: int, ignore_index: int) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.around = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.classify = nn.Conv2d(2 * channels, num_classes, 1)

    def forward(self, stage: StageTrace, label: Tensor, degraded: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, scores' own part of it), float32 scalars.

        stage: of the first scored stage, whose slot s is modality s. label: (B, H, W). degraded: (B, M) bool.
        """
        assert stage.tokens is not None and stage.size is not None
        scored = (stage.sensor >= 0) & stage.score.isfinite()
        degraded = degraded.gather(1, stage.sensor.clamp_min(0))
        alone = self._alone(stage.tokens, stage.size, label)
        clean = scored & ~degraded
        best = torch.where(clean, alone.detach(), torch.inf).amin(1, keepdim=True)
        target = torch.where(clean, (best - alone.detach()).exp(), 0.0)
        score = torch.where(scored, stage.score.float(), 0.5).clamp(1e-6, 1 - 1e-6)
        miss = -(target * score.log() + (1 - target) * (-score).log1p())
        own = _mean(miss, scored)
        return own + _mean(alone, clean), own

    def _alone(self, tokens: Tensor, size: tuple[int, int], label: Tensor) -> Tensor:
        """(B, S) cross entropy of each modality by itself; 0 where nothing is labelled."""
        batch, slots = tokens.shape[:2]
        maps = tokens.flatten(0, 1).unflatten(1, size).permute(0, 3, 1, 2)
        cells = F.avg_pool2d(maps, POOL, ceil_mode=True, count_include_pad=False)
        logits = self.classify(F.gelu(self.around(F.gelu(self.expand(cells))))).float()
        small = F.interpolate(label[:, None].float(), logits.shape[2:], mode="nearest-exact")[:, 0].long()
        small = small.repeat_interleave(slots, 0)
        surprise = F.cross_entropy(logits, small, ignore_index=self.ignore_index, reduction="none")
        labelled = (small != self.ignore_index).flatten(1).sum(1).clamp_min(1)
        return (surprise.flatten(1).sum(1) / labelled).unflatten(0, (batch, slots))


def _mean(value: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, value, 0.0).sum() / where.sum().clamp_min(1)
