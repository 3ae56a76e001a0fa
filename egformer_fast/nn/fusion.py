"""ModalFusion: score, drop, attend: what EGFormer does between two encoder stages, usable in any encoder."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from egformer_fast.nn.modality_attention import ModalAttention
from egformer_fast.nn.modality_drop import ModalDropping
from egformer_fast.nn.modality_score import AnyModalScoring


class Fused(NamedTuple):
    """What ModalFusion returns.

    survivors: (B, K, N, C), for the next stage; fused: (B, N, C), for the head; index: (B, K) int64, -1 padded;
    weight: (B, K); score: (B, M).
    """

    survivors: Tensor
    fused: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, whose meaning nobody wants here
    weight: Tensor
    score: Tensor


class ModalFusion(nn.Module):
    """AnyModalScoring, ModalDropping and ModalAttention in a row.

    Args:
        channels: C of the maps; keep: modalities that survive; heads, reduction: see ModalAttention.
        threshold, rank, gumbel: see ModalDropping.
    """

    def __init__(
        self,
        channels: int,
        keep: int,
        heads: int = 1,
        reduction: int = 1,
        threshold: float = 0.0,
        rank: str = "sample",
        gumbel: float = 0.0,
    ) -> None:
        super().__init__()
        self.score = AnyModalScoring(channels)
        self.drop = ModalDropping(keep, threshold, rank, gumbel)
        self.attention = ModalAttention(channels, heads, reduction)

    def forward(
        self, x: Tensor, size: tuple[int, int], present: Tensor | None = None, keep: int | None = None
    ) -> Fused:
        """x: (B, M, N, C) with N = size[0] * size[1]; present: (B, M) bool or None."""
        score = self.score(x, present)
        survivors, fused, index, weight = self.drop(x, score, present, keep)
        fused = fused + self.attention(fused, survivors, size, index, weight)
        return Fused(survivors, fused, index, weight, score)
