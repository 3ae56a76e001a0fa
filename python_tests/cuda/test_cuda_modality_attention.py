"""csrc/cuda/modality_attention*.cu, executed on the CPU, against the float64 reference."""

from __future__ import annotations

import math
from types import ModuleType

import cuda_on_cpu
import pytest
import torch
from cuda_on_cpu import FULL, array
from op_cases import DTYPES, assert_near, attention_inputs, plain_attention, to64
from torch import Tensor

from egformer_fast.ops.modality_attention import modality_attention_backward_reference, modality_attention_reference

pytestmark = pytest.mark.usefixtures("simt")
DTYPES = tuple(dtype for dtype in DTYPES if dtype != torch.float64)
# B, M, H, Nq, Nk, D, K: padded heads; one of everything; ragged tiles of queries and keys for each built D.
SHAPES = [(2, 4, 2, 5, 3, 4, 3), (1, 1, 1, 1, 1, 1, 1), (2, 3, 1, 67, 69, 16, 2), (1, 2, 2, 65, 33, 32, 2)]
SHAPES += [(1, 2, 1, 33, 65, 64, 2), (1, 2, 1, 33, 35, 128, 1)]
FULL_SHAPES = [
    (3, 16, 1, 7, 9, 16, 16),
    (2, 3, 2, 130, 140, 32, 3),
    (1, 3, 2, 70, 69, 64, 2),
    (1, 3, 2, 70, 69, 128, 2),
]
CASES = [(shape, dtype) for shape in SHAPES + FULL_SHAPES * FULL for dtype in DTYPES]


