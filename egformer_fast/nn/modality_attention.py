"""ModalAttention: the fused map asks the surviving maps, each at a reduced resolution.

    q = Wq fused,   k, v = Wkv pool(survivors),   out = Wo attention(q, k, v, slot, log weight)

pool averages keys and values over reduction x reduction tokens (ceil mode: any size works), without parameters, so
that Wkv runs on the few pooled tokens. Wo starts at zero: a new block changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egformer_fast.ops import modality_attention


class ModalAttention(nn.Module):
    """Attention from the fused tokens to the tokens of the kept modalities.

    Args:
        channels: C of the maps; heads: number of heads, a divisor of channels.
        reduction: side of the averaging window on keys and values.
    """

    def __init__(self, channels: int, heads: int, reduction: int = 1) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"ModalAttention: heads must divide channels = {channels}, got {heads}")
        if reduction < 1:
            raise ValueError(f"ModalAttention: reduction must be at least 1, got {reduction}")
        self.heads, self.reduction = heads, reduction
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, fused: Tensor, survivors: Tensor, size: tuple[int, int], index: Tensor, weight: Tensor) -> Tensor:
        """fused: (B, N, C), survivors: (B, K, N, C), N = size[0] * size[1]; index, weight: (B, K) -> (B, N, C)."""
        batch, tokens, channels = fused.shape
        slots = survivors.shape[1]
        slot = torch.where(index >= 0, torch.arange(slots, device=index.device), -1)
        q = self.q(fused).unflatten(2, (self.heads, -1)).transpose(1, 2)
        kv = self.kv(self._pool(survivors, size)).unflatten(3, (2, self.heads, -1))
        k, v = kv.permute(3, 0, 1, 4, 2, 5).unbind(0)
        out, _ = modality_attention(q, k, v, slot, weight.clamp_min(1e-30).log())
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, channels))

    def _pool(self, survivors: Tensor, size: tuple[int, int]) -> Tensor:
        if self.reduction == 1:
            return survivors
        maps = survivors.flatten(0, 1).unflatten(1, size).permute(0, 3, 1, 2)
        # Without padding count_include_pad=False changes nothing in eager mode; with True, torch.compile divides the
        # gradient of an overhanging window by the full window (pytorch/pytorch#198119).
        pooled = F.avg_pool2d(maps, self.reduction, ceil_mode=True, count_include_pad=False)
        return pooled.flatten(2).transpose(1, 2).unflatten(0, survivors.shape[:2])

    def extra_repr(self) -> str:
        return f"heads={self.heads}, reduction={self.reduction}"
