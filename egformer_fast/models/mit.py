"""Mix Transformer, the encoder of SegFormer (arXiv 2105.15203), in the sizes B0 to B5.

stage i of 4:
    tokens = LayerNorm(conv(x))              overlapping patches: 7x7 stride 4, then 3x3 stride 2; N = h * w tokens
    tokens = tokens + proj(softmax(q kᵀ / sqrt(d)) v)       k, v from LayerNorm(conv r x r, stride r): 64, 16, 4, 1
                                                            times fewer than q
    tokens = tokens + fc2(GELU(depthwise 3x3(fc1)))         the zero padding of the 3x3 tells where a token is
    map    = LayerNorm(tokens)

Parameter names and epsilons are those of the original release: 1e-6 in blocks and at a stage's end, 1e-5 (torch's
default) after patch and reduction convolutions. Hugging Face's port has 1e-5 everywhere.

Tokens (B, N, C) are in memory exactly a channels_last map, so every convolution here runs on a view of its tokens and
no transpose copies anything: on a CPU the depthwise convolution is 2 to 7 times faster than on a copy in NCHW order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STAGES = 4
Size = tuple[int, int]


@dataclass(frozen=True)
class MiTConfig:
    """Sizes of one Mix Transformer, a value per stage; drop_path is the stochastic depth rate of the last block."""

    name: str
    dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...] = (1, 2, 5, 8)
    reductions: tuple[int, ...] = (8, 4, 2, 1)
    mlp_ratio: int = 4
    drop_path: float = 0.1


_WIDE = (64, 128, 320, 512)
MIT_CONFIGS = {
    config.name: config
    for config in (
        MiTConfig("mit_b0", (32, 64, 160, 256), (2, 2, 2, 2)),
        MiTConfig("mit_b1", _WIDE, (2, 2, 2, 2)),
        MiTConfig("mit_b2", _WIDE, (3, 4, 6, 3)),
        MiTConfig("mit_b3", _WIDE, (3, 4, 18, 3)),
        MiTConfig("mit_b4", _WIDE, (3, 8, 27, 3)),
        MiTConfig("mit_b5", _WIDE, (3, 6, 40, 3)),
    )
}


def tokens_to_map(tokens: Tensor, size: Size) -> Tensor:
    """(B, h * w, C) -> (B, C, h, w), a view that is channels_last where the tokens are contiguous."""
    return tokens.unflatten(1, size).permute(0, 3, 1, 2)


def map_to_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C), a view where the map is channels_last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


class PatchEmbed(nn.Module):
    """Overlapping patches: a strided convolution and a LayerNorm. (B, C, H, W) -> (B, N, dim), (h, w)."""

    def __init__(self, channels: int, dim: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Size]:
        if x.dim() != 4 or x.shape[1] != self.proj.in_channels:
            raise ValueError(f"PatchEmbed: x must be (B, {self.proj.in_channels}, H, W), got {tuple(x.shape)}")
        x = self.proj(x.contiguous(memory_format=torch.channels_last))
        return self.norm(map_to_tokens(x)), (x.shape[2], x.shape[3])


class Attention(nn.Module):
    """Multi-head attention whose keys and values come from tokens reduced by a reduction x reduction convolution."""

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.sr = nn.Conv2d(dim, dim, reduction, reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(dim) if reduction > 1 else None

    def forward(self, x: Tensor, size: Size) -> Tensor:
        q = self.q(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        if self.sr is not None and self.norm is not None:
            x = self.norm(map_to_tokens(self.sr(tokens_to_map(x, size))))
        k, v = self.kv(x).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class DepthwiseConv(nn.Module):
    """A 3x3 convolution of each channel by itself; a module of its own for the sake of the parameter names."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        return map_to_tokens(self.dwconv(tokens_to_map(x, size)))


