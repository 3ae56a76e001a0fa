"""modality_drop on every backend: selection, gather, weighted sum, gradients, padding, argument errors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from op_cases import DTYPES, assert_near, define_select, exact_of, plain_fused
from torch.library import opcheck

from egformer_fast import modality_drop
from egformer_fast.ops._backend import resolve

NAN, INF = math.nan, math.inf


def inputs(batch=2, modalities=4, tokens=5, channels=3, dtype=torch.float64, device="cpu"):
    x = torch.randn(batch, modalities, tokens, channels, dtype=torch.float64).to(dtype).to(device)
    score = torch.rand(batch, modalities, dtype=torch.float64).to(device)
    return x, score if dtype == torch.float64 else score.float()


# Few values, so that ties, zeros and broken scores meet often.
SCORES = st.sampled_from([0.0, 0.25, 0.25, 0.5, 0.75, 1.0, NAN, INF, -INF, -0.5])
PRIORITIES = st.sampled_from([-INF, -1.0, 0.0, 0.0, 2.0, INF, NAN])


@given(data=st.data())
def test_selection_matches_the_definition(device, data):
    batch, modalities = data.draw(st.integers(0, 4)), data.draw(st.integers(1, 6))
    keep = data.draw(st.integers(1, modalities))

    def table(values, dtype):
        rows = data.draw(
            st.lists(st.lists(values, min_size=modalities, max_size=modalities), min_size=batch, max_size=batch)
        )
        return torch.tensor(rows, dtype=dtype).reshape(batch, modalities).to(device)

    score = table(SCORES, torch.float64)
    present = table(st.booleans(), torch.bool) if data.draw(st.booleans()) else None
    priority = table(PRIORITIES, torch.float64) if data.draw(st.booleans()) else None
    threshold, rank = data.draw(st.sampled_from([0.0, 0.5, 1.0])), data.draw(st.sampled_from(["sample", "batch"]))
    if rank == "batch" and priority is not None:
        priority = priority.clamp(-3, 3)  # the mean of +inf and -inf has a test of its own
    x = torch.randn(batch, modalities, 2, 3, dtype=torch.float64).to(device)
    survivors, fused, index, weight = modality_drop(x, score, keep, present, priority, threshold, rank)
    wanted_index, wanted_weight = define_select(score, keep, present, priority, threshold, rank)
    assert index.tolist() == wanted_index
    wanted_weight = torch.tensor(wanted_weight, dtype=torch.float64).reshape(batch, keep).to(device)
    torch.testing.assert_close(weight, wanted_weight, rtol=1e-12, atol=0)
    for b in range(batch):
        for j, m in enumerate(wanted_index[b]):
            assert torch.equal(survivors[b, j], x[b, m] if m >= 0 else torch.zeros_like(x[b, 0]))
    torch.testing.assert_close(fused, plain_fused(x, index, weight), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (1, 1, 1, 1), (3, 5, 65, 17), (1, 4, 1024, 64)], ids=str)
@pytest.mark.parametrize("keep", [1, 2, 4])
def test_error_against_float64(device, dtype, shape, keep):
    keep = min(keep, shape[1])
    x, score = inputs(*shape, dtype=dtype, device=device)
    survivors, fused, index, weight = modality_drop(x, score, keep)
    exact = exact_of(modality_drop, x.double(), score.double(), keep)
    assert torch.equal(index, exact[2])
    assert torch.equal(survivors, exact[0].to(dtype))
    assert_near(weight, exact[3], exact[3].to(score.dtype), "weight")
    assert_near(fused, exact[1], plain_fused(x, index, weight), "fused")


@pytest.mark.parametrize("dtype", DTYPES[2:] + DTYPES[:1], ids=str)
def test_gradient_error_against_float64(device, dtype):
    x, score = inputs(2, 4, 33, 16, dtype=dtype, device=device)
    d_survivors, d_fused = torch.randn(2, 3, 33, 16).to(x), torch.randn(2, 33, 16).to(x)
    d_weight = torch.randn(2, 3, device=device)
    index = modality_drop(x, score, 3)[2]

    def gradients(x, score, run):
        x, score = x.detach().clone().requires_grad_(), score.detach().clone().requires_grad_()
        survivors, fused, weight = run(x, score)
        loss = (survivors * d_survivors.to(x)).sum() + (fused * d_fused.to(x)).sum()
        (loss.to(score.dtype) + (weight * d_weight.to(score)).sum()).backward()
        return x.grad, score.grad

    def op(x, score):
        survivors, fused, _, weight = modality_drop(x, score, 3)
        return survivors, fused, weight

    def plain(x, score):
        kept = score.gather(1, index)
        weight = kept / kept.sum(1, keepdim=True)
        survivors = x[torch.arange(2, device=x.device).unsqueeze(1), index]
        return survivors, (survivors * weight.to(x)[:, :, None, None]).sum(1), weight

    got, exact, expected = (
        gradients(x, score, op),
        exact_of(gradients, x.double(), score.double(), op),
        gradients(x, score, plain),
    )
    for name, g, e, p in zip(("x", "score"), got, exact, expected, strict=True):
        assert_near(g, e, p, name)


@pytest.mark.parametrize("gather", [True, False])
@pytest.mark.parametrize("rank", ["sample", "batch"])
@pytest.mark.parametrize("keep", [1, 3, 4])
def test_gradcheck(gradcheck, device, gather, rank, keep):
    x, score = inputs(device=device)
    present = torch.tensor([[True, True, False, True], [True, False, True, False]], device=device)

    def run(x, score):
        outputs = modality_drop(x, score, keep, present, None, 0.2, rank, gather)
        return tuple(t for t in outputs if t.is_floating_point() and t.numel())

    assert gradcheck(run, (x.requires_grad_(), score.requires_grad_()))


def test_dropped_modalities_get_exact_zeros(device):
    x, score = inputs(dtype=torch.float32, device=device)
    with torch.no_grad():
        score[0] = torch.tensor([0.9, NAN, 0.8, 0.1])
        x[0, 1] = NAN
        x[0, 3] = INF
    x.requires_grad_(), score.requires_grad_()
    survivors, fused, index, weight = modality_drop(x, score, 2)
    assert index[0].tolist() == [0, 2]
    (survivors.sum() + fused.square().sum()).backward()
    assert (x.grad[0, [1, 3]] == 0).all() and (score.grad[0, [1, 3]] == 0).all()
    assert x.grad.isfinite().all() and score.grad.isfinite().all()


def test_nothing_eligible(device):
    x, score = inputs(dtype=torch.float32, device=device)
    x[0] = NAN
    x.requires_grad_(), score.requires_grad_()
    present = torch.tensor([[False] * 4, [True] * 4], device=device)
    survivors, fused, index, weight = modality_drop(x, score, 2, present)
    assert (survivors[0] == 0).all() and (fused[0] == 0).all() and (index[0] == -1).all() and (weight[0] == 0).all()
    (survivors.sum() + fused.sum() + weight.sum()).backward()
    assert (x.grad[0] == 0).all() and (score.grad[0] == 0).all()


def test_zero_scores_share_equally_without_gradient(device):
    x, score = inputs(dtype=torch.float32, device=device)
    score = torch.zeros_like(score).requires_grad_()
    _, fused, index, weight = modality_drop(x, score, 3)
    assert index.tolist() == [[0, 1, 2]] * 2
    torch.testing.assert_close(weight, torch.full_like(weight, 1 / 3))
    fused.square().sum().backward()
    assert (score.grad == 0).all()


def test_batch_rank_is_one_order_for_all(device):
    """The paper's rule: the mean decides, over the samples where a modality is eligible."""
    x, _ = inputs(2, 3, dtype=torch.float32, device=device)
    score = torch.tensor([[0.9, 0.2, 0.3], [0.1, 0.6, NAN]], device=device)  # means 0.5, 0.4, 0.3
    assert modality_drop(x, score, 1, rank="sample")[2].tolist() == [[0], [1]]
    assert modality_drop(x, score, 1, rank="batch")[2].tolist() == [[0], [0]]
    assert modality_drop(x, score, 2, rank="batch")[2].tolist() == [[0, 1], [0, 1]]
    assert modality_drop(x, score, 3, rank="batch")[2].tolist() == [[0, 1, 2], [0, 1, -1]]


