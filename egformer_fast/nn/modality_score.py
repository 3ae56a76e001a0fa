"""AnyModalScoring: the learned parameters of modality_score, two linear layers on the pooled features.

With `texture` the tokens pass x = gelu(Wx + b) first, every 4th of them: psi of the paper. The mean of a response that
swings around zero is zero however strong it is; of a rectified response the mean is its strength, and that is what
noise has too much of, blur too little and a dead sensor none.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from egformer_fast.ops import modality_score

EVERY = 4  # of thousands of tokens a quarter tells the mean as well


class AnyModalScoring(nn.Module):
    """Score each modality from its own feature map (EGFormer's ASM).

    Args:
        channels: C of the feature maps.
        hidden: R of the scoring MLP; default max(8, channels // 4).
        texture: rectify the tokens before they are pooled, as in the file's head.
    """

    def __init__(self, channels: int, hidden: int | None = None, texture: bool = False) -> None:
        super().__init__()
        hidden = max(8, channels // 4) if hidden is None else hidden
        self.psi = nn.Linear(channels, channels) if texture else None
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """x: (B, M, N, C), present: (B, M) bool or None -> score: (B, M) in (0, 1), 0 absent, NaN broken."""
        if self.psi is not None:
            x = F.gelu(self.psi(x[:, :, ::EVERY]))
        return modality_score(x, self.fc1.weight, self.fc1.bias, self.fc2.weight[0], self.fc2.bias[0], present)