class MixFFN(nn.Module):
    """fc2(GELU(depthwise 3x3(fc1(x))))."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = DepthwiseConv(hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        return self.fc2(F.gelu(self.dwconv(self.fc1(x), size)))


class Block(nn.Module):
    """One transformer block, with stochastic depth (arXiv 1603.09382) per sample on both residual branches."""

    def __init__(self, dim: int, heads: int, reduction: int, mlp_ratio: int, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads, reduction)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MixFFN(dim, mlp_ratio * dim)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        x = x + self._dropped(self.attn(self.norm1(x), size))
        return x + self._dropped(self.mlp(self.norm2(x), size))

    def _dropped(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0.0:
            return branch
        kept = 1.0 - self.drop_path
        return branch * branch.new_empty((branch.shape[0], 1, 1)).bernoulli_(kept).div_(kept)


class MixVisionTransformer(nn.Module):
    """The encoder, as a whole or stage by stage.

    Args:
        config: one of MIT_CONFIGS.
        drop_path: stochastic depth rate of the last block, rising linearly from 0 at the first; default config's.

    Raises:
        ValueError: drop_path outside [0, 1); or, from the calls, an input of the wrong shape.
    """

    def __init__(self, config: MiTConfig, drop_path: float | None = None) -> None:
        super().__init__()
        rate = config.drop_path if drop_path is None else drop_path
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"MixVisionTransformer: drop_path must be in [0, 1), got {rate}")
        self.config = config
        last, first = max(sum(config.depths) - 1, 1), 0
        for stage in range(STAGES):
            dim, heads, reduction = config.dims[stage], config.heads[stage], config.reductions[stage]
            channels, kernel, stride = (3, 7, 4) if stage == 0 else (config.dims[stage - 1], 3, 2)
            rates = [rate * (first + i) / last for i in range(config.depths[stage])]
            blocks = [Block(dim, heads, reduction, config.mlp_ratio, r) for r in rates]
            self.add_module(f"patch_embed{stage + 1}", PatchEmbed(channels, dim, kernel, stride))
            self.add_module(f"block{stage + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage + 1}", nn.LayerNorm(dim, eps=1e-6))
            first += config.depths[stage]
        self.apply(_init_weights)
        # A patch without content (a dead sensor, the sky of a LiDAR) must not start as a zero token: LayerNorm of zeros
        # multiplies gradients by 1 / sqrt(eps), a thousand a norm, and overflows after a few blocks.
        for module in self.modules():
            if isinstance(module, PatchEmbed) and module.proj.bias is not None:
                nn.init.normal_(module.proj.bias, std=0.02)

    def patch_embed(self, stage: int, x: Tensor, stem: nn.Module | None = None) -> tuple[Tensor, Size]:
        """Patches of a stage (0 to 3): x (B, C, H, W) -> tokens (B, N, dims[stage]) and their (h, w), N = h * w.

        stem: another patch embedding than the encoder's own, from new_stem, for stage 0.
        """
        return (getattr(self, f"patch_embed{stage + 1}") if stem is None else stem)(x)

    def blocks(self, stage: int, tokens: Tensor, size: Size) -> Tensor:
        """Transformer blocks and final norm of a stage (0 to 3): tokens (B, N, dims[stage]) -> the same shape.

        size must be at least (r, r) with r = reductions[stage]: images with H and W of at least 32 always give that.
        """
        least = self.config.reductions[stage]
        if size[0] < least or size[1] < least:
            raise ValueError(
                f"MixVisionTransformer: a stage {stage + 1} map must be at least {least}x{least}, got"
                f" {size[0]}x{size[1]}; images need H and W of at least 32"
            )
        for block in getattr(self, f"block{stage + 1}"):
            tokens = block(tokens, size)
        return getattr(self, f"norm{stage + 1}")(tokens)

    def forward(self, x: Tensor) -> list[Tensor]:
        """x: (B, 3, H, W), H and W >= 32 -> four maps (B, dims[i], ceil(H / 4 / 2^i), ceil(W / 4 / 2^i))."""
        maps = []
        for stage in range(STAGES):
            tokens, size = self.patch_embed(stage, x)
            x = tokens_to_map(self.blocks(stage, tokens, size), size)
            maps.append(x)
        return maps

    def new_stem(self, channels: int) -> PatchEmbed:
        """A first patch embedding for images with another number of channels, started from the encoder's own."""
        stem = PatchEmbed(channels, self.config.dims[0], 7, 4)
        self.start_stem(stem)
        return stem

    @torch.no_grad()
    def start_stem(self, stem: nn.Module) -> None:
        """Copy the encoder's first patch embedding into `stem`, in place.

        Channel j of n gets colour j mod 3 times 3 / n, so that the response keeps its size; a single channel gets the
        sum of the three, as if it were repeated.
        """
        own = self.get_submodule("patch_embed1")
        assert isinstance(own, PatchEmbed) and isinstance(stem, PatchEmbed)
        channels = stem.proj.in_channels
        colours = torch.arange(channels, device=own.proj.weight.device) % 3
        weight = own.proj.weight
        started = weight.sum(1, keepdim=True) if channels == 1 else weight[:, colours] * (3.0 / channels)
        stem.load_state_dict({**own.state_dict(), "proj.weight": started})


def _init_weights(module: nn.Module) -> None:
    """Linear: normal, std 0.02, cut at 2; convolution: normal, std sqrt(2 / fan-out); biases zero to begin with."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
