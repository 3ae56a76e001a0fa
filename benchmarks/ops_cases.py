"""What the benchmark of the ops runs: the stage shapes of MiT-B0 and B2, and at each of them our op and its baseline,
which is what a user would write in PyTorch.

    score      sigmoid(gelu(x.mean(2) @ W1' + b1) @ w2 + b2)
    drop       topk, sort, gather, normalise, einsum
    attention  gather keys and values of kept modalities, scaled_dot_product_attention with the bias as a float mask

benchmarks/gpu adds baselines of its own to these.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from egformer_fast import modality_attention, modality_drop, modality_score
from egformer_fast.models import default_keep
from egformer_fast.models.mit import MIT_CONFIGS

MODALITIES = 4
Call = Callable[..., Any]


@dataclass(frozen=True)
class Stage:
    """What one op sees: x (B, M, N, C), K kept, H heads, Nk pooled keys of a modality."""

    backbone: str
    size: int
    stage: int
    batch: int
    keep: int
    modalities: int = MODALITIES

    @property
    def side(self) -> int:
        return self.size // (4 << self.stage)

    @property
    def tokens(self) -> int:
        return self.side**2

    @property
    def channels(self) -> int:
        return MIT_CONFIGS[self.backbone].dims[self.stage]

    @property
    def heads(self) -> int:
        return MIT_CONFIGS[self.backbone].heads[self.stage]

    @property
    def keys(self) -> int:
        return math.ceil(self.side / (2 * MIT_CONFIGS[self.backbone].reductions[self.stage])) ** 2


def stages(keeps: tuple[int, ...]) -> Iterator[Stage]:
    grid = itertools.product(("mit_b0", "mit_b2"), (512, 1024), range(4), (1, 4), keeps)
    return (Stage(*values) for values in grid)


def dropping_stages(size: int, batch: int = 1) -> list[Stage]:
    """The stages of EGFormer-B0 with four sensors: each sees the modalities that the one before has kept."""
    keeps = default_keep(MODALITIES, "separate")
    slots = (MODALITIES, *keeps[:-1])
    return [Stage("mit_b0", size, number, batch, *pair) for number, pair in enumerate(zip(keeps, slots, strict=True))]


def plain_score(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    return torch.sigmoid(F.gelu(F.linear(x.mean(2), w1, b1)) @ w2 + b2)


def plain_drop(x: Tensor, score: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    index = score.topk(keep).indices.sort(1).values
    weight = score.gather(1, index)
    weight = weight / weight.sum(1, keepdim=True)
    kept = x[torch.arange(x.shape[0], device=x.device).unsqueeze(1), index]
    return kept, torch.einsum("bk,bknc->bnc", weight.to(x.dtype), kept)


def gathered(index: Tensor, *tokens: Tensor) -> list[Tensor]:
    """Of tokens (B, M, H, Nk, D) those of kept modalities, which index (B, K) names: (B, H, K * Nk, D)."""
    sample = torch.arange(index.shape[0], device=index.device).unsqueeze(1)
    return [t[sample, index].transpose(1, 2).flatten(2, 3) for t in tokens]


def plain_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, index: Tensor) -> Tensor:
    keys, values = gathered(index, k, v)
    mask = bias.repeat_interleave(k.shape[3], 1)[:, None, None, :].expand(-1, 1, q.shape[2], -1)
    return F.scaled_dot_product_attention(q, keys, values, mask.to(q.dtype))


@dataclass(frozen=True)
class Work:
    """What an ideal kernel does: bytes that it must move, FLOPs of its matrix products (0: bytes are what counts)."""

    moved: float
    flops: float = 0.0


@dataclass(frozen=True)
class Case:
    inputs: list[Tensor]  # differentiable ones
    ours: Call  # of the inputs
    plain: Call  # of the inputs, then `constants`
    constants: tuple[Tensor, ...]
    forward: Work
    both: Work  # forward and backward, from dense gradients of all outputs


def score_case(s: Stage, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Case:
    hidden = max(8, s.channels // 4)
    shapes = ((s.batch, s.modalities, s.tokens, s.channels), (hidden, s.channels), (hidden,), (hidden,), ())
    inputs = [torch.randn(shape, device=device).to(dtype) for shape in shapes]
    read = float(inputs[0].numel() * dtype.itemsize)
    return Case(inputs, modality_score, plain_score, (), Work(read), Work(2 * read))


@functools.cache
def plain_drop_of(keep: int) -> Call:
    return functools.partial(plain_drop, keep=keep)


def drop_case(s: Stage, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Case:
    x = torch.randn(s.batch, s.modalities, s.tokens, s.channels, device=device).to(dtype)
    inputs = [x, torch.rand(s.batch, s.modalities, device=device)]
    one = float(s.batch * s.tokens * s.channels * dtype.itemsize)
    forward = one * (2 * s.keep + 1)
    both = forward + one * (2 * s.keep + 1 + s.modalities)
    return Case(
        inputs,
        lambda x, score: modality_drop(x, score, s.keep)[:2],
        plain_drop_of(s.keep),
        (),
        Work(forward),
        Work(both),
    )


def attention_case(s: Stage, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Case:
    dim = s.channels // s.heads
    q = torch.randn(s.batch, s.heads, s.tokens, dim, device=device).to(dtype)
    k, v = (torch.randn(s.batch, s.modalities, s.heads, s.keys, dim, device=device).to(dtype) for _ in range(2))
    index = torch.stack([torch.randperm(s.modalities)[: s.keep].sort().values for _ in range(s.batch)]).to(device)
    flops = 4.0 * q.numel() * s.keep * s.keys
    kept = k.numel() * s.keep / s.modalities
    forward = 2.0 * dtype.itemsize * (q.numel() + kept)
    both = forward + dtype.itemsize * (4 * q.numel() + 2 * kept + 2 * k.numel())
    return Case(
        [q, k, v, torch.randn(s.batch, s.keep, device=device)],
        lambda q, k, v, bias: modality_attention(q, k, v, index, bias)[0],
        plain_attention,
        (index,),
        Work(forward, flops),
        Work(both, 3.5 * flops),
    )


OPS: dict[str, tuple[Callable[..., Case], tuple[int, ...]]] = {
    "modality_attention": (attention_case, (4, 3, 2, 1)),
    "modality_drop": (drop_case, (4, 3, 2, 1)),
    "modality_score": (score_case, (MODALITIES,)),
}
