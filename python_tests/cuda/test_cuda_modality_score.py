"""csrc/cuda/modality_score.cu, executed on the CPU, against the float64 reference."""

from __future__ import annotations

import math
from types import ModuleType

import cuda_on_cpu
import pytest
import torch
from cuda_on_cpu import FULL
from op_cases import assert_near, score_inputs, to64
from torch import Tensor

from egformer_fast.ops.modality_score import modality_score_backward_reference, modality_score_reference

pytestmark = pytest.mark.usefixtures("simt")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# B, M, N, C: odd sizes; one column; many tokens; more columns than a block has; several blocks of tokens.
SHAPES = [(2, 3, 5, 6), (1, 1, 1, 1), (2, 4, 257, 33), (1, 2, 1024, 64), (1, 2, 3, 264), (1, 1, 600, 160)]
FULL_SHAPES = [(0, 3, 5, 8), (3, 16, 2, 8), (1, 4, 4096, 64), (2, 3, 1024, 160), (1, 2, 256, 256), (1, 1, 7, 1031)]
FORWARD = [(shape, dtype) for shape in SHAPES + FULL_SHAPES * FULL for dtype in DTYPES]


@pytest.mark.parametrize(("shape", "dtype"), FORWARD, ids=str)
def test_error_against_float64(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    args = score_inputs(*shape, dtype=dtype)
    score, pooled = cuda_on_cpu.modality_score(*args)
    exact_score, exact_pooled = modality_score_reference(*to64(args), None)
    plain_score, plain_pooled = modality_score_reference(*args, None)
    assert_near(pooled, exact_pooled, plain_pooled, "pooled")
    assert_near(score, exact_score, plain_score, "score")


def backward_case(shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor | None]:
    """d_score, pooled, w1, b1, w2, b2, present."""
    batch, modalities, _, channels = shape
    _, *weights = score_inputs(batch, modalities, 1, channels, dtype=dtype)
    pooled, d_score = torch.randn(batch, modalities, channels), torch.randn(batch, modalities)
    return [d_score, pooled, *weights, torch.rand(batch, modalities) < 0.7]


@pytest.mark.parametrize(("shape", "dtype"), [case for case in FORWARD if case[0] != (1, 2, 1024, 64)], ids=str)
def test_gradient_error_against_float64(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    args = backward_case(shape, dtype)
    got = cuda_on_cpu.modality_score_backward(*args)
    exact = modality_score_backward_reference(*to64(args))
    plain = modality_score_backward_reference(*args)
    for name, g, e, p in zip(("pooled", "w1", "b1", "w2", "b2"), got, exact, plain, strict=True):
        assert_near(g, e, p, name)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_float32_weights_with_16_bit_tokens(dtype: torch.dtype) -> None:
    x, *weights = score_inputs(dtype=torch.float32)
    x = x.to(dtype)
    got = cuda_on_cpu.modality_score(x, *weights)
    exact, plain = (modality_score_reference(*args, None) for args in (to64([x, *weights]), [x, *weights]))
    assert_near(got[0], exact[0], plain[0], "score")


@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf])
def test_missing_and_broken_sensors(junk: float) -> None:
    args = score_inputs(2, 3, 40, 8, dtype=torch.float32)
    args[0][0, 1] = junk  # missing: never looked at
    args[0][1, 2, 3, 4] = junk  # present and broken
    present = torch.tensor([[True, False, True], [True, True, True]])
    score, pooled = cuda_on_cpu.modality_score(*args, present)
    wanted, _ = modality_score_reference(*args, present)
    assert score[0, 1] == 0 and (pooled[0, 1] == 0).all() and score[1, 2].isnan()
    torch.testing.assert_close(score, wanted, equal_nan=True)
    d_score = torch.full((2, 3), math.nan)  # a NaN gradient that flows into dead scores leaves no trace
    d_score[present & ~score.isnan()] = 1.0
    got = cuda_on_cpu.modality_score_backward(d_score, pooled, *args[1:], present)
    assert (got[0][0, 1] == 0).all() and (got[0][1, 2] == 0).all()
    for g, w in zip(got, modality_score_backward_reference(d_score, pooled, *args[1:], present), strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("bias", [math.inf, math.nan])
def test_a_logit_that_is_not_finite_is_a_broken_sensor(bias: float) -> None:
    args = score_inputs(dtype=torch.float32)
    args[4] = torch.tensor(bias)
    score, pooled = cuda_on_cpu.modality_score(*args)
    assert score.isnan().all()
    for gradient in cuda_on_cpu.modality_score_backward(torch.ones(2, 3), pooled, *args[1:]):
        assert (gradient == 0).all()


def test_missing_maps_are_not_loaded(simt: ModuleType) -> None:
    args = score_inputs(1, 4, 64, 32, dtype=torch.float32)
    loads = {}
    for count in (4, 1):
        simt.reset(count_memory=True)
        cuda_on_cpu.modality_score(*args, torch.arange(4).unsqueeze(0) < count)
        loads[count] = simt.counters()["modality_score: pool"]["load_sectors"]
    simt.reset()
    assert loads[4] == 4 * loads[1]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["modality-major", "channel-sliced", "unaligned", "expanded"])
def test_strided_input(layout: str, dtype: torch.dtype) -> None:
    x, *weights = score_inputs(2, 3, 9, 24, dtype=dtype)
    if layout == "modality-major":
        strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    elif layout == "channel-sliced":
        strided = torch.cat([x, x], 3)[..., :24]
    elif layout == "unaligned":
        strided = torch.cat([x[..., :1], x], 3)[..., 1:]
    else:
        strided = x[:, :1].expand(-1, 3, -1, -1)
        x = strided.contiguous()
    assert not strided.is_contiguous()
    for got, wanted in zip(
        cuda_on_cpu.modality_score(strided, *weights), cuda_on_cpu.modality_score(x, *weights), strict=True
    ):
        torch.testing.assert_close(got, wanted)


def test_empty_batch_and_no_channels() -> None:
    args = score_inputs(0, 3, 5, 8, dtype=torch.float32)
    assert cuda_on_cpu.modality_score(*args)[0].shape == (0, 3)
    got = cuda_on_cpu.modality_score_backward(torch.ones(0, 3), torch.ones(0, 3, 8), *args[1:])
    assert all((gradient == 0).all() for gradient in got)
    x, w1, *others = score_inputs(1, 2, 3, 8, dtype=torch.float32)
    score, pooled = cuda_on_cpu.modality_score(x[..., :0], w1[:, :0], *others)
    wanted, _ = modality_score_reference(x[..., :0], w1[:, :0], *others, None)
    torch.testing.assert_close(score, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_byte_is_read_once(simt: ModuleType, dtype: torch.dtype) -> None:
    """Sectors of 32 bytes that the tokens take; reading the partial sums again adds at most 5 %."""
    args = score_inputs(1, 2, 512, 64, dtype=dtype)
    storage = torch.empty(args[0].numel() + 16, dtype=dtype)  # 32-byte aligned, as GPU memory is
    first = -storage.data_ptr() % 32 // storage.element_size()
    x = storage[first : first + args[0].numel()].view_as(args[0]).copy_(args[0])
    simt.reset(count_memory=True)
    cuda_on_cpu.modality_score(x, *args[1:])
    floor = x.numel() * x.element_size() / 32
    pool = simt.counters()["modality_score: pool"]
    simt.reset()
    assert pool["load_sectors"] == floor
    assert pool["store_sectors"] <= 0.05 * floor
    assert pool["shared_requests"] > 0 and pool["bank_conflicts"] == 0
