"""modality_attention on every backend: values, gradients, padded and repeated slots, autocast, argument errors."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from op_cases import DTYPES, assert_near, attention_inputs, define_attention, exact_of, plain_attention, to64
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from egformer_fast import modality_attention
from egformer_fast.ops._backend import resolve

PADDED = torch.tensor([[0, 0, 3], [1, 2, -1]])  # a repeated modality, a padded slot


@given(data=st.data())
def test_matches_the_definition(device, data):
    batch, modalities, slots = (data.draw(st.integers(low, 4)) for low in (0, 1, 1))
    heads, queries, keys, dim = (data.draw(st.integers(1, high)) for high in (2, 5, 4, 5))
    torch.manual_seed(data.draw(st.integers(0, 2**16)))
    q, k, v, _, _ = attention_inputs(batch, modalities, heads, queries, keys, dim, 1)
    index = torch.randint(-1, modalities, (batch, slots)) if data.draw(st.booleans()) else None
    bias = None
    if data.draw(st.booleans()):
        bias = torch.randn(batch, slots if index is not None else modalities, dtype=torch.float64)
        bias = torch.where(torch.rand_like(bias) < 0.2, -math.inf, bias)
    scale = data.draw(st.sampled_from([None, 0.0, 1.5]))
    on_device = [None if t is None else t.to(device) for t in (q, k, v, index, bias)]
    out, lse = modality_attention(*on_device, scale)
    exact = define_attention(q, k, v, index, bias, dim**-0.5 if scale is None else scale)
    torch.testing.assert_close(out.cpu(), exact[0], rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(lse.cpu(), exact[1], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 4, 2, 5, 3, 4, 3), (1, 1, 1, 1, 1, 1, 1), (1, 3, 2, 65, 33, 32, 2)], ids=str)
def test_error_against_float64(device, dtype, shape):
    q, k, v, index, bias = attention_inputs(*shape, dtype=dtype, device=device)
    out, lse = modality_attention(q, k, v, index, bias)
    exact = exact_of(modality_attention, *to64((q, k, v, index, bias)))
    assert_near(out, exact[0], plain_attention(q, k, v, index, bias, q.shape[-1] ** -0.5), "out")
    assert_near(lse, exact[1], exact[1].to(bias.dtype), "lse")


def gradients(run, values, index, scale, weight):
    """The output of run, and gradients of sum(output * weight) in q, k, v and bias."""
    leaves = [t.detach().clone().requires_grad_() for t in values]
    out = run(*leaves[:3], index, leaves[3], scale)
    out = out if isinstance(out, torch.Tensor) else out[0]
    (out * weight.to(out)).sum().backward()
    return [out, *(leaf.grad for leaf in leaves)]


RESULTS = ("out", "q", "k", "v", "bias")


def check_gradients(values, index, scale, names=RESULTS):
    """Output and gradients against float64, by what plain PyTorch errs."""
    weight = torch.randn(values[0].shape, device=index.device)
    exact = gradients(partial(exact_of, modality_attention), to64(values), index, scale, weight)
    got, plain = (gradients(run, values, index, scale, weight) for run in (modality_attention, plain_attention))
    for name, *three in zip(RESULTS, got, exact, plain, strict=False):
        if name in names:
            assert_near(*three, name)


@pytest.mark.parametrize("dtype", DTYPES[2:] + DTYPES[:1], ids=str)
@pytest.mark.parametrize("queries", [33, 1030])  # of 1030 the kernels for GPUs sum the gradients of keys in parts
def test_gradient_error_against_float64(device, dtype, queries):
    q, k, v, index, bias = attention_inputs(2, 4, 2, queries, 9, 16, 3, dtype=dtype, device=device)
    # Each of the bias's six sums over all queries: the largest error of so few would be chance; see the next test.
    check_gradients([q, k, v, bias], index, 0.25, RESULTS if queries == 33 else RESULTS[:4])


@pytest.mark.parametrize("dtype", DTYPES[2:] + DTYPES[:1], ids=str)
def test_gradient_error_of_the_bias(device, dtype):
    """Over 18 entries."""
    q, k, v, index, bias = attention_inputs(6, 4, 2, 130, 9, 16, 3, dtype=dtype, device=device)
    check_gradients([q, k, v, bias], index, 0.25, RESULTS[4:])


def test_gradient_error_of_keys_over_many_queries():
    """Of the CPU kernel, which sums 1024 queries in one place. More entries than the interpreters have time for."""
    q, k, v, index, bias = attention_inputs(12, 4, 2, 1030, 9, 16, 3, dtype=torch.float32)
    check_gradients([q, k, v, bias], index, 0.25, ("k", "v"))


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_gradcheck(gradcheck, device, indexed, biased):
    q, k, v, _, bias = attention_inputs(slots=3 if indexed else 4, device=device)
    index = PADDED.to(device) if indexed else None
    leaves = [t.requires_grad_() for t in ((q, k, v, bias) if biased else (q, k, v))]

    def run(q, k, v, bias=None):
        return modality_attention(q, k, v, index, bias)[0]

    assert gradcheck(run, leaves)


def test_dropped_and_padded_modalities_are_never_looked_at(device):
    q, k, v, _, bias = attention_inputs(dtype=torch.float32, device=device)
    index = torch.tensor([[0, 2, -1], [1, -1, -1]], device=device)
    clean, _ = modality_attention(q, k, v, index, bias)
    for b, m in ((0, 1), (0, 3), (1, 0), (1, 2), (1, 3)):
        k[b, m], v[b, m] = math.nan, math.inf
    bias[0, 2] = math.nan
    leaves = [t.requires_grad_() for t in (q, k, v, bias)]
    out, _ = modality_attention(q, k, v, index, bias)
    assert torch.equal(out, clean)
    out.square().sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)
    assert (k.grad[0, [1, 3]] == 0).all() and (v.grad[1, [0, 2, 3]] == 0).all() and bias.grad[0, 2] == 0


@pytest.mark.parametrize("how", ["index", "bias"])
def test_nothing_to_attend_to(device, how):
    q, k, v, index, bias = attention_inputs(dtype=torch.float32, device=device)
    if how == "index":
        index[0] = -1
    else:
        bias[0] = -math.inf
    leaves = [t.requires_grad_() for t in (q, k, v, bias)]
    out, lse = modality_attention(q, k, v, index, bias)
    assert (out[0] == 0).all() and (lse[0] == -math.inf).all() and lse[1].isfinite().all()
    out.square().sum().backward()
    for leaf in leaves:
        assert leaf.grad.isfinite().all() and (leaf.grad[0] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES[2:] + DTYPES[:1], ids=str)
@pytest.mark.parametrize("scale", [0.0, -0.3])
def test_a_scale_that_is_not_positive(device, dtype, scale):
    q, k, v, index, bias = attention_inputs(1, 2, 1, 33, 35, 16, 2, dtype=dtype, device=device)
    # The gradients of two biases are one number and its opposite: what plain PyTorch errs there is chance, no bound.
    check_gradients([q, k, v, bias], index, scale, ("out", "q", "k", "v"))


def test_low_logits_beside_what_fills_up_tiles(device):
    """That has the logit of its bias, whose power overflows beside such a logsumexp."""
    q, k, v, index, bias = attention_inputs(1, 2, 1, 33, 35, 16, 2, dtype=torch.float32, device=device)
    values = [q.abs() + 1, k - 30, v, bias]
    weight = torch.randn(q.shape, device=device)
    got = gradients(modality_attention, values, index, 0.25, weight)
    exact = gradients(partial(exact_of, modality_attention), to64(values), index, 0.25, weight)
    for g, e in zip(got, exact, strict=True):
        torch.testing.assert_close(g.double(), e, rtol=0, atol=1e-3 * e.abs().max().item())


def test_the_bias_of_one_slot_has_no_gradient(device):
    q, k, v, index, bias = attention_inputs(2, 3, 2, 70, 9, 16, 1, dtype=torch.bfloat16, device=device)
    bias.requires_grad_()
    modality_attention(q, k, v, index, bias)[0].sum().backward()
    assert torch.equal(bias.grad, torch.zeros_like(bias))


def test_large_logits_do_not_overflow(device):
    q, k, v, index, bias = attention_inputs(dtype=torch.float32, device=device)
    out, lse = modality_attention(100 * q, 100 * k, v, index, bias)
    exact = modality_attention(100 * q.double(), 100 * k.double(), v.double(), index, bias.double())
    assert out.isfinite().all()
    torch.testing.assert_close(out.double(), exact[0], rtol=1e-2, atol=1e-2)


def test_index_none_is_all_modalities(device):
    q, k, v, _, bias = attention_inputs(slots=4, dtype=torch.float32, device=device)
    index = torch.arange(4, device=device).expand(2, 4)
    for a, b in zip(modality_attention(q, k, v, None, bias), modality_attention(q, k, v, index, bias), strict=True):
        assert torch.equal(a, b)


def test_strided_input(device):
    q, k, v, index, bias = attention_inputs(dtype=torch.float32, device=device)
    qkv = [t.transpose(-1, -2).contiguous().transpose(-1, -2) for t in (q, k, v)]
    strided = modality_attention(*qkv, index, bias)
    for a, b in zip(strided, modality_attention(q, k, v, index, bias), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("empty", [{"batch": 0}, {"queries": 0}, {"keys": 0}], ids=str)
def test_empty_sizes(device, empty, indexed):
    q, k, v, index, bias = attention_inputs(**empty, modalities=3, slots=3, dtype=torch.float32, device=device)
    leaves = [t.requires_grad_() for t in (q, k, v, bias)]
    out, lse = modality_attention(q, k, v, index if indexed else None, bias)
    assert out.shape == q.shape and lse.shape == q.shape[:3]
    assert (out == 0).all() and (lse == -math.inf).all()
    out.sum().backward()
    assert all(leaf.grad.shape == leaf.shape and (leaf.grad == 0).all() for leaf in leaves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_casts_q_k_v_and_nothing_else(device, dtype):
    q, k, v, index, bias = attention_inputs(dtype=torch.float32, device=device)
    leaves = [t.requires_grad_() for t in (q, k, v, bias)]
    with torch.autocast(device, dtype=dtype):
        out, lse = modality_attention(q, k.to(dtype), v, index, bias)
    assert out.dtype == dtype and lse.dtype == torch.float32
    expected = modality_attention(q.to(dtype), k.to(dtype), v.to(dtype), index, bias)
    assert torch.equal(out, expected[0]) and torch.equal(lse, expected[1])
    out.float().sum().backward()
    assert all(leaf.grad.dtype == torch.float32 for leaf in leaves)


@pytest.mark.parametrize("wide", ["q", "k", "v"])
def test_autocast_wants_all_or_none_in_float64(device, wide):
    """Autocast leaves float64 as it is: a kernel would read the others in a type that they do not have."""
    args = dict(zip("q k v index bias".split(), attention_inputs(dtype=torch.float32, device=device), strict=True))
    named = "k must be float64, got float32" if wide == "q" else f"{wide} must be float32 or .*, got float64"
    with torch.autocast(device, dtype=torch.bfloat16), pytest.raises(TypeError, match=named):
        modality_attention(**{**args, wide: args[wide].double()})


@pytest.mark.parametrize("indexed", [True, False])
def test_opcheck(device, indexed):
    q, k, v, _, bias = attention_inputs(dtype=torch.float32, device=device)
    index = PADDED.to(device) if indexed else None
    leaves = [t.requires_grad_() for t in (q, k, v)]
    bias = bias.requires_grad_() if indexed else None
    opcheck(resolve("modality_attention", device), (*leaves, index, bias, 0.5))


def test_flops_are_counted(device):
    q, k, v, index, bias = attention_inputs(dtype=torch.float32, device=device)
    with FlopCounterMode(display=False) as counter:
        modality_attention(q.requires_grad_(), k, v, index, bias)[0].sum().backward()
    forward = 2 * 2 * (2 * 2 * 5 * (3 * 3) * 4)  # two products over B, H, Nq, K Nk, D
    assert counter.get_total_flops() == forward + 5 * forward // 2


def test_double_backward_raises(device):
    q, k, v, index, bias = attention_inputs(device=device)
    out = modality_attention(q.requires_grad_(), k, v, index, bias)[0]
    (grad,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="modality_attention.*double backward is not supported"):
        grad.sum().backward()


@pytest.mark.parametrize("value", [4, -2])
def test_index_out_of_range(device, value):
    q, k, v, index, bias = attention_inputs(dtype=torch.float32, device=device)
    index[1, 0] = value
    if device == "cpu":
        with pytest.raises(IndexError, match=f"index must be -1 or 0 .. M-1 = 3, got {value}"):
            modality_attention(q, k, v, index, bias)
    else:
        with pytest.raises(IndexError, match=f"index must be -1 or 0 .. M-1 = 3, got {value}"):
            modality_attention(q, k, v, index, bias, validate=True)
        out, _ = modality_attention(q, k, v, index, bias)
        index[1, 0] = -1
        assert torch.equal(out, modality_attention(q, k, v, index, bias)[0])


class OnGpu(torch.Tensor):
    """Says that it is on a GPU."""

    device = property(lambda self: torch.device("cuda", 0))  # type: ignore[assignment]


@pytest.mark.parametrize("value", [4, -2])
def test_index_values_are_looked_at_on_a_gpu_when_asked(value):
    args = [t.as_subclass(OnGpu) for t in attention_inputs(dtype=torch.float32)]
    modality_attention(*args, validate=True)
    args[3][1, 0] = value
    clean = args[3].clone()
    clean[1, 0] = -1
    out, _ = modality_attention(*args)
    assert torch.equal(out, modality_attention(*args[:3], clean, args[4])[0])
    with pytest.raises(IndexError, match=f"index must be -1 or 0 .. M-1 = 3, got {value}"):
        modality_attention(*args, validate=True)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": torch.zeros(2, 5, 4)}, ValueError, r"q must have shape \(B, H, Nq, D\), got float32 \(2, 5, 4\)"),
        ({"q": torch.zeros(2, 2, 5, 4, dtype=torch.int64)}, TypeError, "q must be float32 or .*, got int64"),
        ({"q": torch.zeros(2, 2, 5, 0)}, ValueError, "q must have D >= 1"),
        ({"k": torch.zeros(2, 4, 3, 3, 4)}, ValueError, r"k must have shape .* = \(2, 4, 2, 3, 4\), got"),
        ({"v": torch.zeros(2, 4, 2, 4, 4)}, ValueError, r"v must have shape .* = \(2, 4, 2, 3, 4\), got"),
        ({"v": torch.zeros(2, 4, 2, 3, 4).half()}, TypeError, "v must be float32, got float16"),
        ({"k": torch.zeros(2, 4, 2, 3, 4, device="meta")}, ValueError, "k must be on cpu"),
        ({"index": torch.zeros(3, 3, dtype=torch.int64)}, ValueError, r"index must have shape \(B, K\) = \(2, 3\)"),
        ({"index": torch.zeros(2, 3, dtype=torch.int32)}, TypeError, "index must be int64, got int32"),
        ({"bias": torch.zeros(2, 4)}, ValueError, r"bias must have shape \(B, K\) = \(2, 3\), got float32 \(2, 4\)"),
        ({"bias": torch.zeros(2, 3).half()}, TypeError, "bias must be float32, got float16"),
    ],
)
def test_argument_errors(change, error, message):
    args = dict(zip("q k v index bias".split(), attention_inputs(dtype=torch.float32), strict=True))
    with pytest.raises(error, match=f"modality_attention: {message}"):
        modality_attention(**{**args, **change})
