"""The Triton kernels compiled for chips that are not here: no spills, shared memory fits, tensor cores, wide loads.

The compiler and the interpreter exclude each other in one process, so benchmarks.triton_aot runs in one of its own.
EGFORMER_TEST_FULL=1 compiles for every chip of its list, for all dtypes and head dimensions.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.registry import read_result

pytest.importorskip("triton", reason="Triton is not installed")

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("EGFORMER_TEST_FULL") == "1"
SHARED = {"sm_80": 166912, "sm_86": 101376, "sm_90": 232448, "sm_100": 232448, "sm_120": 101376, "gfx942": 65536}
CHIPS = list(SHARED) if FULL else ["sm_80", "sm_90"]
PRODUCTS = {
    "sm_80": "HMMA", "sm_86": "HMMA", "sm_90": "HGMMA", "sm_100": "UTCHMMA", "sm_120": "HMMA", "gfx942": "MFMA",
}  # fmt: skip
DIMS = [16, 32, 64, 128]
CHOICE = ["--dims", *map(str, DIMS)] if FULL else ["--dtypes", "float16", "float32", "tf32", "--dims", "64"]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("aot") / "kernels.json"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.triton_aot", "--chips", *CHIPS, *CHOICE, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(json.loads(out.read_text()))


def wrong(kernels: list[dict[str, Any]], is_fine: Any) -> list[dict[str, Any]]:
    return [kernel for kernel in kernels if not is_fine(kernel)]


def test_every_kernel_is_there(kernels):
    names = {(kernel["chip"], kernel["kernel"]) for kernel in kernels}
    wanted = "_drop _drop_backward _score_gradient _pool _score _score_backward _weight_gradients _attend row_dots "
    wanted += "query_gradient key_gradients"
    assert names == {(chip, name) for chip in CHIPS for name in wanted.split()}


def test_nothing_spills(kernels):
    assert not wrong(kernels, lambda k: k["spilled"] == 0)


def test_shared_memory_fits(kernels):
    assert not wrong(kernels, lambda k: k["shared"] <= SHARED[k["chip"]])


def test_16_bit_attention_runs_on_tensor_cores(kernels):
    attention = [k for k in kernels if k["kernel"] in ("_attend", "query_gradient", "key_gradients")]
    assert not wrong([k for k in attention if k["dtype"] != "float32"], lambda k: k["tensor_core"] > 0)
    # float32 stays in full precision unless TF32 is asked for, which would show up as tensor-core instructions. AMD's
    # have a float32 form.
    full = [k for k in attention if k["dtype"] == "float32" and k["chip"] != "gfx942"]
    assert full and not wrong(full, lambda k: k["tensor_core"] == 0)
    assert "tf32" in {k["dtype"] for k in attention}


def test_each_chip_multiplies_with_its_own_instruction(kernels):
    for rows in (kernels, read_result("triton_aot")["rows"]):
        attention = [k for k in rows if k["kernel"] in ("_attend", "query_gradient", "key_gradients")]
        half = {(k["chip"], k["tensor_core_by"]) for k in attention if k["dtype"] in ("float16", "bfloat16")}
        assert half == {(chip, PRODUCTS[chip]) for chip, _ in half}


def test_tokens_are_loaded_128_bits_at_a_time(kernels):
    main = ("_drop", "_drop_backward", "_pool", "_attend", "query_gradient", "key_gradients")
    assert not wrong([k for k in kernels if k["kernel"] in main], lambda k: k["loads_128"] > 0)


def test_the_committed_report_is_clean():
    rows = read_result("triton_aot")["rows"]
    attention = {(row["chip"], row["dtype"], row["dim"]) for row in rows if row["dim"] is not None}
    assert attention == set(itertools.product(SHARED, ("float32", "tf32", "bfloat16", "float16"), DIMS))
    assert {row["chip"] for row in rows if row["dim"] is None} == set(SHARED)
    assert not wrong(rows, lambda k: k["spilled"] == 0 and k["shared"] <= SHARED[k["chip"]])
