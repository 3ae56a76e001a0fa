"""csrc/cuda/modality_drop.cu, executed on the CPU, against the definition and the float64 reference."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import cuda_on_cpu
import pytest
import torch
from cuda_on_cpu import FULL
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import assert_near, define_select, plain_fused, to64
from torch import Tensor

from egformer_fast.ops.modality_drop import modality_drop_backward_reference, modality_drop_reference

pytestmark = pytest.mark.usefixtures("simt")
NAN, INF = math.nan, math.inf
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# B, M, N, C and keep: odd sizes, one column, several blocks, more slots than are loaded together.
SHAPES = [(2, 4, 5, 3, 2), (1, 1, 1, 1, 1), (3, 5, 65, 17, 4), (1, 4, 300, 64, 3), (2, 7, 9, 24, 6)]
FULL_SHAPES = [(0, 4, 5, 8, 2), (1, 16, 33, 8, 16), (1, 4, 1024, 64, 1), (1, 2, 1031, 33, 2), (1, 3, 0, 8, 2)]
CASES = [(shape, dtype) for shape in SHAPES + FULL_SHAPES * FULL for dtype in DTYPES]
# Few values, so that ties, zeros and broken scores meet often.
SCORES = st.sampled_from([0.0, 0.25, 0.25, 0.5, 0.75, 1.0, NAN, INF, -INF, -0.5])
PRIORITIES = st.sampled_from([-3.0, -1.0, 0.0, 0.0, 2.0, 3.0, NAN])


def inputs(batch: int, modalities: int, tokens: int, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, modalities, tokens, channels).to(dtype), torch.rand(batch, modalities)


@settings(max_examples=200 if FULL else 60)
@given(data=st.data())
def test_selection_matches_the_definition(data: Any) -> None:
    batch, modalities = data.draw(st.integers(0, 4)), data.draw(st.integers(1, 6))
    keep = data.draw(st.integers(1, modalities))

    def table(values: Any, dtype: torch.dtype) -> Tensor:
        count = batch * modalities
        drawn = data.draw(st.lists(values, min_size=count, max_size=count))
        return torch.tensor(drawn, dtype=dtype).reshape(batch, modalities)

    score = table(SCORES, torch.float32)
    present = table(st.booleans(), torch.bool) if data.draw(st.booleans()) else None
    priority = table(PRIORITIES, torch.float32) if data.draw(st.booleans()) else None
    threshold, rank = data.draw(st.sampled_from([0.0, 0.5, 1.0])), data.draw(st.sampled_from(["sample", "batch"]))
    x = torch.randn(batch, modalities, 2, 3)
    survivors, fused, index, weight = cuda_on_cpu.modality_drop(
        x, score, keep, present, priority, threshold, rank == "batch"
    )
    wanted_index, wanted_weight = define_select(score, keep, present, priority, threshold, rank)
    assert index.tolist() == wanted_index
    torch.testing.assert_close(weight, torch.tensor(wanted_weight, dtype=torch.float32).reshape(batch, keep))
    for b in range(batch):
        for j, m in enumerate(wanted_index[b]):
            assert torch.equal(survivors[b, j], x[b, m] if m >= 0 else torch.zeros_like(x[b, 0]))
    torch.testing.assert_close(fused, plain_fused(x, index, weight))


@pytest.mark.parametrize(("shape", "dtype"), CASES, ids=str)
def test_error_against_float64(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    *sizes, keep = shape
    x, score = inputs(*sizes, dtype=dtype)
    survivors, fused, index, weight = cuda_on_cpu.modality_drop(x, score, keep)
    exact = modality_drop_reference(x.double(), score.double(), keep, None, None, 0.0, False, True)
    assert torch.equal(index, exact[2])
    assert torch.equal(survivors, exact[0].to(dtype))
    assert_near(weight, exact[3], exact[3].float(), "weight")
    assert_near(fused, exact[1], plain_fused(x, index, weight), "fused")
    nothing, again, *_ = cuda_on_cpu.modality_drop(x, score, keep, gather=False)
    assert nothing.shape[1] == 0 and torch.equal(again, fused)


# Gradients that are absent, on some of the cases.
PARTIAL = [(*case, name) for case in CASES[::5] for name in ("survivors", "fused", "weight")]


@pytest.mark.parametrize(("shape", "dtype", "without"), [(*case, "") for case in CASES] + PARTIAL, ids=str)
def test_gradient_error_against_float64(shape: tuple[int, ...], dtype: torch.dtype, without: str) -> None:
    *sizes, keep = shape
    x, score = inputs(*sizes, dtype=dtype)
    score[:1, :1] = NAN
    index, weight = cuda_on_cpu.modality_drop(x, score, keep)[2:]
    gradients = {
        "survivors": torch.randn(sizes[0], keep, *sizes[2:]).to(dtype),
        "fused": torch.randn(sizes[0], *sizes[2:]).to(dtype),
        "weight": torch.randn(sizes[0], keep),
    }
    args = [None if name == without else value for name, value in gradients.items()] + [x, score, index, weight]
    got = cuda_on_cpu.modality_drop_backward(*args)
    exact, plain = modality_drop_backward_reference(*to64(args)), modality_drop_backward_reference(*args)
    for name, g, e, p in zip(("x", "score"), got, exact, plain, strict=True):
        assert_near(g, e, p, name)


def test_dropped_modalities_get_exact_zeros_and_are_not_read() -> None:
    x, score = inputs(2, 4, 40, 8, torch.float32)
    score[0] = torch.tensor([0.9, NAN, 0.8, 0.1])
    x[0, 1], x[0, 3] = NAN, INF
    survivors, fused, index, weight = cuda_on_cpu.modality_drop(x, score, 2)
    assert index[0].tolist() == [0, 2] and fused.isfinite().all()
    d_x, d_score = cuda_on_cpu.modality_drop_backward(survivors, fused, weight, x, score, index, weight)
    assert (d_x[0, [1, 3]] == 0).all() and (d_score[0, [1, 3]] == 0).all()
    assert d_x.isfinite().all() and d_score.isfinite().all()


def test_nothing_eligible_and_zero_scores() -> None:
    x, score = inputs(2, 4, 40, 8, torch.float32)
    x[0], score[1] = NAN, 0.0
    present = torch.tensor([[False] * 4, [True] * 4])
    survivors, fused, index, weight = cuda_on_cpu.modality_drop(x, score, 3, present)
    assert (survivors[0] == 0).all() and (fused[0] == 0).all() and (index[0] == -1).all() and (weight[0] == 0).all()
    torch.testing.assert_close(weight[1], torch.full((3,), 1 / 3))
    d_x, d_score = cuda_on_cpu.modality_drop_backward(survivors, fused, weight, x, score, index, weight)
    assert (d_x[0] == 0).all() and (d_score == 0).all()


def test_batch_mean_of_opposite_infinities_comes_last() -> None:
    x, score = inputs(2, 3, 2, 8, torch.float32)
    priority = torch.tensor([[INF, -5.0, -7.0], [-INF, -5.0, -7.0]])
    index = cuda_on_cpu.modality_drop(x, score, 2, None, priority, 0.0, True)[2]
    assert index.tolist() == [[1, 2], [1, 2]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["batch-inside", "channel-sliced", "unaligned", "expanded"])
def test_strided_input(layout: str, dtype: torch.dtype) -> None:
    x, score = inputs(3, 4, 6, 24, dtype)
    if layout == "batch-inside":
        strided = x.permute(1, 2, 0, 3).contiguous().permute(2, 0, 1, 3)
    elif layout == "channel-sliced":
        strided = torch.cat([x, x], 3)[..., :24]
    elif layout == "unaligned":
        strided = torch.cat([x[..., :1], x], 3)[..., 1:]
    else:
        strided = x[:, :, :1].expand(-1, -1, 6, -1)
        x = strided.contiguous()
    got, wanted = cuda_on_cpu.modality_drop(strided, score, 2), cuda_on_cpu.modality_drop(x, score, 2)
    assert all(torch.equal(g, w) for g, w in zip(got, wanted, strict=True))
    survivors, fused, index, weight = got
    d_fused = fused[:, :1].expand(-1, 6, -1)  # as a sum over tokens sends it
    got = cuda_on_cpu.modality_drop_backward(survivors, d_fused, weight, strided, score, index, weight)
    wanted = cuda_on_cpu.modality_drop_backward(survivors, d_fused.contiguous(), weight, x, score, index, weight)
    assert torch.equal(got[0], wanted[0])
    torch.testing.assert_close(got[1], wanted[1])


def test_too_much_is_refused() -> None:
    with pytest.raises(RuntimeError, match="modality_drop: at most 16 modalities"):
        cuda_on_cpu.modality_drop(torch.zeros(1, 17, 2, 8), torch.zeros(1, 17), 2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_byte_is_moved_once(simt: ModuleType, dtype: torch.dtype) -> None:
    """Sectors of 32 bytes: K maps in, K + 1 out; backward 2 K + 1 in, M out; at most 5 % more for scores."""
    storage = torch.randn(4 * 256 * 64 + 16).to(dtype)
    first = -storage.data_ptr() % 32 // storage.element_size()  # 32-byte aligned, as GPU memory is
    x, score = storage[first : first + 4 * 256 * 64].view(1, 4, 256, 64), torch.rand(1, 4)
    one = 256 * 64 * x.element_size() / 32
    simt.reset(count_memory=True)
    survivors, fused, index, weight = cuda_on_cpu.modality_drop(x, score, 3)
    forward = simt.counters()["modality_drop"]
    cuda_on_cpu.modality_drop_backward(survivors, fused, weight, x, score, index, weight)
    backward = simt.counters()["modality_drop: backward"]
    simt.reset()
    assert 3 * one <= forward["load_sectors"] <= 1.05 * 3 * one
    assert forward["store_sectors"] <= 1.05 * 4 * one
    assert 7 * one <= backward["load_sectors"] <= 1.05 * 7 * one
    assert backward["store_sectors"] <= 1.05 * 4 * one
