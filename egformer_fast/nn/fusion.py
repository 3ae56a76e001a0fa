"""ModalFusion: score, drop, attend: what EGFormer does between two encoder stages, usable in any encoder.

    evidence = score * prior                        prior: the weights with which an earlier stage kept the modalities
    survivors, fused, index, weight = drop(x, evidence)
    fused    = fused + attention(fused, survivors, log weight)

Evidence adds up over the stages. Without a prior a stage whose maps matter little to the loss learns its scores from
next to nothing, and then drops a sensor that an earlier stage knew to be good.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from egformer_fast.nn.modality_attention import ModalAttention
from egformer_fast.nn.modality_drop import ModalDropping
from egformer_fast.nn.modality_score import AnyModalScoring


class Fused(NamedTuple):
    """What ModalFusion returns.

    survivors: (B, K, N, C), for the next stage; fused: (B, N, C), for the head; index: (B, K) int64, -1 padded;
    weight: (B, K), the next stage's prior; score: (B, M), this stage's own.
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
        self,
        x: Tensor,
        size: tuple[int, int],
        present: Tensor | None = None,
        keep: int | None = None,
        prior: Tensor | None = None,
        score: Tensor | None = None,
        query: Tensor | None = None,
    ) -> Fused:
        """x: (B, M, N, C) with N = size[0] * size[1]; present: (B, M) bool or None; prior: (B, M), dtype of score.

        score: (B, M), taken in place of the module's own. query: (B, N, C), a stream that attends to the survivors in
        place of their sum; `fused` is the stream then.
        """
        score = self.score(x, present) if score is None else score
        evidence = score if prior is None else score * prior
        survivors, fused, index, weight = self.drop(x, evidence, present, keep)
        fused = fused if query is None else query
        fused = fused + self.attention(fused, survivors, size, index, weight)
        return Fused(survivors, fused, index, weight, score)
