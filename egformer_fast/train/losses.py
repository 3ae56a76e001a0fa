"""The loss of a batch: cross entropy over labelled pixels, over all of them or over the hard ones (OHEM).

    loss = sum over chosen pixels of ce(pixel)  /  sum over chosen pixels of class_weight[label]
    ce   = (1 - s) · class_weight[label] · -log p[label]  +  s · mean over c of class_weight[c] · -log p[c]
    s    : label smoothing
    OHEM : chosen are the pixels with p[label] < threshold, and no fewer than `min_share` of the labelled ones

and on top, weighted by `jaccard`, the soft intersection over union that evaluation counts hard:

    mean over (frame, class in its label) of  1 - sum p[c]·[label = c] / sum (p[c] + [label = c] - p[c]·[label = c])

OHEM as in the DELIVER recipe (arXiv 2303.01480): threshold 0.7, at least a sixteenth of the labelled pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SegmentationLoss(nn.Module):
    """logits (B, classes, H, W) of any floating dtype, label (B, H, W) int64 -> float32 scalar.

    A batch without any labelled pixel gives 0 and zero gradients, where torch's own mean gives NaN.

    Args:
        ohem: learn from hard pixels only, as above; threshold and min_share are its options.
        class_weights: one weight a class.
        jaccard: weight of the soft intersection over union; 0 leaves it out.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        ohem: bool = False,
        threshold: float = 0.7,
        min_share: float = 1 / 16,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        ignore_index: int = 255,
        jaccard: float = 0.0,
    ) -> None:
        super().__init__()
        self.jaccard = jaccard
        self.ohem, self.min_share, self.hard = ohem, min_share, -math.log(threshold)
        self.label_smoothing, self.ignore_index = label_smoothing, ignore_index
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        logits = logits.float()
        loss = self._cross_entropy(logits, label)
        return loss if self.jaccard == 0 else loss + self.jaccard * soft_jaccard(logits, label, self.ignore_index)

    def _cross_entropy(self, logits: Tensor, label: Tensor) -> Tensor:
        chosen = label != self.ignore_index
        if self.ohem:
            chosen = self._hard_pixels(logits.detach(), label, chosen)
        label = torch.where(chosen, label, self.ignore_index)
        # On a GPU torch's own sum adds up in no fixed order.
        total = F.cross_entropy(
            logits,
            label,
            self.class_weights,
            ignore_index=self.ignore_index,
            reduction="none",
            label_smoothing=self.label_smoothing,
        ).sum()
        if self.class_weights is None:
            weight = chosen.sum().float()
        else:
            weight = (self.class_weights[torch.where(chosen, label, 0)] * chosen).sum()
        return total / torch.where(weight > 0, weight, 1.0)

    def _hard_pixels(self, logits: Tensor, label: Tensor, labelled: Tensor) -> Tensor:
        """(B, H, W) bool: the labelled pixels to learn from."""
        surprise = F.cross_entropy(logits, label, ignore_index=self.ignore_index, reduction="none")
        surprise = torch.where(labelled, surprise, -1.0)
        count = math.ceil(int(labelled.sum()) * self.min_share)
        if count == 0:
            return labelled
        floor = surprise.flatten().topk(count).values[-1]
        return labelled & (surprise >= floor.clamp(max=self.hard))


def soft_jaccard(logits: Tensor, label: Tensor, ignore_index: int = 255, weight: Tensor | None = None) -> Tensor:
    """The soft Jaccard loss of the file head, a scalar in [0, 1]; 0 where nothing is labelled.

    weight: (B, H, W) >= 0, how much each pixel counts in the sums; default 1.
    """
    labelled = label != ignore_index
    counts = (labelled if weight is None else labelled * weight).unsqueeze(1)
    truth = F.one_hot(torch.where(labelled, label, 0), logits.shape[1]).permute(0, 3, 1, 2)
    guess = logits.softmax(1) * counts
    overlap = (guess * truth).sum((2, 3))
    area = (truth * counts).sum((2, 3))
    occurs = area > 0
    union = guess.sum((2, 3)) + area - overlap
    loss = torch.where(occurs, 1 - overlap / torch.where(occurs, union, 1), 0)
    return loss.sum() / occurs.sum().clamp_min(1)