def test_batch_mean_of_opposite_infinities_comes_last(device):
    x, score = inputs(2, 3, dtype=torch.float32, device=device)
    priority = torch.tensor([[INF, -5.0, -7.0], [-INF, -5.0, -7.0]], device=device)
    assert modality_drop(x, score, 2, priority=priority, rank="batch")[2].tolist() == [[1, 2], [1, 2]]


def test_priority_ranks_and_score_weighs(device):
    x, _ = inputs(1, 3, dtype=torch.float32, device=device)
    score = torch.tensor([[0.9, 0.2, 0.6]], device=device)
    priority = torch.tensor([[0.0, 2.0, 1.0]], device=device)
    _, _, index, weight = modality_drop(x, score, 2, priority=priority)
    assert index.tolist() == [[1, 2]]
    torch.testing.assert_close(weight, torch.tensor([[0.25, 0.75]], device=device))


def test_strided_input_and_empty_batch(device):
    x, score = inputs(3, 4, 6, 5, dtype=torch.float32, device=device)
    strided = x.permute(1, 2, 0, 3).contiguous().permute(2, 0, 1, 3)
    for a, b in zip(modality_drop(strided, score, 2), modality_drop(x, score, 2), strict=True):
        assert torch.equal(a, b)
    shapes = [tuple(t.shape) for t in modality_drop(x[:0], score[:0], 2, rank="batch")]
    assert shapes == [(0, 2, 6, 5), (0, 6, 5), (0, 2), (0, 2)]


