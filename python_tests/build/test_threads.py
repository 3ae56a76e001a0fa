"""The C++ kernels give the same bits twice, and for one thread and two: their blocks have a fixed size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from egformer_fast import modality_attention, modality_drop, modality_score, use_backend

pytestmark = pytest.mark.usefixtures("library")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    with use_backend("cpu"):
        yield
    torch.set_num_threads(before)


def score(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> list[Tensor]:
    return [modality_score(x, w1, b1, w2, b2)]


def drop(x: Tensor, scores: Tensor) -> list[Tensor]:
    survivors, fused, _, weight = modality_drop(x, scores, 2)
    return [survivors, fused, weight]


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> list[Tensor]:
    return [modality_attention(q, k, v, torch.tensor([[0, 2], [1, -1]]), bias)[0]]


CASES: list[tuple[Callable[..., list[Tensor]], tuple[tuple[int, ...], ...]]] = [
    (score, ((2, 3, 3000, 40), (10, 40), (10,), (10,), ())),
    (drop, ((2, 3, 3000, 40), (2, 3))),
    (attention, ((2, 2, 700, 20), (2, 3, 2, 75, 20), (2, 3, 2, 75, 20), (2, 2))),
]


@pytest.mark.parametrize(("run", "shapes"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_same_bits_for_any_number_of_threads(run: Callable[..., list[Tensor]], shapes: tuple) -> None:
    inputs = [torch.rand(shape) for shape in shapes]
    results = []
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        leaves = [t.clone().requires_grad_() for t in inputs]
        outputs = run(*leaves)
        torch.autograd.backward([t.square().sum() for t in outputs])
        results.append([*outputs, *(leaf.grad for leaf in leaves)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
