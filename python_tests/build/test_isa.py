"""The kernels are compiled for several instruction sets: every one that this processor can run gives right results."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import torch
from egformer_fast import modality_attention, modality_drop, modality_score, use_backend
from python_tests.ops.op_cases import assert_near, attention_inputs, score_inputs

def results(backend, dtype, rounded):
    torch.manual_seed(0)
    inputs = [*score_inputs(2, 4, 77, 40), *attention_inputs(2, 4, 2, 61, 37, 40, 3)]
    index = inputs.pop(8)
    x, w1, b1, w2, b2, q, k, v, bias = leaves = [t.to(rounded).to(dtype).requires_grad_() for t in inputs]
    with use_backend(backend):
        score = modality_score(x, w1, b1, w2, b2)
        survivors, fused, kept, weight = modality_drop(x, score, 3)
        out, lse = modality_attention(q, k, v, index, bias.to(weight.dtype))
        (survivors.sum() + fused.square().sum() + out.square().sum()).backward()
    return [score, survivors, fused, weight, out, lse, *(leaf.grad for leaf in leaves)]

for dtype in (torch.float32, torch.bfloat16, torch.float16):
    exact, plain = results("reference", torch.float64, dtype), results("reference", dtype, dtype)
    for number, values in enumerate(zip(results("cpu", dtype, dtype), exact, plain)):
        assert_near(*values, f"{dtype}, result {number}")
# No arithmetic here is more exact than float64.
both = [results(backend, torch.float64, torch.float64) for backend in ("cpu", "reference")]
torch.testing.assert_close(*both, rtol=1e-12, atol=1e-12)
print("right")
"""


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("isa", ["base", "v3", "v4"])
def test_every_instruction_set_gives_right_results(isa: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ, "EGFORMER_ISA": isa}, capture_output=True, text=True
    )
    assert done.stdout == "right\n", done.stderr
