"""ModalMerge: the sum of the modalities as the weights say, and scores that see the strength of a pattern."""

from __future__ import annotations

import math

import pytest
import torch

from egformer_fast import modality_score, use_backend
from egformer_fast.nn import AnyModalScoring, ModalMerge

SIZE = (4, 6)
ALL = torch.ones(2, 4, dtype=torch.bool)


def tokens(modalities: int = 4) -> torch.Tensor:
    return torch.randn(2, modalities, 24, 16)


def test_equal_scores_give_the_plain_sum() -> None:
    """As one encoder over all channels starts: a convolution of stacked channels is a sum of convolutions."""
    x = tokens()
    merged = ModalMerge(16, keep=4)(x, SIZE, ALL, score=torch.full((2, 4), 0.3))
    torch.testing.assert_close(merged.fused, x.sum(1))
    two = torch.tensor([[True, False, True, False], [False, False, False, True]])
    merged = ModalMerge(16, keep=4)(x, SIZE, two, score=torch.full((2, 4), 0.3))
    torch.testing.assert_close(merged.fused, torch.stack([x[0, 0] + x[0, 2], x[1, 3]]))


def test_the_stream_is_the_formula_in_the_head_of_the_file() -> None:
    x, score = tokens(), torch.rand(2, 4) + 0.1
    merged = ModalMerge(16, keep=3)(x, SIZE, ALL, score=score)
    for b in range(2):
        kept = score[b].topk(3).indices
        weight = score[b, kept] / score[b, kept].sum()
        wanted = (weight[:, None, None] * x[b, kept]).sum(0) / weight.square().sum()
        torch.testing.assert_close(merged.fused[b], wanted)


def test_a_score_that_goes_to_zero_is_a_continuous_drop() -> None:
    x, module = tokens(), ModalMerge(16, keep=4)
    without = module(x, SIZE, torch.tensor([[True, True, True, False]] * 2), score=torch.full((2, 4), 0.5)).fused
    faint = module(x, SIZE, ALL, score=torch.tensor([[0.5, 0.5, 0.5, 1e-6]] * 2)).fused
    torch.testing.assert_close(faint, without, rtol=1e-4, atol=1e-4)


def test_no_modality_at_all_gives_zeros_and_no_gradient() -> None:
    x = tokens().requires_grad_()
    merged = ModalMerge(16, keep=4)(x, SIZE, ~ALL)
    assert (merged.fused == 0).all() and (merged.index == -1).all()
    merged.fused.sum().backward()
    assert (x.grad == 0).all()


def test_survivors_only_where_they_are_wanted() -> None:
    x, module = tokens(), ModalMerge(16, keep=2)
    assert module(x, SIZE, ALL).survivors.shape == (2, 2, 24, 16)
    assert module(x, SIZE, ALL, gather=False).survivors.shape == (2, 0, 24, 16)


def test_texture_is_the_op_on_strength_and_roughness() -> None:
    module, x = AnyModalScoring(16, texture=True), torch.randn(2, 4, 15, 16)
    maps = x.unflatten(2, (3, 5))
    strength = torch.nn.functional.gelu(module.psi(x[:, :, [0, 4, 8, 12]])).mean(2)
    pairs = [maps[:, :, row, column + 1] - maps[:, :, row, column] for row in (0, 2) for column in (0, 2)]
    roughness = torch.stack(pairs).abs().mean(0)
    pooled = module.norm(torch.cat([strength, roughness], 2)).unsqueeze(2)
    weights = (module.fc1.weight, module.fc1.bias, module.fc2.weight[0], module.fc2.bias[0])
    torch.testing.assert_close(module(x, size=(3, 5)), modality_score(pooled, *weights))
    with pytest.raises(ValueError, match=r"found no size, wanted the \(h, w\)"):
        module(x)


def test_texture_sees_what_the_mean_does_not() -> None:
    """Tokens that swing around the same mean, weakly, strongly, or smoothly: their mean scores are equal."""
    swing = torch.tensor([1.0, -1.0]).repeat(32)[:, None].expand(64, 16)
    smooth = torch.tensor([1.0] * 4 + [-1.0] * 4).repeat(8)[:, None].expand(64, 16)
    x = torch.stack([0.1 * swing, 3.0 * swing, 3.0 * smooth])[None]
    torch.manual_seed(0)
    blind, seeing = AnyModalScoring(16)(x)[0], AnyModalScoring(16, texture=True)(x, size=(8, 8))[0]
    torch.testing.assert_close(blind, blind[:1].expand(3))
    apart = (seeing[:, None] - seeing[None]).abs()[[0, 0, 1], [1, 2, 2]]
    assert (apart > 1e-3).all()


def test_a_broken_modality_scores_nan() -> None:
    x = tokens()
    x[1, 2, 7, 3] = torch.nan
    score = AnyModalScoring(16, texture=True)(x, size=SIZE)
    assert score.isnan().nonzero().tolist() == [[1, 2]]


def test_gradients_reach_the_scores_and_agree_on_every_backend(device: torch.device) -> None:
    module, x = ModalMerge(16, keep=3).to(device), tokens().to(device).requires_grad_()
    grads = []
    for backend in ("auto", "reference"):
        with use_backend(backend):
            module.zero_grad()
            x.grad = None
            module(x, SIZE, ALL.to(device)).fused.square().sum().backward()
            grads.append([x.grad, *(p.grad for p in module.parameters())])
    assert all(float(g.abs().sum()) > 0 and math.isfinite(float(g.abs().sum())) for g in grads[0])
    for got, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
