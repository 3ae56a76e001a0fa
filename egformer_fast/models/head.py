"""The all-MLP head of SegFormer (arXiv 2105.15203), low resolution first.

SegFormer:  logits = pred(dropout(relu(bn(F · concat_i(up(W_i x_i + b_i))))))        F: (D, 4 D), W_i: (D, C_i)
here:       logits = pred(dropout(relu(bn(Σ_i up(F_i W_i x_i) + Σ_i F_i b_i))))      F_i: the D columns of F for level i

A 1x1 convolution and bilinear upsampling commute (one mixes channels, the other positions, and its weights sum to 1),
so both are the same function, in training too; F_i W_i is a product of small matrices, and the wide work is done at
each level's own resolution. Every level is upsampled directly to the first one's size: twice by 2 is not once by 4.

Everything stays channels_last, that is tokens in memory: upsampling is several times slower on NCHW maps on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egformer_fast.models.mit import map_to_tokens, tokens_to_map
from egformer_fast.models.resize import resize

LEVELS = 4


class LevelProjection(nn.Module):
    """A Linear of one level, named as in the original release."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_dim, dim)


class FuseConvolution(nn.Module):
    """The parameters of the 1x1 fusion convolution and its BatchNorm, named as in the original release."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(LEVELS * dim, dim, 1, bias=False)
        self.bn = nn.BatchNorm2d(dim)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")


class AllMLPHead(nn.Module):
    """Logits at the first level's resolution from four maps.

    Args:
        in_dims: channels of the four maps, finest first.
        head_dim: D, the width of the head.
        num_classes: channels of the logits.
        dropout: rate of dropout of whole channels before the classifier, in training.

    State: linear_c4.proj ... linear_c1.proj, linear_fuse.conv, linear_fuse.bn, linear_pred; after fuse_() instead
    level1 ... level4 and linear_pred. To load the state of a fused head, make a head, call eval() and fuse_() on it,
    then load_state_dict.

    Raises:
        ValueError: an argument is out of range, or a map does not fit.
    """

    def __init__(self, in_dims: Sequence[int], head_dim: int, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        if len(in_dims) != LEVELS or min(*in_dims, head_dim, num_classes) < 1:
            raise ValueError(
                f"AllMLPHead: four in_dims, head_dim and num_classes of at least 1 needed, got {list(in_dims)},"
                f" {head_dim}, {num_classes}"
            )
        self.in_dims, self.head_dim = tuple(in_dims), head_dim
        for level in range(LEVELS, 0, -1):
            self.add_module(f"linear_c{level}", LevelProjection(in_dims[level - 1], head_dim))
        self.linear_fuse: FuseConvolution | None = FuseConvolution(head_dim)
        self.dropout = nn.Dropout2d(dropout)
        self.linear_pred = nn.Conv2d(head_dim, num_classes, 1)

    @property
    def fused(self) -> bool:
        """Whether fuse_() was called."""
        return self.linear_fuse is None

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """maps: four (B, in_dims[i], h_i, w_i), finest first -> logits (B, num_classes, h_1, w_1)."""
        self._check(maps)
        size = (maps[0].shape[2], maps[0].shape[3])
        matrices, bias = self._folded()
        tokens = F.linear(map_to_tokens(maps[0]), matrices[0], bias)
        x = tokens_to_map(tokens, size)
        for matrix, level in zip(matrices[1:], maps[1:], strict=True):
            small = tokens_to_map(F.linear(map_to_tokens(level), matrix), (level.shape[2], level.shape[3]))
            x = x + resize(small, size)
        if self.linear_fuse is not None:
            x = self.linear_fuse.bn(x)
        x = self.dropout(F.relu(x))
        logits = F.linear(map_to_tokens(x), self.linear_pred.weight.flatten(1), self.linear_pred.bias)
        return tokens_to_map(logits, size)

    def fuse_(self) -> AllMLPHead:
        """Fold projections, fusion convolution and BatchNorm's running statistics into one matrix a level, in place.

        The bias of all levels sits in the first, at whose resolution it is added for free: upsampling keeps a
        constant. Equal logits, for inference only. Does nothing on a fused head.

        Raises:
            RuntimeError: the head is in training mode, whose BatchNorm has no fixed statistics: call eval() first.
        """
        if self.linear_fuse is None:
            return self
        if self.training:
            raise RuntimeError("AllMLPHead.fuse_: the head is in training mode; call eval() on the model first")
        with torch.no_grad():
            matrices, bias = self._folded(torch.float64)
            bn = self.linear_fuse.bn
            assert bn.running_mean is not None and bn.running_var is not None
            gain = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
            bias = (bias - bn.running_mean.double()) * gain + bn.bias.double()
            like = self.linear_pred.weight
            for level, matrix in enumerate(matrices, 1):
                folded = nn.Linear(matrix.shape[1], self.head_dim, bias=level == 1, device="meta")
                folded.weight = nn.Parameter((gain.unsqueeze(1) * matrix).to(like))
                if level == 1:
                    folded.bias = nn.Parameter(bias.to(like))
                self.add_module(f"level{level}", folded)
                delattr(self, f"linear_c{level}")
        self.linear_fuse = None
        return self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> AllMLPHead:
        """As nn.Module.train, but a fused head refuses to be trained."""
        if mode:
            self.refuse_training()
        super().train(mode)
        return self

    def refuse_training(self) -> None:
        """RuntimeError on a fused head."""
        if self.fused:
            raise RuntimeError("AllMLPHead: folded by fuse_() for inference and cannot be trained; load the model anew")

    def _folded(self, dtype: torch.dtype | None = None) -> tuple[list[Tensor], Tensor]:
        """The matrices (D, C_i) of the four levels and their common bias (D,), without BatchNorm unless fused."""
        names = [f"{'level' if self.fused else 'linear_c'}{level}" for level in range(1, LEVELS + 1)]
        if self.linear_fuse is None:
            linears = [_linear(self, name) for name in names]
            return [linear.weight for linear in linears], linears[0].bias
        linears = [_linear(self, f"{name}.proj") for name in names]
        # The original concatenates the coarsest level first.
        slices = self.linear_fuse.conv.weight.flatten(1).to(dtype).chunk(LEVELS, 1)[::-1]
        matrices = [part @ linear.weight.to(dtype) for part, linear in zip(slices, linears, strict=True)]
        biases = [part @ linear.bias.to(dtype) for part, linear in zip(slices, linears, strict=True)]
        return matrices, torch.stack(biases).sum(0)

    def _check(self, maps: Sequence[Tensor]) -> None:
        shapes = [tuple(m.shape) for m in maps]
        wanted = len(maps) == LEVELS and all(m.dim() == 4 for m in maps)
        if not wanted or tuple(m.shape[1] for m in maps) != self.in_dims:
            raise ValueError(f"AllMLPHead: maps must be four (B, C, h, w) with C {self.in_dims}, got {shapes}")


def _linear(head: AllMLPHead, name: str) -> nn.Linear:
    module = head.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module


def all_mlp_head_reference(head: AllMLPHead, maps: Sequence[Tensor]) -> Tensor:
    """SegFormer's head as it is published, with the weights of `head` (not fused): the standard of correctness."""
    assert head.linear_fuse is not None
    size = maps[0].shape[2:]
    projected = []
    for level in range(LEVELS, 0, -1):
        x = maps[level - 1]
        tokens = _linear(head, f"linear_c{level}.proj")(x.flatten(2).transpose(1, 2))
        x = tokens.transpose(1, 2).unflatten(2, x.shape[2:])
        projected.append(F.interpolate(x, size, mode="bilinear", align_corners=False))
    x = head.linear_fuse.bn(head.linear_fuse.conv(torch.cat(projected, 1)))
    return head.linear_pred(head.dropout(F.relu(x)))
