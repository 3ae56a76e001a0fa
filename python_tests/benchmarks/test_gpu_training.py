"""The timing of training steps on a GPU, rehearsed on the CPU: what is timed, and that a wrong gradient is not."""

from __future__ import annotations

import pytest
import torch
from gpu_parts import part, read

from benchmarks.gpu import training_timing
from benchmarks.gpu.training_timing import Step

pytestmark = pytest.mark.usefixtures("as_users_run_it", "one_thread")


def test_every_backend_is_timed_with_and_without_determinism(tmp_path):
    assert training_timing.run(part(tmp_path)) == 0
    (row,) = read(tmp_path)["rows"]
    assert {"reference", "reference deterministic", "cpu", "cpu deterministic"} <= set(row["timings"])
    assert all(timing["median_s"] > 0 and timing["host_s"] > 0 for timing in row["timings"].values())


def test_a_wrong_gradient_is_not_timed(tmp_path, monkeypatch):
    """One backend is far off, and what should repeat itself does not."""
    usual, asked = Step.gradient, []

    def gradient(self):
        asked.append(None)
        right = usual(self)
        if self.backend == "cpu" and not self.deterministic:
            return 2 * right
        return right * (1 + 1e-6 * len(asked)) if self.backend == "cpu" else right

    monkeypatch.setattr(Step, "gradient", gradient)
    assert training_timing.run(part(tmp_path)) == 1
    data = read(tmp_path)
    found = {failure["implementation"]: failure["error"] for failure in data["failures"]}
    assert found["cpu"].startswith("disagrees with the reference in its gradient: distance ")
    assert found["cpu deterministic"] == "gives another gradient when asked again"
    assert set(data["rows"][0]["timings"]) == {"reference", "reference deterministic"}


def test_a_step_changes_the_weights_and_leaves_torch_as_it_was():
    where = {"device": "cpu", "inputs": training_timing.frame(64, 2, torch.float32, "cpu")}
    step = Step("reference", True, label=torch.zeros(2, 64, 64, dtype=torch.long), **where)
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    step()
    assert any(not torch.equal(one, now) for one, now in zip(before, step.model.parameters(), strict=True))
    assert not torch.are_deterministic_algorithms_enabled()
