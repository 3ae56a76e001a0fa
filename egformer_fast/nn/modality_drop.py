"""ModalDropping: modality_drop with its settings, and the noise that lets a dropped modality come back in training."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from egformer_fast.ops.modality_drop import check_rule, modality_drop


class ModalDropping(nn.Module):
    """Keep the `keep` highest scored modalities and sum them by their scores (EGFormer's MDM). No parameters.

    Args:
        keep: modalities that survive; a call may ask for another number.
        threshold: in [0, 1], drop kept ones that score under threshold * the best (see modality_drop).
        rank: "sample" or "batch" (the paper's rule).
        gumbel: scale of the Gumbel noise on the log-score that ranks modalities in training. At 1 the kept set is
            drawn without replacement in proportion to the scores (Gumbel top-k); 0: no noise.

    Raises:
        ValueError, TypeError: an argument is out of range or no number; the message names it.
    """

    def __init__(self, keep: int, threshold: float = 0.0, rank: str = "sample", gumbel: float = 0.0) -> None:
        super().__init__()
        if keep < 1:
            raise ValueError(f"ModalDropping: keep must be at least 1, got {keep}")
        check_rule("ModalDropping", threshold, rank)
        if not 0.0 <= gumbel < math.inf:
            raise ValueError(f"ModalDropping: gumbel must be 0 or more, got {gumbel}")
        self.keep, self.threshold, self.rank, self.gumbel = keep, threshold, rank, gumbel

    def forward(
        self,
        x: Tensor,
        score: Tensor,
        present: Tensor | None = None,
        keep: int | None = None,
        gather: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x: (B, M, N, C), score: (B, M) -> (survivors, fused, index, weight) of modality_drop."""
        keep = min(self.keep if keep is None else keep, x.shape[1])
        return modality_drop(x, score, keep, present, self._priority(score), self.threshold, self.rank, gather)

    def _priority(self, score: Tensor) -> Tensor | None:
        if not self.training or self.gumbel == 0.0:
            return None
        noise = -torch.empty_like(score).exponential_().log()
        return score.detach().log() + self.gumbel * noise

    def extra_repr(self) -> str:
        return f"keep={self.keep}, threshold={self.threshold}, rank={self.rank!r}, gumbel={self.gumbel}"
