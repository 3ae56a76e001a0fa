"""Bilinear resizing by matrix products against torch's own, and when it is chosen."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F

from egformer_fast.models import resize as module
from egformer_fast.models.resize import resize, resize_by_products

SIDES = st.integers(1, 23)


@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES))
def test_products_and_their_gradient_are_those_of_torch(old: tuple[int, int], new: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, upstream = torch.randn(2, 3, *old, dtype=torch.float64), torch.randn(2, 3, *new, dtype=torch.float64)
    results = []
    for call in (lambda t: F.interpolate(t, new, mode="bilinear"), lambda t: resize_by_products(t, new)):
        leaf = x.clone().requires_grad_()
        out = call(leaf)
        out.backward(upstream)
        results.append((out.detach(), leaf.grad))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_products_are_as_exact_as_torch(dtype: torch.dtype, autocast: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 5, 16, 12).to(dtype)
    exact = F.interpolate(x.double(), (64, 40), mode="bilinear")
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        got, plain = resize_by_products(x, (64, 40)), F.interpolate(x, (64, 40), mode="bilinear")
    assert got.dtype == dtype
    assert (got - exact).abs().max() <= 2 * (plain - exact).abs().max()


@pytest.mark.parametrize(("device", "wanted"), [("cuda", True), ("cuda", False), ("cpu", True)])
def test_products_are_for_a_gpu_that_must_repeat_itself(
    monkeypatch: pytest.MonkeyPatch, device: str, wanted: bool
) -> None:
    called = []
    monkeypatch.setattr(module, "resize_by_products", lambda x, size: called.append(size) or x)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: wanted)
    with FakeTensorMode():
        resize(torch.empty(1, 2, 4, 4, device=device), (8, 8))
    assert called == ([(8, 8)] if (device, wanted) == ("cuda", True) else [])
