"""The Triton kernels in Triton's interpreter, beyond the op tests that they share with the other backends.

Collected under TRITON_INTERPRET=1 alone (conftest.py), in the second process of `make test`.
"""

from __future__ import annotations

import pytest
import torch

from egformer_fast import modality_attention, modality_drop, modality_score, use_backend


@pytest.mark.parametrize("layout", ["ragged", "channel-major"])
def test_several_ragged_tiles(layout):
    """More tokens than one tile holds, in one row of N * C elements and in tiles of tokens by channels."""
    x, score = torch.randn(2, 3, 1100, 17), torch.rand(2, 3)
    if layout == "channel-major":
        x = x.transpose(2, 3).contiguous().transpose(2, 3)
    results = []
    for backend in ("triton", "reference"):
        leaves = [t.clone().requires_grad_() for t in (x, score)]
        with use_backend(backend):
            survivors, fused, _, weight = modality_drop(*leaves, 2)
            (survivors.square().sum() + fused.square().mean() + weight.square().sum()).backward()
        results.append((survivors, fused, weight, *(leaf.grad for leaf in leaves)))
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted)


def test_out_of_range_slots_count_as_padded():
    """The public function refuses them on the CPU; on a GPU the kernels must not follow them."""
    op = torch.ops.egformer_fast.modality_attention_triton.default
    q, k, v = torch.randn(1, 1, 3, 16), torch.randn(1, 2, 1, 4, 16), torch.randn(1, 2, 1, 4, 16)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    out = op(*leaves, torch.tensor([[0, 1 << 40, -7]]), None, 0.25)[0]
    assert torch.equal(out, op(*leaves, torch.tensor([[0, -1, -1]]), None, 0.25)[0])
    out.sum().backward()
    assert (k.grad[0, 1] == 0).all() and k.grad.isfinite().all()


def test_head_dimensions_beyond_the_largest_are_refused():
    q, k = torch.zeros(1, 1, 1, 513), torch.zeros(1, 1, 1, 1, 513)
    with use_backend("triton"), pytest.raises(ValueError, match="D <= 512, got 513"):
        modality_attention(q, k, k)


def test_a_long_map_is_pooled_in_two_stages():
    args = [torch.randn(s) for s in ((1, 2, 700, 70), (17, 70), (17,), (17,), ())]
    present = torch.tensor([[True, False]])
    with use_backend("triton"):
        got = modality_score(*args, present)
    torch.testing.assert_close(got, modality_score(*args, present))


def test_slots_that_share_a_modality_each_give_it_their_bias():
    """Also in the gradients of keys and values, where one program stands for all slots of its modality."""
    q, k, v = torch.randn(2, 2, 40, 16), torch.randn(2, 3, 2, 20, 16), torch.randn(2, 3, 2, 20, 16)
    index = torch.tensor([[1, 1, -1, 0], [2, 0, 2, 2]])
    bias = torch.tensor([[2.0, -1.0, 9.0, 0.5], [-3.0, 1.5, -torch.inf, 0.25]])
    results = []
    for backend in ("triton", "reference"):
        leaves = [t.clone().requires_grad_() for t in (q, k, v, bias)]
        with use_backend(backend):
            out, lse = modality_attention(*leaves[:3], index, leaves[3])
            out.square().sum().backward()
        results.append([out, lse, *(leaf.grad for leaf in leaves)])
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
