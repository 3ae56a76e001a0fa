"""AnyModalScoring: the learned parameters of modality_score, two linear layers on the pooled features."""

from __future__ import annotations

from torch import Tensor, nn

from egformer_fast.ops import modality_score


class AnyModalScoring(nn.Module):
    """Score each modality from its own feature map (EGFormer's ASM).

    Args:
        channels: C of the feature maps.
        hidden: R of the scoring MLP; default max(8, channels // 4).
    """

    def __init__(self, channels: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = max(8, channels // 4) if hidden is None else hidden
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """x: (B, M, N, C), present: (B, M) bool or None -> score: (B, M) in (0, 1), 0 absent, NaN broken."""
        return modality_score(x, self.fc1.weight, self.fc1.bias, self.fc2.weight[0], self.fc2.bias[0], present)
