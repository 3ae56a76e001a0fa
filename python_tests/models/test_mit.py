"""The Mix Transformer: sizes as published, equal to the plain formulation, any H and W from 32, stage by stage."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch.nn import functional as F

from egformer_fast.models.mit import MIT_CONFIGS, MixVisionTransformer

# Parameters of the encoders; SegFormer's paper (table 1) rounds them to 3.4, 13.1, 24.2, 44.0, 60.8, 81.4 million.
PARAMETERS = {
    "mit_b0": 3_319_392,
    "mit_b1": 13_151_424,
    "mit_b2": 24_196_288,
    "mit_b3": 44_072_128,
    "mit_b4": 60_842_688,
    "mit_b5": 81_443_008,
}


def b0(drop_path: float = 0.0) -> MixVisionTransformer:
    """B0 whose biases and norms are not at their start values, so that each of them shows in the output."""
    encoder = MixVisionTransformer(MIT_CONFIGS["mit_b0"], drop_path)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif parameter.dim() == 2:
                parameter.mul_(3)
    return encoder


def plain_forward(weights: dict[str, torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
    """The encoder written straight down from the paper, from named weights alone: NCHW maps, explicit softmax."""

    def norm(name, t, eps):
        return F.layer_norm(t, t.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    def linear(name, t):
        return t @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def conv(name, t, **options):
        return F.conv2d(t, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    def attention(name, t, size, heads, reduction):
        batch, count, dim = t.shape
        source = t
        if reduction > 1:
            grid = t.transpose(1, 2).reshape(batch, dim, *size)
            source = norm(f"{name}.norm", conv(f"{name}.sr", grid, stride=reduction).flatten(2).transpose(1, 2), 1e-5)
        q = linear(f"{name}.q", t).reshape(batch, count, heads, -1).transpose(1, 2)
        k, v = linear(f"{name}.kv", source).chunk(2, 2)
        k, v = (s.reshape(batch, -1, heads, dim // heads).transpose(1, 2) for s in (k, v))
        weight = (q @ k.transpose(2, 3) / math.sqrt(dim // heads)).softmax(3)
        return linear(f"{name}.proj", (weight @ v).transpose(1, 2).reshape(batch, count, dim))

    def mix_ffn(name, t, size):
        hidden = linear(f"{name}.fc1", t)
        grid = hidden.transpose(1, 2).reshape(t.shape[0], -1, *size)
        grid = conv(f"{name}.dwconv.dwconv", grid, padding=1, groups=grid.shape[1])
        return linear(f"{name}.fc2", F.gelu(grid.flatten(2).transpose(1, 2)))

    maps = []
    for stage, (heads, reduction) in enumerate(zip((1, 2, 5, 8), (8, 4, 2, 1), strict=True), 1):
        stride, padding = (4, 3) if stage == 1 else (2, 1)
        x = conv(f"patch_embed{stage}.proj", x, stride=stride, padding=padding)
        size = x.shape[2:]
        t = norm(f"patch_embed{stage}.norm", x.flatten(2).transpose(1, 2), 1e-5)
        for block in (f"block{stage}.0", f"block{stage}.1"):
            t = t + attention(f"{block}.attn", norm(f"{block}.norm1", t, 1e-6), size, heads, reduction)
            t = t + mix_ffn(f"{block}.mlp", norm(f"{block}.norm2", t, 1e-6), size)
        x = norm(f"norm{stage}", t, 1e-6).transpose(1, 2).reshape(x.shape[0], -1, *size)
        maps.append(x)
    return maps


@pytest.mark.parametrize("name", MIT_CONFIGS)
def test_parameter_count(name):
    with torch.device("meta"):
        encoder = MixVisionTransformer(MIT_CONFIGS[name])
    assert sum(p.numel() for p in encoder.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (63, 32), (64, 96)])
def test_equals_the_plain_formulation(size):
    encoder = b0().double()
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    found, wanted = encoder(x), plain_forward(dict(encoder.named_parameters()), x)
    for stage, (a, b) in enumerate(zip(found, wanted, strict=True)):
        side = [math.ceil(s / (4 << stage)) for s in size]
        assert a.shape == (2, MIT_CONFIGS["mit_b0"].dims[stage], *side)
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    leaves = [x, *encoder.parameters()]
    upstream = [torch.randn_like(m) for m in wanted]
    grads = [torch.autograd.grad(maps, leaves, upstream) for maps in (found, wanted)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10 * float(b.abs().max().clamp_min(1)))


def test_float32_is_as_exact_as_the_plain_formulation():
    encoder, x = b0(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found, plain = encoder(x), plain_forward(dict(encoder.named_parameters()), x)
        exact = plain_forward(dict(encoder.double().named_parameters()), x.double())
    for a, b, c in zip(found, plain, exact, strict=True):
        ulp = torch.finfo(torch.float32).eps * c.abs().max()
        assert (a - c).abs().max() <= 2 * (b - c).abs().max() + 4 * ulp


def test_stages_one_by_one_are_the_whole():
    encoder, x = b0(), torch.randn(2, 3, 64, 96)
    whole = encoder(x)
    for stage in range(4):
        tokens, size = encoder.patch_embed(stage, x)
        tokens = encoder.blocks(stage, tokens, size)
        assert tokens.shape == (2, size[0] * size[1], encoder.config.dims[stage])
        x = tokens.transpose(1, 2).unflatten(2, size)
        torch.testing.assert_close(x, whole[stage])


def test_maps_are_views_of_tokens():
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in b0()(torch.randn(2, 3, 64, 64)))


def test_stochastic_depth_rises_linearly_and_acts_per_sample_in_training_only():
    encoder = MixVisionTransformer(MIT_CONFIGS["mit_b2"], 0.3)
    rates = [block.drop_path for stage in range(4) for block in getattr(encoder, f"block{stage + 1}")]
    torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.3, 16))

    block = b0(0.5).block4[1]
    x = torch.randn(512, 4, 256)
    branch = block.attn(block.norm1(x), (2, 2))
    scale = (block._dropped(branch) / branch).detach()
    assert torch.equal(scale.round().unique(), torch.tensor([0.0, 2.0]))
    assert scale.std((1, 2)).max() < 1e-4
    # 512 fair coins: the mean of the scale has standard deviation 1 / sqrt(512) = 0.044.
    assert abs(scale[:, 0, 0].mean() - 1) < 0.2
    block.eval()
    assert block._dropped(branch) is branch


def test_initial_weights():
    encoder = MixVisionTransformer(MIT_CONFIGS["mit_b1"])
    weights = dict(encoder.named_parameters())
    assert abs(weights["block4.0.mlp.fc1.weight"].std() - 0.02) < 5e-4
    fans_out = {"patch_embed1.proj": 49 * 64, "block1.0.attn.sr": 64 * 64, "patch_embed4.proj": 9 * 512}
    for name, fan_out in fans_out.items():
        assert abs(weights[f"{name}.weight"].std() * math.sqrt(fan_out / 2) - 1) < 0.03
    assert abs(weights["block4.0.mlp.dwconv.dwconv.weight"].std() * math.sqrt(9 / 2) - 1) < 0.03
    biases = torch.cat([weights[f"patch_embed{stage}.proj.bias"] for stage in range(1, 5)])
    assert abs(biases.std() - 0.02) < 0.003
    for name, parameter in weights.items():
        if parameter.dim() == 1 and not re.fullmatch(r"patch_embed\d.proj.bias", name):
            assert bool((parameter == float("norm" in name and name.endswith("weight"))).all()), name


def test_new_stem_answers_repeated_colours_as_the_shared_one_does():
    encoder = b0()
    image = torch.randn(2, 3, 64, 64)
    stem = encoder.new_stem(6)
    tokens, size = encoder.patch_embed(0, torch.cat([image, image], 1), stem)
    wanted, wanted_size = encoder.patch_embed(0, image)
    assert size == wanted_size
    torch.testing.assert_close(tokens, wanted)
    encoder.start_stem(two := encoder.new_stem(2))
    torch.testing.assert_close(two.proj.weight, 1.5 * encoder.patch_embed1.proj.weight[:, :2])


def test_bfloat16_autocast_trains():
    encoder, x = b0(), torch.randn(2, 3, 64, 64)
    exact = encoder(x)
    with torch.autocast("cpu", torch.bfloat16):
        maps = encoder(x)
    sum(m.float().square().mean() for m in maps).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in encoder.parameters())
    for a, b in zip(maps, exact, strict=True):
        assert (a.float() - b).norm() < 0.03 * b.norm()


def test_errors():
    encoder = b0()
    with pytest.raises(ValueError, match=r"x must be \(B, 3, H, W\), got \(1, 4, 64, 64\)"):
        encoder(torch.zeros(1, 4, 64, 64))
    with pytest.raises(ValueError, match="stage 1 map must be at least 8x8, got 7x16; images need H"):
        encoder(torch.zeros(1, 3, 28, 64))
    with pytest.raises(ValueError, match=r"drop_path must be in \[0, 1\), got 1"):
        b0(1.0)
