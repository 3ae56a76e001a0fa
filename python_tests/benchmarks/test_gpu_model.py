"""The timing of whole models on a GPU, rehearsed on the CPU: what is timed, and that a wrong model is not."""

from __future__ import annotations

import math

import pytest
import torch
from gpu_parts import part, read

from benchmarks.gpu import model_timing

pytestmark = pytest.mark.usefixtures("as_users_run_it")


def test_model(tmp_path, monkeypatch):
    """Eager variants are timed; what needs a GPU is recorded."""
    monkeypatch.setattr(model_timing, "places", lambda tiny, places=model_timing.places: [next(places(tiny))])
    assert model_timing.run(part(tmp_path)) == 0
    (row,) = read(tmp_path)["rows"]
    assert "reference eager" in row["timings"] and {"device_s", "median_s", "peak_bytes"} <= set(
        row["timings"]["reference eager"]
    )
    assert {f["error"] for f in read(tmp_path)["failures"]} == {"RuntimeError: CUDA graphs need a GPU"}
    logits = torch.tensor([1.0, 4.0])
    assert model_timing.disagreement(logits + 0.001, logits, logits) is None
    assert "error 1.000e-01" in str(model_timing.disagreement(logits + 0.1, logits, logits))
    for bad in (math.nan, math.inf):
        assert "error inf" in str(model_timing.disagreement(logits + bad, logits, logits))
        assert model_timing.disagreement(logits + 1, logits, logits + bad) is not None


def test_a_wrong_model_is_found_where_the_reference_is_lost(tmp_path, monkeypatch):
    """It is not held to its own error."""

    def builders(model, inputs, where, device):
        keep = tuple(where["keep"])
        return {
            "reference eager": lambda: lambda: model(inputs, keep=keep),
            "wrong eager": lambda: lambda: 1.5 * model(inputs, keep=keep),
        }

    monkeypatch.setattr(model_timing, "builders", builders)
    monkeypatch.setattr(model_timing, "places", lambda tiny, places=model_timing.places: [next(places(tiny))])
    made = part(tmp_path)
    made.data["lost"].append("reference eager")
    model_timing.run(made)
    (row,), (failure,) = read(tmp_path)["rows"], read(tmp_path)["failures"]
    assert row["timings"] == {} and failure["implementation"] == "wrong eager"
    assert "disagrees with the reference in its logits" in failure["error"]