def backward(
    args: list[Tensor | None], scale: float, d_out: Tensor | None = None
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """d_out and the kernels' (d_q, d_k, d_v, d_bias)."""
    out, lse = cuda_on_cpu.modality_attention(*args, scale)
    d_out = torch.randn(out.shape).to(out.dtype) if d_out is None else d_out
    return d_out, cuda_on_cpu.modality_attention_backward(d_out, *args, out, lse, scale)


def reference_backward(d_out: Tensor, args: list[Tensor | None], scale: float) -> tuple[Tensor, ...]:
    out, lse = modality_attention_reference(*args, scale)
    return modality_attention_backward_reference(d_out, *args, out, lse, scale)


@pytest.mark.parametrize(("shape", "dtype"), CASES, ids=str)
def test_error_against_float64(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    args, scale = attention_inputs(*shape, dtype=dtype), shape[5] ** -0.5
    out, lse = cuda_on_cpu.modality_attention(*args, scale)
    exact = modality_attention_reference(*to64(args), scale)
    assert_near(out, exact[0], plain_attention(*args, scale), "out")
    assert_near(lse, exact[1], modality_attention_reference(*args, scale)[1], "lse")


def check_gradients(shape: tuple[int, ...], dtype: torch.dtype, scale: float | None = None, lower: float = 0) -> None:
    """`lower` is taken off every key, which makes the logits of positive queries low."""
    args, scale = attention_inputs(*shape, dtype=dtype), shape[5] ** -0.5 if scale is None else scale
    if lower:
        args[0], args[1] = args[0].abs() + 1, args[1] - lower
    d_out, got = backward(args, scale)
    exact = reference_backward(*to64((d_out,)), to64(args), scale)
    leaves = [t.clone().requires_grad_() for t in args[:3]]
    plain_attention(*leaves, *args[3:], scale).backward(d_out)
    for name, g, e, leaf in zip(("q", "k", "v"), got, exact, leaves, strict=False):
        assert_near(g, e, leaf.grad, name)


@pytest.mark.parametrize(("shape", "dtype"), CASES, ids=str)
def test_gradient_error_against_float64(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    check_gradients(shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("scale", "lower"), [(0.0, 0), (-0.3, 0), (0.25, 30)])
def test_any_scale_and_low_logits(scale: float, lower: float, dtype: torch.dtype) -> None:
    """Rows and columns that fill up tiles have the logit of their bias, far above such low ones."""
    check_gradients((1, 2, 1, 33, 35, 16, 2), dtype, scale, lower)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_queries_in_parts(simt: ModuleType, dtype: torch.dtype) -> None:
    """Few keys, many queries: several blocks share a tile of keys, and their sums are joined."""
    simt.reset()
    check_gradients((1, 2, 1, 530, 18, 16, 2), dtype)
    assert "modality_attention_sum_parts" in simt.counters()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [16, 64, 128] if FULL else [16])
def test_bias_gradient_error_against_float64(dim: int, dtype: torch.dtype) -> None:
    """Many numbers, because one is no estimate. In float32 the yardstick is the reference, which subtracts delta too:
    autograd's softmax subtracts the sum of its own products, which cancels the errors that they share."""
    args, scale = attention_inputs(6, 3, 1, 67, 69, dim, 3, dtype=dtype), dim**-0.5
    d_out, got = backward(args, scale)
    exact = reference_backward(*to64((d_out,)), to64(args), scale)
    bias = args[4].clone().requires_grad_()
    plain_attention(*args[:4], bias, scale).backward(d_out)
    plain = reference_backward(d_out, args, scale)[3] if dtype == torch.float32 else bias.grad
    assert_near(got[3], exact[3], plain, "bias")


def kept_and_not() -> tuple[list[Tensor], list[tuple[int, int]]]:
    """Padded slots, one out of range, one index twice in a row; and the (sample, modality) that no slot names."""
    q, k, v, _, bias = attention_inputs(2, 4, 1, 9, 37, 16, 4, dtype=torch.float32)
    index = torch.tensor([[-1, 2, 4, 2], [1, -1, 3, 9]])
    return [q, k, v, index, bias], [(0, 0), (0, 1), (0, 3), (1, 0), (1, 2)]


def test_repeated_padded_and_out_of_range_slots() -> None:
    args, _ = kept_and_not()
    d_out, got = backward(args, 0.25)
    out, _ = cuda_on_cpu.modality_attention(*args, 0.25)
    exact, plain = modality_attention_reference(*to64(args), 0.25), modality_attention_reference(*args, 0.25)
    assert_near(out, exact[0], plain[0], "out")
    exact, plain = reference_backward(*to64((d_out,)), to64(args), 0.25), reference_backward(d_out, args, 0.25)
    for name, g, e, p in zip(("q", "k", "v", "bias"), got, exact, plain, strict=True):
        assert_near(g, e, p, name)
    assert (got[3][args[3] < 0] == 0).all() and (got[3][args[3] > 3] == 0).all()


def test_dropped_and_padded_modalities_are_never_looked_at(simt: ModuleType) -> None:
    args, dropped = kept_and_not()
    q, k, v, index, bias = args
    clean, _ = cuda_on_cpu.modality_attention(*args, 0.25)
    for b, m in dropped:
        k[b, m], v[b, m] = math.nan, math.inf
    bias[(index < 0) | (index > 3)] = math.nan
    out, _ = cuda_on_cpu.modality_attention(*args, 0.25)
    assert torch.equal(out, clean)
    _, got = backward(args, 0.25)
    assert all(g.isfinite().all() for g in got)
    assert all((g[b, m] == 0).all() for g in got[1:3] for b, m in dropped)
    sectors = {}
    for slots in (1, 4):
        simt.reset(count_memory=True)
        cuda_on_cpu.modality_attention(q, k, v, torch.arange(4).expand(2, 4)[:, :slots], bias[:, :slots], 0.25)
        sectors[slots] = simt.counters()["modality_attention"]["load_sectors"]
    simt.reset()
    assert sectors[4] - sectors[1] == 2 * 3 * 2 * 37 * 16 * 4 / 32  # samples, further slots, k and v, their bytes


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("how", ["index", "bias"])
def test_nothing_to_attend_to(how: str, dtype: torch.dtype) -> None:
    args = attention_inputs(dtype=dtype)
    if how == "index":
        args[3][0] = -1
    else:
        args[4][0] = -math.inf
    args[4][1, 0] = -math.inf  # and one slot alone
    out, lse = cuda_on_cpu.modality_attention(*args, 0.5)
    assert (out[0] == 0).all() and (lse[0] == -math.inf).all() and lse[1].isfinite().all()
    _, got = backward(args, 0.5)
    for g in got:
        assert g.isfinite().all() and (g[0] == 0).all()
    assert got[3][1, 0] == 0 and (got[3][1, 1:] != 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_and_small_logits(dtype: torch.dtype) -> None:
    q, k, v, index, bias = attention_inputs(dtype=dtype)
    for factor, shift in ((20.0, 0.0), (1.0, -500.0)):
        args = [factor * q, factor * k, v, index, bias + shift]
        out, lse = cuda_on_cpu.modality_attention(*args, 0.5)
        exact = modality_attention_reference(*to64(args), 0.5)
        plain = modality_attention_reference(*args, 0.5)
        for got, e, p, name in zip((out, lse), exact, plain, ("out", "lse"), strict=True):
            assert_near(got, e, p, name)
        assert all(g.isfinite().all() for g in backward(args, 0.5)[1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_without_index_and_bias(dtype: torch.dtype) -> None:
    q, k, v, _, _ = attention_inputs(dim=16, dtype=dtype)
    d_out, got = backward([q, k, v, None, None], 0.25)
    full = [q, k, v, torch.arange(4).expand(2, 4).contiguous(), torch.zeros(2, 4)]
    _, wanted = backward(full, 0.25, d_out)
    assert got[3] is None and all(torch.equal(g, w) for g, w in zip(got[:3], wanted[:3], strict=True))
    for a, b in zip(
        cuda_on_cpu.modality_attention(q, k, v, None, None, 0.25),
        cuda_on_cpu.modality_attention(*full, 0.25),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_strided_input(dtype: torch.dtype) -> None:
    q, k, v, index, bias = attention_inputs(2, 3, 2, 9, 7, 16, 2, dtype=dtype)
    tokens_first = [t.transpose(-3, -2).contiguous().transpose(-3, -2) for t in (q, k, v)]  # heads inside a token
    modality_first = [tokens_first[0], *(t.transpose(0, 1).contiguous().transpose(0, 1) for t in (k, v))]
    d_out, wanted = backward([q, k, v, index, bias], 0.25)
    for strided in (tokens_first, modality_first):
        assert not strided[1].is_contiguous()
        d_strided = d_out.transpose(1, 2).contiguous().transpose(1, 2)
        _, got = backward([*strided, index, bias], 0.25, d_strided)
        assert all(torch.equal(g, w) for g, w in zip(got, wanted, strict=True))


@pytest.mark.parametrize("empty", ["batch", "queries", "keys", "slots"])
def test_nothing_there(empty: str) -> None:
    sizes = {"batch": 2, "queries": 5, "keys": 3} | ({empty: 0} if empty != "slots" else {})
    q, k, v, index, bias = attention_inputs(**sizes, dim=16, dtype=torch.float32)
    if empty == "slots":
        index, bias = index[:, :0], bias[:, :0]
    out, lse = cuda_on_cpu.modality_attention(q, k, v, index, bias, 0.25)
    assert (out == 0).all() and (lse == -math.inf).all()
    assert all((g == 0).all() for g in backward([q, k, v, index, bias], 0.25)[1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [32, 64, 128] if FULL else [32])
def test_no_bank_conflicts(simt: ModuleType, dim: int, dtype: torch.dtype) -> None:
    """Of float tiles with D = 16 two lanes share a bank in half of the reads; all other sizes have none."""
    args = attention_inputs(1, 2, 1, 65, 33, dim, 2, dtype=dtype)
    simt.reset(count_memory=True)
    backward(args, dim**-0.5)
    counters = simt.counters()
    simt.reset()
    assert counters["modality_attention"]["shared_requests"] > 0
    assert all(c["bank_conflicts"] == 0 for c in counters.values())
    assert all(c["shared_bytes"] <= 99 * 1024 for c in counters.values())
    # 16 bytes a lane: a warp's request is 16 sectors where the tile is full.
    forward = counters["modality_attention"]
    assert forward["load_sectors"] > 12 * forward["loads"]


def test_arguments_are_checked(simt: ModuleType) -> None:
    q, k, v, index, bias = attention_inputs(dim=24, dtype=torch.float16)
    out, lse = torch.empty(q.shape, dtype=q.dtype), torch.empty(q.shape[:3])

    def run(q: Tensor, k: Tensor, v: Tensor, index: Tensor | None) -> None:
        simt.modality_attention(*map(array, (q, k, v, index, bias)), 1.0, array(out), array(lse))

    with pytest.raises(ValueError, match="D must be 16, 32, 64 or 128 .pad with zeros., got 24"):
        run(q, k, v, index)
    with pytest.raises(ValueError, match="k must have strides of a multiple of 8 elements, got 102"):
        run(q[..., :16], torch.empty(*k.shape[:4], 17, dtype=k.dtype)[..., :16], v[..., :16], index)
    with pytest.raises(ValueError, match="without index, slots must be modalities"):
        run(q[..., :16], k[..., :16], v[..., :16], None)
