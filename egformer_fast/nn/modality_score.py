"""AnyModalScoring: the learned parameters of modality_score, two linear layers on the pooled features.

With `texture` they read two more telling statistics of the tokens than their mean, psi of the paper:

    strength  = mean over every 4th token of gelu(W x + b)             (2C)
    roughness = mean over pairs of neighbours of |x_t - x_t'|           (C)   in every other row
    score     = modality_score(LayerNorm([strength, roughness]))

The mean of a response that swings around zero is zero however strong it is; rectified, its mean is its strength. What
neighbours have in common tells a blur, blocks of a coarse sensor, scattered returns and noise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egformer_fast.ops import modality_score

EVERY = 4  # of thousands of tokens a quarter tells the mean as well


class AnyModalScoring(nn.Module):
    """Score each modality from its own feature map (EGFormer's ASM).

    Args:
        channels: C of the feature maps.
        hidden: R of the scoring MLP; default max(8, channels // 4), with texture channels.
        texture: read strength and roughness, as in the file's head, in place of the mean.
    """

    def __init__(self, channels: int, hidden: int | None = None, texture: bool = False) -> None:
        super().__init__()
        hidden = (channels if texture else max(8, channels // 4)) if hidden is None else hidden
        self.psi = nn.Linear(channels, 2 * channels) if texture else None
        self.norm = nn.LayerNorm(3 * channels) if texture else None
        self.fc1 = nn.Linear(3 * channels if texture else channels, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, x: Tensor, present: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        """x: (B, M, N, C), present: (B, M) bool or None -> score: (B, M) in (0, 1), 0 absent, NaN broken.

        size: (h, w) with h · w = N; asked for with texture. Raises ValueError without it.
        """
        if self.psi is not None and self.norm is not None:
            if size is None:
                raise ValueError("AnyModalScoring: found no size, wanted the (h, w) of the tokens' map for its texture")
            wide = torch.promote_types(x.dtype, torch.float32)
            strength = F.gelu(self.psi(x[:, :, ::EVERY])).mean(2, dtype=wide)
            # Not all tokens are read above, but one that is not finite has to make the score NaN.
            broken = 0 * x.detach().sum((2, 3), dtype=wide)
            x = (self.norm(torch.cat([strength, _roughness(x, size, wide)], 2)) + broken[..., None]).unsqueeze(2)
        return modality_score(x, self.fc1.weight, self.fc1.bias, self.fc2.weight[0], self.fc2.bias[0], present)


def _roughness(x: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """(B, M, C): mean distance of neighbours in a row. Of a map one token wide it is NaN."""
    rows = x.unflatten(2, size)[:, :, ::2]
    pairs = size[1] // 2
    return (rows[..., 1::2, :][..., :pairs, :] - rows[..., ::2, :][..., :pairs, :]).abs().mean((2, 3), dtype=dtype)
