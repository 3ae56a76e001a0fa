"""Choosing a backend: automatic, forced, refused; what an import costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from egformer_fast import modality_score, use_backend
from egformer_fast.ops import _backend


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_unknown_names_are_refused():
    with (
        pytest.raises(ValueError, match="use_backend: unknown backend 'tritn'; one of auto, cuda"),
        use_backend("tritn"),
    ):
        pass
    result = run("import egformer_fast", EGFORMER_BACKEND="gpu")
    assert result.returncode != 0 and "EGFORMER_BACKEND: unknown backend 'gpu'" in result.stderr


def test_a_forced_backend_that_cannot_run_says_why():
    x = torch.zeros(1, 1, 1, 1)
    weights = torch.zeros(8, 1), torch.zeros(8), torch.zeros(8), torch.zeros(())
    with (
        use_backend("triton"),
        pytest.raises(RuntimeError, match="backend 'triton' is forced .* a GPU, not tensors on cpu"),
    ):
        modality_score(x, *weights)
    assert modality_score(x, *weights).item() == 0.5


def test_use_backend_nests_and_restores():
    before = _backend._forced
    with use_backend("reference"):
        with use_backend("auto"):
            assert _backend._forced is None
        assert _backend._forced == "reference"
    assert _backend._forced == before


def test_refusals_can_be_asked_for_in_a_graph():
    def shifted(x: torch.Tensor) -> torch.Tensor:
        return x + (1 if _backend.refusal("triton", "cuda") is None else 2)

    x = torch.zeros(2)
    torch.testing.assert_close(torch.compile(shifted, fullgraph=True, backend="eager")(x), shifted(x))


def test_environment_forces_a_backend():
    code = "from egformer_fast.ops import _backend; print(_backend.choose('cpu')[0])"
    assert run(code, EGFORMER_BACKEND="reference").stdout.strip() == "reference"


def test_import_is_light():
    """No Triton, no compiler, nothing heavy: what import egformer_fast adds to import torch."""
    code = """
import sys, torch
before = set(sys.modules)
import egformer_fast, egformer_fast.nn, egformer_fast.models
added = set(sys.modules) - before
heavy = {"triton", "torch._dynamo", "torch._inductor", "torch.utils.flop_counter", "matplotlib", "PIL", "yaml"}
print(sorted(name for name in added if name in heavy))
"""
    result = run(code)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_flop_formulas_follow_the_counter():
    """FlopCounterMode counts our ops although it is imported after us."""
    code = """
import torch, egformer_fast
from torch.utils.flop_counter import FlopCounterMode
with FlopCounterMode(display=False) as counter:
    egformer_fast.modality_drop(torch.rand(2, 3, 5, 7), torch.rand(2, 3), 2)
print(counter.get_total_flops())
"""
    result = run(code)
    assert result.stdout.strip() == str(2 * 2 * 2 * 5 * 7), result.stderr
