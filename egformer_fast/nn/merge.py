"""ModalMerge: the modalities meet before the first transformer block, each as much as its score says.

    score, weight   = ASM(x), MDM(x, score, keep)          see AnyModalScoring (texture), ModalDropping
    stream          = sum_m weight_m x_m  /  sum_m weight_m^2

The divisor is one over the number of modalities that the weights amount to: of n equal ones the stream is the plain
sum, as in one encoder over all channels (early fusion); of one it is that modality; a weight that goes to zero leaves
what a drop leaves.
"""

from __future__ import annotations

from torch import Tensor, nn

from egformer_fast.nn.fusion import Fused
from egformer_fast.nn.modality_drop import ModalDropping
from egformer_fast.nn.modality_score import AnyModalScoring


class ModalMerge(nn.Module):
    """Score, drop and sum.

    Args:
        channels: C of the maps; keep: modalities that are summed.
        threshold, rank, gumbel: see ModalDropping.
    """

    def __init__(
        self, channels: int, keep: int, threshold: float = 0.0, rank: str = "sample", gumbel: float = 0.0
    ) -> None:
        super().__init__()
        self.score = AnyModalScoring(channels, texture=True)
        self.drop = ModalDropping(keep, threshold, rank, gumbel)

    def forward(
        self,
        x: Tensor,
        size: tuple[int, int],
        present: Tensor | None = None,
        keep: int | None = None,
        score: Tensor | None = None,
        gather: bool = True,
    ) -> Fused:
        """x: (B, M, N, C), N = size[0] * size[1]; present: (B, M) bool or None -> Fused, whose `fused` is the stream
        (B, N, C).

        score: (B, M), taken in place of the module's own. gather: False leaves the survivors out, (B, 0, N, C).
        """
        score = self.score(x, present, size) if score is None else score
        survivors, fused, index, weight = self.drop(x, score, present, keep, gather)
        # Of no modality at all the weights are zeros, and so is the sum.
        amount = weight.square().sum(1).clamp_min(1e-6).reciprocal().to(fused.dtype)
        return Fused(survivors, fused * amount[:, None, None], index, weight, score)
