"""lr_factor: its corners, its formulas, and one_cycle against torch's OneCycleLR."""

from __future__ import annotations

import pytest
import torch

from egformer_fast.train.schedule import START, lr_factor

KINDS = ["poly", "one_cycle", "constant"]


@pytest.mark.parametrize("kind", KINDS)
def test_corners(kind: str) -> None:
    assert lr_factor(kind, 0.0, 0.1) == pytest.approx(START)
    assert lr_factor(kind, 0.1, 0.1) == 1.0
    assert lr_factor(kind, 0.0, 0.0) == 1.0
    assert lr_factor(kind, 1.0, 0.1) == (1.0 if kind == "constant" else 0.0)
    assert lr_factor(kind, 1.5, 0.1) == lr_factor(kind, 1.0, 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_rises_through_the_warmup_and_never_after(kind: str) -> None:
    factors = [lr_factor(kind, step / 200, 0.25) for step in range(201)]
    assert all(a < b for a, b in zip(factors[:50], factors[1:51], strict=True))
    assert all(a >= b for a, b in zip(factors[50:], factors[51:], strict=False))


def test_poly_formula() -> None:
    assert lr_factor("poly", 0.55, 0.1) == pytest.approx(0.5**0.9)
    assert lr_factor("poly", 0.05, 0.1) == pytest.approx((START + 1) / 2)


def test_one_cycle_is_that_of_torch() -> None:
    steps, warmup = 101, 0.3
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=steps, pct_start=31 / 101, div_factor=1 / START, final_div_factor=1e12
    )
    for step in range(steps):
        assert lr_factor("one_cycle", step / 100, warmup) == pytest.approx(cycle.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        if step < steps - 1:
            cycle.step()


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="'cosine'; one of poly, one_cycle, constant"):
        lr_factor("cosine", 0.5, 0.1)
