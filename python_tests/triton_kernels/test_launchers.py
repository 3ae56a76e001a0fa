"""What is special about the Triton backend: when it may run, and fake tensors on a GPU that is not there.

The values are tested with the other backends', in python_tests/ops under TRITON_INTERPRET=1. The folder is not called
`triton`: python_tests is on the path, and where Triton is not installed the folder would be imported in its place.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from egformer_fast.ops import _backend


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_refusals_name_what_is_missing(monkeypatch):
    monkeypatch.setattr(_backend, "INTERPRETED", False)
    for installed, message in ((None, "Triton is not installed"), (True, "there is no GPU")):
        monkeypatch.setattr(_backend.importlib.util, "find_spec", lambda name, found=installed: found)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        _backend._triton_absence.cache_clear()
        reason = _backend.refusal("triton", "cuda")
        assert reason is not None and message in reason
    _backend._triton_absence.cache_clear()


def test_an_old_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(_backend, "INTERPRETED", False)
    monkeypatch.setattr(_backend.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    _backend._triton_absence.cache_clear()
    assert "compute capability 7.5" in str(_backend.refusal("triton", "cuda"))
    _backend._triton_absence.cache_clear()


def test_the_interpreter_is_never_chosen_automatically():
    code = "from egformer_fast.ops import _backend; print(_backend.choose('cpu')[0])"
    assert run(code, TRITON_INTERPRET="1").stdout.strip() in ("cpu", "reference")


@pytest.mark.parametrize("suffix", ["", "_triton"])
def test_shapes_on_a_gpu_that_is_not_there(suffix):
    """FakeTensors on cuda go through the fake kernels alone: nothing imports Triton, nothing is launched."""
    ops = torch.ops.egformer_fast
    with FakeTensorMode():
        x, score = torch.empty(2, 4, 9, 16, device="cuda", dtype=torch.float16), torch.empty(2, 4, device="cuda")
        drop = getattr(ops, f"modality_drop{suffix}").default
        outputs = drop(x, score, 3, None, None, 0.0, False, True)
        assert [tuple(t.shape) for t in outputs] == [(2, 3, 9, 16), (2, 9, 16), (2, 3), (2, 3)]
        weights = [torch.empty(s, device="cuda") for s in ((8, 16), (8,), (8,), ())]
        assert getattr(ops, f"modality_score{suffix}").default(x, *weights, None)[0].shape == (2, 4)
        q, k = torch.empty(2, 2, 9, 8, device="cuda"), torch.empty(2, 4, 2, 5, 8, device="cuda")
        out, lse = getattr(ops, f"modality_attention{suffix}").default(q, k, k, None, None, 1.0)
        assert out.shape == q.shape and lse.shape == (2, 2, 9) and out.device.type == "cuda"
