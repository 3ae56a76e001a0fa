"""modality_score on every backend: values, gradients, missing and broken sensors, argument errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from op_cases import DTYPES, assert_near, define_score, exact_of, plain_score, score_inputs, to64
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from egformer_fast import modality_score
from egformer_fast.ops._backend import resolve

PRESENT = torch.tensor([[True, False, True], [True, True, True]])


@given(
    batch=st.integers(0, 3),
    modalities=st.integers(1, 5),
    tokens=st.integers(1, 17),
    channels=st.integers(1, 19),
    seed=st.integers(0, 2**16),
)
def test_matches_the_definition(device, batch, modalities, tokens, channels, seed):
    torch.manual_seed(seed)
    args = score_inputs(batch, modalities, tokens, channels, device=device)
    present = torch.rand(batch, modalities) < 0.7
    expected = define_score(*args, present)
    score = modality_score(*args, present.to(device))
    torch.testing.assert_close(score.cpu(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 5, 6), (1, 1, 1, 1), (2, 4, 257, 33), (1, 2, 1024, 64)], ids=str)
def test_error_against_float64(device, dtype, shape):
    args = score_inputs(*shape, dtype=dtype, device=device)
    exact = exact_of(modality_score, *to64(args))
    plain = plain_score(*args).to(torch.float64 if dtype == torch.float64 else torch.float32)
    assert_near(modality_score(*args), exact, plain, "score")


@pytest.mark.parametrize("dtype", DTYPES[2:] + DTYPES[:1], ids=str)
def test_gradient_error_against_float64(device, dtype):
    args = [t.requires_grad_() for t in score_inputs(2, 4, 33, 16, dtype=dtype, device=device)]
    exact = [t.detach().double().requires_grad_() for t in args]
    plain = [t.detach().clone().requires_grad_() for t in args]
    weight = torch.randn(2, 4, dtype=torch.float64).to(device)
    (modality_score(*args) * weight.float()).sum().backward()
    (exact_of(modality_score, *exact) * weight).sum().backward()
    (plain_score(*plain) * weight.to(dtype)).sum().backward()
    for name, a, e, p in zip("x w1 b1 w2 b2".split(), args, exact, plain, strict=True):
        assert_near(a.grad, e.grad, p.grad, name)


def test_gradcheck(gradcheck, device):
    args = [t.requires_grad_() for t in score_inputs(device=device)]
    present = PRESENT.to(device)
    assert gradcheck(lambda *a: modality_score(*a, present), args)


def test_float32_weights_with_16_bit_tokens(device):
    args = score_inputs(dtype=torch.float32, device=device)
    got = modality_score(args[0].bfloat16(), *args[1:])
    expected = modality_score(args[0].bfloat16().float(), *args[1:])
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -float("inf")])
def test_missing_and_broken_sensors_give_and_get_no_gradient(device, junk):
    clean = score_inputs(dtype=torch.float32, device=device)
    x = clean[0].clone()
    x[0, 1] = junk  # missing: never looked at
    x[1, 2, 3, 4] = junk  # present and broken
    broken = [t.clone().requires_grad_() for t in (x, *clean[1:])]
    score = modality_score(*broken, PRESENT.to(device))
    assert score[0, 1] == 0 and score[1, 2].isnan()
    alive = PRESENT.clone().to(device)
    alive[1, 2] = False
    score[alive].sum().backward()
    masked = [t.clone().requires_grad_() for t in clean]
    modality_score(*masked, alive).sum().backward()
    assert (broken[0].grad[0, 1] == 0).all() and (broken[0].grad[1, 2] == 0).all()
    for a, b in zip(broken, masked, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-7)


def test_gradient_of_nan_scores_is_zero(device):
    """Even a NaN gradient that flows into the score of a broken sensor leaves no trace."""
    args = [t.requires_grad_() for t in score_inputs(dtype=torch.float32, device=device)]
    with torch.no_grad():
        args[0][0, 0] = float("nan")
    score = modality_score(*args)
    (score * score.detach()).sum().backward()  # the gradient that reaches score[0, 0] is NaN
    assert all(t.grad.isfinite().all() for t in args)


def test_infinite_logit_is_a_broken_sensor(device):
    args = score_inputs(dtype=torch.float32, device=device)
    args[4] = torch.tensor(float("inf"), device=device)
    assert modality_score(*args).isnan().all()


@pytest.mark.parametrize("layout", ["modality-major", "channel-sliced", "expanded"])
def test_strided_input(device, layout):
    args = score_inputs(2, 3, 8, 6, dtype=torch.float32, device=device)
    x = args[0]
    if layout == "modality-major":
        strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    elif layout == "channel-sliced":
        strided = torch.cat([x, x], 3)[..., :6]
    else:
        x = x[:, :1].expand(-1, 3, -1, -1)
        strided, x = x, x.contiguous()
    assert not strided.is_contiguous()
    torch.testing.assert_close(modality_score(strided, *args[1:]), modality_score(x, *args[1:]))


def test_flops_are_counted(device):
    args = [t.requires_grad_() for t in score_inputs(dtype=torch.float32, device=device)]
    with FlopCounterMode(display=False) as counter:
        modality_score(*args).sum().backward()
    forward = 2 * (2 * 3) * (8 * 6 + 8)  # B M scores, R x C and R multiply-adds each
    assert counter.get_total_flops() == forward + 3 * forward


def test_opcheck(device):
    for present in (None, PRESENT.to(device)):
        args = [t.requires_grad_() for t in score_inputs(dtype=torch.float32, device=device)]
        opcheck(resolve("modality_score", device), (*args, present))


def test_double_backward_raises(device):
    args = [t.requires_grad_() for t in score_inputs(device=device)]
    (grad,) = torch.autograd.grad(modality_score(*args).sum(), args[0], create_graph=True)
    with pytest.raises(RuntimeError, match="modality_score.*double backward is not supported"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(2, 3, 6)}, ValueError, r"x must have shape \(B, M, N, C\), got float32 \(2, 3, 6\)"),
        ({"x": [1.0]}, TypeError, "x must be a Tensor of shape .*, got list"),
        ({"x": torch.zeros(2, 3, 5, 6, dtype=torch.int64)}, TypeError, "x must be float32 or .*, got int64"),
        ({"x": torch.zeros(2, 3, 0, 6)}, ValueError, "x must have N >= 1 and C >= 1, got float32"),
        ({"x": torch.zeros(2, 3, 5, 0)}, ValueError, "x must have N >= 1 and C >= 1, got float32"),
        ({"w1": torch.zeros(8, 7)}, ValueError, r"w1 must have shape \(R, C\) = \(8, 6\), got float32 \(8, 7\)"),
        ({"b1": torch.zeros(7)}, ValueError, r"b1 must have shape \(R,\) = \(8,\)"),
        ({"w2": torch.zeros(8, dtype=torch.float16)}, TypeError, "w2 must be float32, got float16"),
        ({"b2": torch.zeros(1)}, ValueError, r"b2 must have shape \(\), got float32 \(1,\)"),
        ({"w1": torch.zeros(8, 6, dtype=torch.float64)}, TypeError, "w1 must be float32 or float32|w1 must be float32"),
        ({"present": torch.ones(2, 4, dtype=torch.bool)}, ValueError, r"present must have shape \(B, M\) = \(2, 3\)"),
        ({"present": torch.ones(2, 3)}, TypeError, "present must be bool, got float32"),
        ({"present": torch.ones(2, 3, dtype=torch.bool, device="meta")}, ValueError, "present must be on cpu"),
    ],
)
def test_argument_errors(change, error, message):
    args = dict(zip("x w1 b1 w2 b2".split(), score_inputs(dtype=torch.float32), strict=True))
    with pytest.raises(error, match=f"modality_score: ({message})"):
        modality_score(**{**args, **change})
