"""The SIMT layer itself: right kernels run right, each seeded fault is named, requests are counted."""

from __future__ import annotations

import subprocess
from types import ModuleType

import numpy as np
import pytest
import simt_build


def nans(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.full(shape, np.nan, dtype)


def test_shuffles_shared_memory_and_barriers(simt: ModuleType) -> None:
    x, out = np.arange(1003, dtype="float32"), nans(3)
    simt.sum(x, out, 128)
    thread = np.arange(1003) % (3 * 128) // 128
    assert out.tolist() == [x[thread == block].sum() for block in range(3)]


def test_collectives_follow_the_cuda_manual(simt: ModuleType) -> None:
    x = np.random.default_rng(0).integers(-99, 99, 64).astype("int32")
    out = np.zeros((64, 9), "int32")
    simt.collectives(x, out)
    for thread, row in enumerate(out.tolist()):
        first, lane = thread // 32 * 32, thread % 32
        warp = x[first : first + 32].tolist()
        ballot = sum(1 << i for i, value in enumerate(warp) if value > 0)
        assert row == [
            warp[3],
            warp[lane // 8 * 8 + 1],
            warp[lane - 2 if lane >= 2 else lane],
            warp[lane + 5 if lane % 16 + 5 < 16 else lane],
            warp[lane ^ 17],
            ballot - (1 << 32) if ballot >= 1 << 31 else ballot,
            (max(warp) > 90) * 2 + (min(warp) > -100),
            warp[lane ^ 1] if lane < 8 else -1,
            int((x > 0).sum()),
        ]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_tensor_cores_and_asynchronous_copies(simt: ModuleType, dtype: str) -> None:
    rng = np.random.default_rng(0)
    a, b, c = rng.integers(-8, 8, (32, 48)), rng.integers(-8, 8, (16, 48)), nans(32, 16)
    if dtype == "float16":
        simt.product(a.astype("float16"), b.astype("float16"), c)
    else:  # small integers are exact in the upper half of a float
        simt.product(*((t.astype("float32").view("uint32") >> 16).astype("uint16") for t in (a, b)), c)
    assert (c == a @ b.T).all()


def test_ldmatrix_transposes(simt: ModuleType) -> None:
    x, out = np.arange(256, dtype="float16").reshape(16, 16), nans(16, 16, dtype="float16")
    simt.transpose(x, out)
    assert (out == x.T).all()


FAULTS = {
    "divergent_barrier": r"divergent barrier: .* samples.cu:\d+, others at samples.cu:\d+",
    "barrier_for_some": r"deadlock:\s+32 threads exited\s+32 threads wait in __syncthreads at samples.cu",
    "wrong_mask": r"32 threads wait in __shfl_xor_sync at samples.cu:\d+ with mask 0xffffffff",
    "own_lane_not_in_mask": "lane 16 is not in its own mask 0x0000ffff",
    "shuffle_from_outside": "a shuffle reads lane 20, which is not in its mask 0x0000ffff",
    "early_exit": r"deadlock:\s+2 threads exited\s+62 threads wait in __shfl_xor_sync",
    "collective_after_exit": "names lanes that have exited",
    "copy_not_waited_for": "exits before its cp.async copies have been waited for",
    "unaligned_copy": "an address is not 16-aligned",
    "shared_overflow": "a write 0 B past the end of a shared array of 252 B",
    "early_without_waiting": "thread 1 exits without wait_for_previous",
    "early_access": r"global memory before wait_for_previous at samples.cu:\d+",
}
WRONG_RESULTS = ("missing_barrier", "copy_waited_for_too_late", "unwritten_output")
RACES = ("missing_syncwarp", "race_between_warps", "race_between_blocks")


def test_every_fault_has_its_test(simt: ModuleType) -> None:
    assert set(simt.faulty_names()) == {*FAULTS, *WRONG_RESULTS, *RACES, "read_past_the_end"}


@pytest.mark.parametrize(("name", "message"), FAULTS.items())
def test_faults_are_named(simt: ModuleType, name: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message) as raised:
        simt.faulty(name, np.ones(256, "float32"), nans(64))
    assert str(raised.value).startswith(f"{name}, block (0, 0, 0): ")
    simt.sum(np.ones(5, "float32"), nans(1), 32)  # the next launch is not disturbed


@pytest.mark.parametrize("name", WRONG_RESULTS)
def test_what_was_not_written_is_nan(simt: ModuleType, name: str) -> None:
    out = nans(64)
    simt.faulty(name, np.ones(256, "float32"), out)
    assert np.isnan(out).any()


def test_misuse_of_launch_is_refused(simt: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="sum, block .*a block of 2048 x 1 x 1 threads"):
        simt.sum(np.ones(5, "float32"), nans(1), 2048)
    with pytest.raises(RuntimeError, match="a grid of 0 x 1 x 1 blocks"):
        simt.sum(np.ones(5, "float32"), nans(0), 32)


def test_counters(simt: ModuleType) -> None:
    simt.reset(count_memory=True)
    buffer = np.zeros(1024 + 8, "float32")
    first = -buffer.ctypes.data % 32 // 4
    simt.sum(buffer[first : first + 1024], nans(2), 128)
    counts = simt.counters()["sum"]
    assert counts["launches"] == 1 and counts["blocks"] == 2 and counts["barriers"] == 2
    assert counts["loads"] == 1024 / 32 and counts["load_sectors"] == 1024 * 4 / 32
    assert counts["stores"] == 2 and counts["store_sectors"] == 2
    simt.reset(count_memory=True)
    simt.product(np.ones((16, 32), "float16"), np.ones((8, 32), "float16"), nans(16, 8))
    simt.transpose(np.ones((16, 16), "float16"), nans(16, 16, dtype="float16"))
    assert simt.counters()["product"]["matrix_products"] == 2
    assert simt.counters()["product"]["bank_conflicts"] == 0  # padded rows
    assert simt.counters()["transpose"]["bank_conflicts"] == 4  # rows of 32 bytes: two meet in a bank, four matrices
    simt.reset()
    assert simt.counters() == {}


# ---- under the sanitizers -----------------------------------------------------------------------------------------


def check(sanitizer: str, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([simt_build.executable(sanitizer), name], capture_output=True, text=True)


@pytest.mark.parametrize("name", RACES)
def test_the_thread_sanitizer_sees_races(simt: ModuleType, name: str) -> None:
    result = check("thread", name)
    assert result.returncode == 66, result.stderr
    assert f"ThreadSanitizer: data race {simt_build.CSRC}/testing/samples.cu" in result.stderr
    assert f"in {name}" in result.stderr


@pytest.mark.parametrize(("name", "where"), [("read_past_the_end", "heap-buffer"), ("shared_overflow", "use-after")])
def test_the_address_sanitizer_sees_accesses_past_the_end(simt: ModuleType, name: str, where: str) -> None:
    result = check("address", name)
    assert result.returncode != 0
    assert f"AddressSanitizer: {where}" in result.stderr and f"in {name}" in result.stderr


@pytest.mark.parametrize("sanitizer", simt_build.SANITIZERS)
def test_no_sanitizer_objects_to_right_kernels(simt: ModuleType, sanitizer: str) -> None:
    names = subprocess.run([simt_build.executable(sanitizer)], capture_output=True, text=True).stdout.split()
    assert {"samples", "product"} <= set(names)
    for name in names:
        result = check(sanitizer, name)
        assert result.returncode == 0, f"{name}\n{result.stderr}"
