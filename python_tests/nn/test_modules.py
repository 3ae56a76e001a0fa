"""The drop-in modules: the same function as the ops, one state_dict for every backend, usable on their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from egformer_fast import modality_drop, modality_score, use_backend
from egformer_fast.nn import AnyModalScoring, ModalAttention, ModalDropping, ModalFusion

SIZE = (5, 7)


def tokens(batch: int = 2, modalities: int = 4, channels: int = 16) -> torch.Tensor:
    return torch.randn(batch, modalities, SIZE[0] * SIZE[1], channels)


def test_scoring_is_the_op_on_its_parameters():
    module, x = AnyModalScoring(16), tokens()
    present = torch.tensor([[True, True, False, True], [True] * 4])
    weights = (module.fc1.weight, module.fc1.bias, module.fc2.weight[0], module.fc2.bias[0])
    assert torch.equal(module(x, present), modality_score(x, *weights, present))
    assert module.fc1.weight.shape == (8, 16)
    assert AnyModalScoring(64).fc1.weight.shape == (16, 64)


def test_dropping_in_evaluation_has_no_noise():
    x, score = tokens(), torch.rand(2, 4)
    module = ModalDropping(2, gumbel=10.0).eval()
    for got, wanted in zip(module(x, score), modality_drop(x, score, 2), strict=True):
        assert torch.equal(got, wanted)


def test_gumbel_noise_draws_by_score():
    """Gumbel top-1 on log-scores keeps each modality in proportion to its score: 3 : 1 here."""
    module = ModalDropping(1, gumbel=1.0).train()
    score = torch.tensor([[0.6, 0.2, 0.0]]).expand(4000, -1).contiguous()
    index = module(torch.zeros(4000, 3, 1, 1), score)[2]
    share = index.flatten().bincount(minlength=3) / 4000
    torch.testing.assert_close(share, torch.tensor([0.75, 0.25, 0.0]), atol=0.03, rtol=0)


def test_gumbel_noise_never_revives_a_broken_sensor():
    module = ModalDropping(3, gumbel=5.0).train()
    score = torch.tensor([[0.5, float("nan"), 0.5]])
    present = torch.tensor([[True, True, False]])
    assert module(torch.zeros(1, 3, 1, 1), score, present)[2].tolist() == [[0, -1, -1]]


def test_keep_is_clipped_to_the_slots_given():
    survivors, _, index, _ = ModalDropping(3)(tokens(modalities=2), torch.rand(2, 2))
    assert survivors.shape[1] == 2
    assert index.tolist() == [[0, 1]] * 2


@pytest.mark.parametrize("reduction", [1, 2, 4])
def test_attention_matches_plain_attention(reduction):
    """Against F.scaled_dot_product_attention over the gathered, pooled tokens; ragged windows at the borders."""
    module, survivors, fused = ModalAttention(16, 2, reduction), tokens(modalities=3), tokens(modalities=1)[:, 0]
    nn.init.normal_(module.proj.weight)
    index = torch.tensor([[0, 2, 3], [1, -1, -1]])
    weight = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    got = module(fused, survivors, SIZE, index, weight)
    for b, kept in ((0, [0, 1, 2]), (1, [0])):
        maps = survivors[b, kept].transpose(1, 2).unflatten(2, SIZE)
        pooled = F.avg_pool2d(maps, reduction, ceil_mode=True).flatten(2).transpose(1, 2)
        prior = weight[b, kept].log().repeat_interleave(pooled.shape[1])
        k, v = module.kv(pooled.flatten(0, 1)).view(-1, 2, 2, 8).permute(1, 2, 0, 3)
        q = module.q(fused[b]).view(-1, 2, 8).transpose(0, 1)
        out = F.scaled_dot_product_attention(q, k, v, prior.expand(2, q.shape[1], -1))
        torch.testing.assert_close(got[b], module.proj(out.transpose(0, 1).flatten(1)), rtol=1e-4, atol=1e-5)


def test_attention_starts_silent():
    module = ModalAttention(16, 2, 2)
    out = module(tokens(modalities=1)[:, 0], tokens(), SIZE, torch.arange(4).expand(2, 4), torch.full((2, 4), 0.25))
    assert (out == 0).all()
    for heads in (3, 0):
        with pytest.raises(ValueError, match=f"heads must divide channels = 16, got {heads}"):
            ModalAttention(16, heads)
    with pytest.raises(ValueError, match="reduction must be at least 1, got 0"):
        ModalAttention(16, 2, 0)


def test_fusion_scores_learn_from_the_attention_too():
    """With the head reading only the attention's part, the score still gets a gradient (through log weight)."""
    module, x = ModalFusion(16, keep=2, heads=2, reduction=2), tokens()
    nn.init.normal_(module.attention.proj.weight)
    score = module.score(x)
    survivors, fused, index, weight = module.drop(x, score)
    module.attention(fused.detach(), survivors.detach(), SIZE, index, weight).square().sum().backward()
    assert module.score.fc1.weight.grad.abs().sum() > 0


def test_one_modality_passes_through():
    x = tokens(modalities=1)
    fused = ModalFusion(16, keep=1, heads=2, reduction=2)(x, SIZE)
    assert torch.equal(fused.fused, x[:, 0])
    assert torch.equal(fused.survivors, x)
    assert (fused.weight == 1).all()


def test_one_set_of_weights_serves_every_backend(device):
    module, x = ModalFusion(16, keep=2, heads=2, reduction=2).to(device), tokens().to(device)
    nn.init.normal_(module.attention.proj.weight)
    got = module(x, SIZE)
    with use_backend("reference"):
        wanted = module(x, SIZE)
    for value, reference in zip(got, wanted, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-5)


def test_behind_two_convolutional_encoders():
    """The README's use: two encoders of one's own, fused where their maps meet."""
    rgb, thermal = (nn.Sequential(nn.Conv2d(c, 16, 3, 2, 1), nn.ReLU()) for c in (3, 1))
    fusion = ModalFusion(channels=16, keep=1)
    maps = torch.stack([rgb(torch.randn(2, 3, 10, 14)), thermal(torch.randn(2, 1, 10, 14))], 1)
    size = maps.shape[-2:]
    fused = fusion(maps.flatten(3).transpose(2, 3), size)
    fused.fused.transpose(1, 2).unflatten(2, size).sum().backward()
    assert fused.survivors.shape == (2, 1, 35, 16)
