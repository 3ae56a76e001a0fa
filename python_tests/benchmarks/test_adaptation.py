"""The sweep of adaptations: every run is a configuration that loads, and nothing of the target's labels can choose."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks import adaptation, adaptation_runs
from benchmarks.adaptation import is_needed, waves, with_starts
from benchmarks.adaptation_runs import (
    BENCHMARKS,
    STARTS,
    VARIANTS,
    Run,
    adapts,
    checkpoint_of,
    config_of,
    is_current,
    overrides,
    settings,
    start_of,
    sweep,
)
from benchmarks.tables.adaptation import ablation, gap, lead, mean_and_spread, origin
from egformer_fast.train.config import Config
from egformer_fast.train.config_file import load_config


def loaded(run: Run) -> Config:
    return load_config(config_of(run), overrides(run, Path("/runs")))


@pytest.mark.parametrize("run", sweep(), ids=lambda run: run.key)
def test_every_run_has_a_configuration_with_its_seed_and_budget(run: Run) -> None:
    config = loaded(run)
    its = BENCHMARKS[run.benchmark]
    assert config.train.seed == run.seed
    assert config.train.epochs == its.epochs["short" if run.name in VARIANTS else run.name]
    assert config.train.max_minutes is None  # or the machine's load would change what a run does
    assert config.adapts == adapts(run)
    start = start_of(run)
    assert config.model.weights == (None if start is None else str(checkpoint_of(start, Path("/runs"))))
    assert start is None or start in sweep()


def test_only_source_only_goes_on_from_plain_frames_where_there_are_others() -> None:
    assert start_of(Run("drawn", "source_only", 2)) == Run("drawn", "start", 2)
    for name in ("mean_teacher", "wide_source", "without_mix"):
        assert start_of(Run("drawn", name, 2)) == Run("drawn", "wide_start", 2)
    assert start_of(Run("ombria", "mean_teacher", 2)) == Run("ombria", "start", 2)
    assert start_of(Run("drawn", "oracle", 2)) is None


def test_both_starts_begin_alike() -> None:
    plain, wide = (loaded(Run("drawn", name, 0)) for name in ("start", "wide_start"))
    assert (plain.train.lr, plain.train.jaccard, plain.model.keep) == (
        wide.train.lr, wide.train.jaccard, wide.model.keep
    )  # fmt: skip
    assert (wide.adapt.method, plain.model.weights, wide.model.weights) == ("source_only", None, None)


def test_of_the_changed_frames_only_the_start_has_source_jitter() -> None:
    """But for a variant, which says what it would be worth in the adaptation."""
    runs = [run for run in sweep() if run.benchmark == "drawn" and adapts(run)]
    jittered = {run.name for run in runs if loaded(run).adapt.source_jitter > 0}
    assert jittered == {"wide_start", "with_source_jitter"}


def test_methods_differ_in_nothing_but_the_method_and_its_epochs() -> None:
    one, other = (loaded(Run("ombria", name, 1)) for name in ("wide_source", "mean_teacher"))
    assert (one.adapt.method, other.adapt.method) == ("source_only", "mean_teacher")
    one.adapt.method, one.train.epochs = other.adapt.method, other.train.epochs
    assert one == other


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_source_only_sees_the_frames_of_start(benchmark: str) -> None:
    start, after = (loaded(Run(benchmark, name, 0)) for name in ("start", "source_only"))
    for data in (start.data, after.data):  # where the files lie, and all sensors or None, which says the same
        data.description, data.modalities = "", None
    assert start.data == after.data
    assert (after.adapt.source_jitter, after.adapt.source_thinning, after.adapt.rare_temperature) == (0, 0, None)
    assert start.model.keep == after.model.keep


def test_the_headline_pair_has_three_seeds() -> None:
    for benchmark in BENCHMARKS:
        for name in ("source_only", "mean_teacher"):
            seeds = {run.seed for run in sweep() if (run.benchmark, run.name) == (benchmark, name)}
            assert seeds == {0, 1, 2}


def test_what_others_start_from_comes_first() -> None:
    first, rest = waves(sweep())
    assert {run.name for run in first} == set(STARTS)
    assert {start_of(run) for run in rest} - {None} == set(first)


def test_a_run_with_a_result_file_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(adaptation_runs, "RESULTS", tmp_path)
    run = Run("drawn", "entropy", 0)
    run.result.parent.mkdir(parents=True)
    used = settings(run, tmp_path)
    assert not {key for key in used if key.endswith((".description", ".weights"))}
    run.result.write_text(json.dumps({"settings": used}))
    adaptation.execute(run, tmp_path / "runs")
    assert "has a result file, skipped" in capsys.readouterr().out
    run.result.write_text(json.dumps({"settings": {**used, "train.lr": 1.0}}))
    with pytest.raises(SystemExit, match="drawn/entropy/0: entropy_0.json is of another configuration"):
        adaptation.execute(run, tmp_path / "runs")


def test_keys_that_a_run_does_not_read_make_no_result_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation_runs, "RESULTS", tmp_path)
    (tmp_path / "adaptation" / "ombria").mkdir(parents=True)
    for name, key, current in (
        ("source_only", "adapt.threshold", True),
        ("source_only", "target.scale", True),
        ("source_only", "adapt.source_jitter", False),
        ("source_only", "train.lr", False),
        ("mean_teacher", "adapt.threshold", False),
        ("mean_teacher", "adapt.rare_share", True),  # frames are not drawn by class there
        ("mean_teacher", "adapt.rare_temperature", False),
        ("start", "adapt.threshold", True),
        ("start", "target.scale", True),
        ("start", "train.lr", False),
    ):
        run = Run("ombria", name, 0)
        run.result.write_text(json.dumps({"settings": {**settings(run, tmp_path), key: 0.123}}))
        assert is_current(run, tmp_path) == current, (name, key)


def test_keys_that_are_gone_matter_where_they_did_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation_runs, "RESULTS", tmp_path)
    run = Run("ombria", "mean_teacher", 0)
    run.result.parent.mkdir(parents=True)
    for gone, current in (({"adapt.burn_in": 0.0}, True), ({"adapt.burn_in": 0.3}, False), ({"adapt.else": 0}, False)):
        run.result.write_text(json.dumps({"settings": settings(run, tmp_path) | gone}))
        assert is_current(run, tmp_path) == current, gone


def test_a_result_of_other_scenes_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation_runs, "RESULTS", tmp_path)
    run = Run("drawn", "entropy", 0)
    run.result.parent.mkdir(parents=True)
    run.result.write_text(json.dumps({"settings": settings(run, tmp_path)}))
    assert is_current(run, tmp_path)
    away = dataclasses.replace(adaptation_runs.DOMAINS["away"], sun_elevation=(0.3, 0.4))
    monkeypatch.setitem(adaptation_runs.DOMAINS, "away", away)
    assert not is_current(run, tmp_path)
    assert not any(key.startswith("scenes.") for key in settings(Run("ombria", "entropy", 0), tmp_path))


def test_a_start_that_others_need_is_trained_again_where_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its result file stays as it is."""
    monkeypatch.setattr(adaptation_runs, "RESULTS", tmp_path)
    start, after, oracle = (Run("drawn", name, 1) for name in ("start", "source_only", "oracle"))
    assert is_needed(start, [start, after])
    assert not is_needed(start, [start, oracle]) and not is_needed(after, [start, after])
    assert not is_needed(start, [start, Run("drawn", "source_only", 2), Run("ombria", "source_only", 1)])
    start.result.parent.mkdir(parents=True)
    kept = json.dumps({"settings": settings(start, tmp_path)})
    for run in (start, after):
        run.result.write_text(kept)
    assert not is_needed(start, [start, after])

    called: list[object] = []
    ends = {"progress": 0.0, "minutes": 1.0}

    def call(*arguments: object) -> None:
        called.append(arguments[0])
        ends["progress"] = 1.0

    monkeypatch.setattr(adaptation, "call", call)
    monkeypatch.setattr(adaptation, "last_row", lambda folder: ends)
    adaptation.execute(start, tmp_path / "runs", needed=True)
    assert called == ["train"] and start.result.read_text() == kept
    checkpoint_of(start, tmp_path / "runs").mkdir(parents=True)
    adaptation.execute(start, tmp_path / "runs", needed=True)
    assert called == ["train"]
    # Stopped half way it has a checkpoint too, from which nothing must go on.
    ends["progress"] = 0.5
    adaptation.execute(start, tmp_path / "runs", needed=True)
    assert called == ["train", "train"]
    after.result.unlink()
    assert with_starts([after]) == [start, after]
    assert with_starts([oracle]) == [oracle]


