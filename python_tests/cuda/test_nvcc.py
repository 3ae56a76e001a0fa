"""What nvcc makes of the kernels: nothing spilled, no stack, registers and shared memory as their files promise, tensor
cores in 16-bit attention and in nothing else.

The committed report says so of every architecture that is built, and must be of the sources as they are; sm_80 and
sm_90 are compiled here again, with EGFORMER_TEST_FULL=1 all of them.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from cuda_on_cpu import FULL

from benchmarks import cuda_resources
from benchmarks.cuda_sources import architectures, digest
from benchmarks.registry import Unavailable, read_result

Rows = list[dict[str, Any]]
REPORT = read_result("cuda_resources")
# A thread may use 255 registers; these files promise four blocks of 256 threads on a multiprocessor of 65536.
REGISTERS = {"modality_score": 64, "modality_drop": 64}
# Three blocks, by drop's backward in 16 bits. A launch bound that forbids it makes nvcc 13.0 spill for sm_90.
MORE_REGISTERS = {("modality_drop", "sm_100"): 80}
# One block a map, which waits for its loads: many under way are worth more here than blocks beside it.
MLP_KERNELS, MLP_REGISTERS = ("head_kernel", "backward_map_kernel"), 128
STATIC_SHARED = 48 << 10  # more needs dynamic shared memory
PRODUCTS = {"modality_attention_kernel": 2, "d_queries_kernel": 3, "d_keys_kernel": 4}  # of tiles, in one round


@pytest.fixture(scope="module", params=architectures() if FULL else ["sm_80", "sm_90"])
def compiled(request: pytest.FixtureRequest) -> Rows:
    try:
        return cuda_resources.measure([request.param])
    except Unavailable as missing:
        pytest.skip(str(missing))


def assert_within_bounds(rows: Rows) -> None:
    for row in rows:
        assert row["spilled"] == 0 and row["stack"] == 0, row
        runs_mlp = row["kernel"].startswith(MLP_KERNELS)
        registers = MLP_REGISTERS if runs_mlp else REGISTERS.get(row["file"], 255)
        assert row["registers"] <= MORE_REGISTERS.get((row["file"], row["arch"]), registers), row
        assert row["shared"] <= STATIC_SHARED, row


def assert_tensor_cores(rows: Rows) -> None:
    """Each product of tiles has two instructions or more: 16 rows and D, or a tile's width, in pairs of 8 columns."""
    found = set()
    for row in rows:
        match = re.fullmatch(r"(\w+)<(__half|__nv_bfloat16), (\d+)>", row["kernel"])
        products = PRODUCTS.get(match[1], 0) if match else 0
        if products:
            found.add(match.groups())
            assert row["tensor_core"] >= 2 * products * int(match[3]) // 16, row
        else:  # float32 stays in full precision: TF32 would show up here
            assert row["tensor_core"] == 0, row
    assert len(found) == len(PRODUCTS) * 2 * 4


def test_a_report_is_understood() -> None:
    report = """ptxas info    : Compiling entry function '_Z1k' for 'sm_80'
    16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 8192 bytes smem, 464 bytes cmem[0]
"""
    assert cuda_resources.parse(report) == {"_Z1k": {"registers": 40, "spilled": 12, "stack": 16, "shared": 8192}}


def test_compiled_kernels_stay_within_bounds(compiled: Rows) -> None:
    assert_within_bounds(compiled)


def test_compiled_attention_runs_on_tensor_cores(compiled: Rows) -> None:
    assert_tensor_cores(compiled)


def test_the_report_covers_all_kernels(compiled: Rows) -> None:
    names = {row["kernel"] for row in compiled}
    for arch in architectures():
        assert {row["kernel"] for row in REPORT["rows"] if row["arch"] == arch} == names


def test_the_report_is_of_these_sources() -> None:
    how = "python -m benchmarks.run cuda_resources"
    assert REPORT["sources"] == digest(), f"the kernels have changed since the report was written; run `{how}`"
    assert sorted({row["arch"] for row in REPORT["rows"]}) == sorted(architectures())


@pytest.mark.parametrize("arch", architectures())
def test_the_report_is_clean(arch: str) -> None:
    rows = [row for row in REPORT["rows"] if row["arch"] == arch]
    assert_within_bounds(rows)
    assert_tensor_cores(rows)
