"""The all-MLP head: exactly SegFormer's, at low resolution first, and after fuse_()."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from egformer_fast.models.head import AllMLPHead, all_mlp_head_reference

DIMS = (32, 64, 160, 256)
SIZES = [((16, 16), (8, 8), (4, 4), (2, 2)), ((9, 12), (5, 6), (3, 3), (2, 2)), ((8, 8), (4, 4), (2, 2), (1, 1))]


def random_head(dropout: float = 0.0) -> AllMLPHead:
    """A head whose BatchNorm has statistics, and gains of both signs."""
    head = AllMLPHead(DIMS, 48, 7, dropout)
    with torch.no_grad():
        bn = head.linear_fuse.bn
        bn.weight.normal_()
        bn.bias.normal_()
        bn.running_mean.normal_()
        bn.running_var.uniform_(0.2, 3)
    return head


def random_maps(sizes, dtype=torch.float64) -> list[torch.Tensor]:
    return [torch.randn(2, dim, *size, dtype=dtype) for dim, size in zip(DIMS, sizes, strict=True)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("training", [False, True])
def test_equals_segformers_head(sizes, training):
    head, maps = random_head().double().train(training), random_maps(sizes)
    start = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    found, leaves = head(maps), [*maps, *head.parameters()]
    for leaf in leaves:
        leaf.requires_grad_()
    upstream = torch.randn_like(found)
    results = []
    for forward in (head, lambda x: all_mlp_head_reference(head, x)):
        head.load_state_dict(start)
        logits = forward(maps)
        results.append([logits, *torch.autograd.grad(logits, leaves, upstream), *head.buffers()])
        results[-1] = [tensor.clone() for tensor in results[-1]]
    assert found.shape == (2, 7, *sizes[0])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fused", [False, True])
def test_float32_is_as_exact_as_segformers_head(fused):
    head, maps = random_head().eval(), random_maps(SIZES[0], torch.float32)
    with torch.no_grad():
        plain = all_mlp_head_reference(head, maps)
        exact = all_mlp_head_reference(head.double(), [m.double() for m in maps])
        head.float()
        found = (head.fuse_() if fused else head)(maps)
    ulp = torch.finfo(torch.float32).eps * exact.abs().max()
    assert (found - exact).abs().max() <= 2 * (plain - exact).abs().max() + 4 * ulp


@pytest.mark.parametrize("sizes", SIZES)
def test_fused_logits_are_equal(sizes):
    head, maps = random_head().double().eval(), random_maps(sizes)
    before = head(maps)
    assert not head.fused
    assert head.fuse_() is head and head.fused
    torch.testing.assert_close(head(maps), before, rtol=1e-10, atol=1e-10)
    head.fuse_()
    torch.testing.assert_close(head(maps), before, rtol=1e-10, atol=1e-10)
    assert not any(p.requires_grad for p in head.parameters())


def test_fused_state_is_one_matrix_a_level_and_loads_into_a_fused_head():
    head, maps = random_head().eval(), random_maps(SIZES[0], torch.float32)
    state = head.fuse_().state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "linear_pred.weight": (7, 48, 1, 1),
        "linear_pred.bias": (7,),
        "level1.weight": (48, 32),
        "level1.bias": (48,),
        "level2.weight": (48, 64),
        "level3.weight": (48, 160),
        "level4.weight": (48, 256),
    }
    other = random_head().eval().fuse_()
    other.load_state_dict(state)
    assert torch.equal(other(maps), head(maps))


def test_a_fused_head_refuses_to_be_trained():
    with pytest.raises(RuntimeError, match="training mode; call eval"):
        random_head().train().fuse_()
    head = random_head().eval().fuse_()
    with pytest.raises(RuntimeError, match=r"folded by fuse_\(\) for inference"):
        head.train()
    assert not head.eval().training


def test_dropout_acts_on_whole_channels_in_training_only():
    head, maps = random_head(0.5).train(), random_maps(SIZES[0], torch.float32)
    seen = []
    head.dropout.register_forward_hook(lambda _, x, y: seen.append(((x[0] > 0).any((2, 3)), (y > 0).any((2, 3)))))
    head(maps)
    alive, kept = seen[0]
    assert 0.25 < kept[alive].float().mean() < 0.75
    head.eval()
    assert torch.equal(head(maps), head(maps))


def test_costs_less_than_segformers_head():
    head = AllMLPHead(DIMS, 256, 25).eval()
    maps = [torch.randn(1, dim, 128 >> i, 128 >> i) for i, dim in enumerate(DIMS)]
    flops = []
    for run in (head, lambda x: all_mlp_head_reference(head, x)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run(maps)
        flops.append(counter.get_total_flops())
    head.fuse_()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        head(maps)
    flops.append(counter.get_total_flops())
    tokens = (16384, 4096, 1024, 256)
    folded = sum(n * dim * 256 for n, dim in zip(tokens, DIMS, strict=True)) + tokens[0] * 256 * 25
    assert flops[2] == 2 * folded
    assert flops[0] < flops[2] + 2 * 256 * 256 * (sum(DIMS) + 4) + 1
    assert flops[0] < 0.09 * flops[1]


def test_bfloat16_autocast():
    head, maps = random_head().eval(), random_maps(SIZES[0], torch.float32)
    exact = head(maps)
    with torch.autocast("cpu", torch.bfloat16):
        found = head(maps)
    found.float().sum().backward()
    assert (found.float() - exact).norm() < 0.02 * exact.norm()


def test_errors():
    head = random_head()
    maps = random_maps(SIZES[0], torch.float32)
    with pytest.raises(ValueError, match=r"maps must be four \(B, C, h, w\) with C \(32, .*, got \[\(2, 32"):
        head(maps[:3])
    with pytest.raises(ValueError, match=r"maps must be four"):
        head(maps[::-1])
    with pytest.raises(ValueError, match="four in_dims, head_dim and num_classes of at least 1"):
        AllMLPHead(DIMS, 48, 0)