def test_committed_results_are_of_the_configurations_as_they_are() -> None:
    stale = [run.key for run in sweep() if run.result.is_file() and not is_current(run, Path("/runs"))]
    assert not stale


@pytest.mark.parametrize(("progress", "finished"), [("0.4", False), ("1", True)])
def test_a_run_that_was_told_to_stop_gets_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress: str, finished: bool
) -> None:
    """The command of a run ends with 0 then too."""
    run, called = Run("ombria", "source_only", 0), []
    folder = tmp_path / "runs" / "ombria" / "source_only_0"
    folder.mkdir(parents=True)
    (folder / "log.csv").write_text(f"progress,minutes,epoch,step\n0.2,1,1,10\n{progress},2,2,20\n")

    def call(*arguments: object) -> None:
        called.append(arguments[0])
        if arguments[0] == "eval":
            (folder / "target.json").write_text('{"checkpoint": "here", "miou": 0.5, "subsets": {}}')

    written: list[str] = []
    monkeypatch.setattr(adaptation_runs, "RESULTS", tmp_path)
    monkeypatch.setattr(adaptation, "call", call)
    monkeypatch.setattr(adaptation, "write_result", lambda name, result: written.append(name))
    if finished:
        adaptation.execute(run, tmp_path / "runs")
    else:
        with pytest.raises(SystemExit, match="stopped before its end"):
            adaptation.execute(run, tmp_path / "runs")
    assert (called, written) == (
        (["adapt", "eval"], ["adaptation/ombria/source_only_0"]) if finished else (["adapt"], [])
    )


