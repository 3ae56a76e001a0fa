"""The timing of adaptations on a GPU, rehearsed on the CPU: what is run, which steps count, and what the table says."""

from __future__ import annotations

import pytest
from gpu_parts import part, read

from benchmarks.gpu import adaptation_timing
from benchmarks.gpu.adaptation_timing import TINY, seconds_a_step
from benchmarks.tables.gpu import adaptation_rows
from egformer_fast import cli


@pytest.mark.usefixtures("as_users_run_it", "one_thread")
def test_a_run_that_fails_leaves_the_others_alone(tmp_path, monkeypatch):
    """The teacher's on one backend, of all three runs, is refused; the other two are made by the command as it is."""
    usual = cli.main

    def main(words):
        return 2 if words[words.index("--output") + 1].endswith("mean_teacher_cpu") else usual(words)

    monkeypatch.setattr(cli, "main", main)
    assert adaptation_timing.run(part(tmp_path)) == 1
    data = read(tmp_path)
    assert [list(row["timings"]) for row in data["rows"]] == [["source_only: cpu"], ["mean_teacher: reference"]]
    for row in data["rows"]:
        (timing,) = row["timings"].values()
        assert timing["rounds"] == TINY.steps - TINY.warm and timing["median_s"] > 0
    (failure,) = data["failures"]
    assert failure["where"] == {"size": 64, "batch": 2, "method": "mean_teacher", "backend": "cpu"}
    assert failure["error"] == "RuntimeError: egformer-fast adapt ended with status 2"


def test_only_steps_of_training_that_are_warm_count(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("kind,step,frames_per_s,miou\ntrain,4,1,\ntrain,8,16,\neval,8,,0.5\ntrain,12,32,\n")
    assert seconds_a_step(log, 8, 4) == [0.5, 0.25]


def test_the_table_has_a_row_for_each_run():
    timings = {"source_only: cuda": {"median_s": 0.1, "quartiles_s": [0.09, 0.12], "peak_bytes": 3 << 29}}
    row = {"size": 512, "batch": 2, "method": "source_only", "backend": "cuda", "timings": timings}
    assert adaptation_rows({"rows": [row]}) == [["512, batch 2", "source_only", "cuda", "100 (90 to 120)", "1.5"]]
