"""ScoreLoss: what a score should say of a modality in a frame, supervised in training.

    alone[b,m]  = cross entropy, over the frame, of a light head that sees this modality's tokens alone
    worth[b,m]  = exp(-(alone[b,m] - min over m' alone[b,m']))
    target[b,m] = worth[b,m],  times 0.3 where the modality is known to be degraded
    loss        = mean over scored (b, m) of BCE(score, target)  +  mean over clean (b, m) of alone

Left to the segmentation loss, gates of modalities become constants of the data set: published experience, and ours. The
degradations (noise, blur, exposure, a dead, frozen, shifted or exchanged frame, ...) are drawn by the data pipeline or
named by the data set. The segmentation learns from frames without the drawn ones, which cost it accuracy where all is
well; the scores see them beside it, on tokens that they do not change. The head learns from clean modalities, so that
what is broken looks strange to it, and is there in training only: patches of 16 pixels, one hidden layer, a depthwise
3x3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egformer_fast.models.inputs import Stack

POOL = 4  # tokens of 4 pixels -> cells of 16
DEGRADED_WORTH = 0.3


class ScoreLoss(nn.Module):
    """channels: of the tokens that the first scored stage reads."""

    def __init__(self, channels: int, num_classes: int, ignore_index: int) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.around = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.classify = nn.Conv2d(2 * channels, num_classes, 1)

    def forward(self, score: Tensor, stack: Stack, label: Tensor, degraded: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, the scores' own part of it), float32 scalars.

        score: (B, M) of all modalities of the stack. label: (B, H, W) int64. degraded: (B, M) bool.
        """
        scored = stack.alive & score.isfinite()
        alone = self.alone(stack, label)
        target = targets(alone.detach(), scored, degraded)
        score = torch.where(scored, score.float(), 0.5).clamp(1e-6, 1 - 1e-6)
        miss = -(target * score.log() + (1 - target) * (-score).log1p())
        own = _mean(miss, scored)
        return own + _mean(alone, scored & ~degraded), own

    def alone(self, stack: Stack, label: Tensor) -> Tensor:
        """(B, M) cross entropy of each modality by itself; 0 where nothing is labelled."""
        batch, slots = stack.tokens.shape[:2]
        maps = stack.tokens.flatten(0, 1).unflatten(1, stack.size).permute(0, 3, 1, 2)
        cells = F.avg_pool2d(maps, POOL, ceil_mode=True, count_include_pad=False)
        logits = self.classify(F.gelu(self.around(F.gelu(self.expand(cells))))).float()
        small = F.interpolate(label[:, None].float(), logits.shape[2:], mode="nearest-exact")[:, 0].long()
        small = small.repeat_interleave(slots, 0)
        surprise = F.cross_entropy(logits, small, ignore_index=self.ignore_index, reduction="none")
        labelled = (small != self.ignore_index).flatten(1).sum(1).clamp_min(1)
        return (surprise.flatten(1).sum(1) / labelled).unflatten(0, (batch, slots))


def targets(alone: Tensor, scored: Tensor, degraded: Tensor) -> Tensor:
    """(B, M) in [0, 1] of the file head; 0 where not scored. All arguments (B, M)."""
    best = torch.where(scored, alone, torch.inf).amin(1, keepdim=True)
    worth = torch.where(scored, (best - alone).exp(), 0.0)
    return torch.where(degraded, DEGRADED_WORTH * worth, worth)


def _mean(value: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, value, 0.0).sum() / where.sum().clamp_min(1)