def test_same_bits_twice(device):
    x, score = inputs(3, 4, 33, 7, dtype=torch.bfloat16, device=device)
    results = []
    for _ in range(2):
        a, b = x.clone().requires_grad_(), score.clone().requires_grad_()
        survivors, fused, _, weight = modality_drop(a, b, 2)
        (survivors.sum() + fused.square().sum() + weight.square().sum()).backward()
        results.append((survivors, fused, weight, a.grad, b.grad))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("per_batch", [False, True])
@pytest.mark.parametrize("gather", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 1, 3, 2)], ids=str)
def test_opcheck(device, per_batch, gather, order):
    """order: of x's dimensions in memory; maps that a convolution gives have their channels before their tokens."""
    x, score = inputs(dtype=torch.float32, device=device)
    x = x.permute(order).contiguous().permute(order)
    present = torch.tensor([[True] * 4, [False, True, False, False]], device=device)
    args = (x.requires_grad_(), score.requires_grad_(), 2, present, torch.rand_like(score), 0.3, per_batch, gather)
    opcheck(resolve("modality_drop", device), args)


def test_double_backward_raises(device):
    x, score = inputs(device=device)
    fused = modality_drop(x.requires_grad_(), score, 2)[1]
    (grad,) = torch.autograd.grad(fused.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="modality_drop.*double backward is not supported"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(2, 4, 3)}, ValueError, r"x must have shape \(B, M, N, C\), got float32 \(2, 4, 3\) on cpu"),
        ({"x": torch.zeros(2, 4, 5, 3, dtype=torch.int32)}, TypeError, "x must be float32 or .*, got int32"),
        ({"x": torch.zeros(2, 17, 5, 3)}, ValueError, r"x must have M <= 16 and C >= 1, got float32 \(2, 17, 5, 3\)"),
        ({"x": torch.zeros(2, 4, 5, 0)}, ValueError, r"x must have M <= 16 and C >= 1, got float32 \(2, 4, 5, 0\)"),
        ({"score": torch.zeros(2, 3)}, ValueError, r"score must have shape \(B, M\) = \(2, 4\), got float32 \(2, 3\)"),
        ({"score": None}, TypeError, "score must be a Tensor"),
        ({"score": torch.zeros(2, 4).half()}, TypeError, "score must be float32, got float16"),
        ({"score": torch.zeros(2, 4, device="meta")}, ValueError, "score must be on cpu"),
        ({"priority": torch.zeros(2, 4).double()}, TypeError, "priority must be float32, got float64"),
        ({"present": torch.zeros(4, dtype=torch.bool)}, ValueError, r"present must have shape \(B, M\)"),
        ({"present": torch.zeros(2, 4)}, TypeError, "present must be bool"),
        ({"keep": 0}, ValueError, "keep must be between 1 and M = 4, got 0"),
        ({"keep": 5}, ValueError, "keep must be between 1 and M = 4, got 5"),
        ({"keep": 2.0}, TypeError, "keep must be an int, got float 2.0"),
        ({"keep": True}, TypeError, "keep must be an int, got bool"),
        ({"threshold": 1.5}, ValueError, "threshold must be between 0 and 1, got 1.5"),
        ({"threshold": NAN}, ValueError, "threshold must be between 0 and 1, got nan"),
        ({"threshold": "0.5"}, TypeError, "threshold must be a number, got str"),
        ({"rank": "frame"}, ValueError, "rank must be 'sample' or 'batch', got 'frame'"),
    ],
)
def test_argument_errors(change, error, message):
    x, score = inputs(dtype=torch.float32)
    with pytest.raises(error, match=f"modality_drop: {message}"):
        modality_drop(**{"x": x, "score": score, "keep": 2, **change})
