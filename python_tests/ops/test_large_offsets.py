"""Modalities whose storage lies more than 2^31 elements apart: every backend computes offsets in 64 bits.

Small views into a large, mostly untouched piece of memory (4 GiB of addresses, a few pages of memory on the CPU). The
distance itself fits 32 bits; its double, where the third modality begins, does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from op_cases import attention_inputs, score_inputs
from torch import Tensor

from egformer_fast import modality_attention, modality_drop, modality_score

GAP = 2**30 + 8


def far_apart(x: Tensor) -> Tensor:
    """x: (1, M, ...), dense -> the same values, GAP elements between modalities."""
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = False
    storage = torch.empty((x.shape[1] - 1) * GAP + x[0, 0].numel(), dtype=x.dtype, device=x.device)
    torch.utils.deterministic.fill_uninitialized_memory = fill
    return storage.as_strided(x.shape, (storage.numel(), GAP, *x.stride()[2:])).copy_(x)


def assert_same(run: Callable[..., Any], inputs: list[Tensor], moved: list[int]) -> None:
    """Outputs and gradients of run(*inputs) do not depend on where the inputs `moved` lie."""
    found = []
    for far in (False, True):
        leaves = [t.detach().clone() for t in inputs]
        for number in moved if far else []:
            leaves[number] = far_apart(leaves[number])
        leaves = [t.requires_grad_() for t in leaves]
        outputs = [t for t in run(*leaves) if t.is_floating_point()]
        sum(t.float().square().sum() for t in outputs).backward()
        found.append([*outputs, *(t.grad for t in leaves)])
    for near, far in zip(*found, strict=True):
        torch.testing.assert_close(far, near)


def test_score(device):
    x, *weights = score_inputs(1, 3, 40, 16, device=device, dtype=torch.float16)
    assert_same(lambda *args: (modality_score(*args),), [x, *weights], [0])


def test_drop(device):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, 40, 16, generator=generator).to(device, torch.float16)
    score = torch.tensor([[0.2, 0.5, 0.9]], device=device)
    assert_same(lambda x, score: modality_drop(x, score, 2)[:2], [x, score], [0])


def test_attention(device):
    q, k, v, _, _ = attention_inputs(device=device, dtype=torch.float16)
    q, k, v = q[:1], k[:1, :3].contiguous(), v[:1, :3].contiguous()
    index = torch.tensor([[2, 0]], device=device)
    assert_same(lambda q, k, v: modality_attention(q, k, v, index), [q, k, v], [1, 2])