def test_the_gap_is_between_the_means_of_the_seeds_that_both_have() -> None:
    scores = {"source_only": [0.3, 0.4, 0.1], "mean_teacher": [0.4, 0.5], "oracle": [0.5]}
    results = {
        name: [{"settings": {"train.seed": seed}, "target": {"miou": one}} for seed, one in enumerate(scores[name])]
        for name in scores
    }
    assert gap(results).startswith("The mean teacher closes 0.100 of 0.150, 67% (by seed 50%, 100%), of the gap")
    assert gap({name: results[name] for name in ("source_only", "oracle")}) == ""


def test_the_lead_stands_beside_the_larger_spread() -> None:
    scores = {"source_only": [(0.5, 0.25), (0.6, 0.25)], "mean_teacher": [(0.7, 0.5), (0.7, 0.75)]}
    results = {
        name: [{"target": {"conditions": {"HILLS": {"miou": miou, "iou": {"flood": flood}}}}} for miou, flood in runs]
        for name, runs in scores.items()
    }
    assert lead(results, ["HILLS"]).endswith(": in HILLS +0.150 (0.050) in mIoU, +0.375 (0.125) in flood IoU.")
    assert lead({"source_only": results["source_only"]}, ["HILLS"]) == ""


def test_a_part_stands_against_all_parts_of_its_seed_and_chance_below() -> None:
    scores = {"wide_start": [0.4, 0.5], "short": [0.5, 0.7], "with_drop_sensors": [0.625], "without_mix": [0.375]}
    results = {
        name: [
            {
                "settings": {"train.seed": seed},
                "minutes": 12.6,
                "target": {"miou": score, "subset_mean": {"miou": score / 2}},
            }
            for seed, score in enumerate(scores[name])
        ]
        for name in scores
    }
    lines = ablation(results).splitlines()
    assert lines[2:5] == [
        "| all parts | 13 | 0.500 | 0.250 |",
        "| without mix | 13 | 0.375 (-0.125) | 0.188 (-0.062) |",
        "| with drop sensors | 13 | 0.625 (+0.125) | 0.312 (+0.062) |",
    ]
    assert lines[-1] == "With all parts, over 2 seeds: 0.150 (± 0.050) above the start it goes on from."
    assert ablation({"wide_start": results["wide_start"], "without_mix": results["without_mix"]}) == ""


def test_mean_and_spread_over_seeds() -> None:
    assert mean_and_spread([0.5, 0.7, 0.6]) == "0.600 (± 0.100)"
    assert mean_and_spread([0.5]) == "0.500"


def test_what_ran_elsewhere_is_named_below_the_machine_of_most_runs() -> None:
    def ran(processor: str, date: str) -> dict[str, object]:
        return {"date": date, "machine": {"processor": processor, "torch": "2.13"}}

    results = {
        "start": [ran("A", "2026-11-02"), ran("A", "2026-11-01")],
        "entropy": [ran("B", "2026-11-03")],
        "with_features": [ran("B", "2026-11-03")],
    }
    usual = "*`python -m benchmarks.adaptation`, 2026-11-02, A, torch 2.13.*"
    assert origin(results) == f"{usual}\n*On B: entropy, with features.*"
    assert origin({"start": results["start"]}) == usual
