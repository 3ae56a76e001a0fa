"""The frontier's harness: its runs, how they are carried out and go on, what is timed, the command line."""

from __future__ import annotations

import dataclasses
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.frontier import __main__ as command_line
from benchmarks.frontier import execution, speed
from benchmarks.frontier import runs as frontier_runs
from benchmarks.frontier.execution import Failed, Processes, carry_out, execute, late_fusion, score_run
from benchmarks.frontier.results import lacking, results_of
from benchmarks.frontier.runs import BUDGETS, LATE, ROWS, SEEDS, SINGLE, TASKS, Run, find_run, loaded, sweep
from benchmarks.tables import frontier as tables
from egformer_fast.cli import main as egformer_fast
from egformer_fast.train.evaluate import evaluate
from egformer_fast.train.loading import load_run

ALL_RUNS = [run for task in TASKS for budget in BUDGETS for run in sweep(task, budget)]
MODALITIES = ("rgb", "lidar")


@pytest.fixture
def toy(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task of two modalities that takes seconds; returns the folder of its runs. Results lie in tmp_path."""
    small_model = ("model.head_dim=32", "train.batch_size=2", "data.crop=[32,32]", "data.scale=[1,1]", "eval.every=1")
    changes = ("data.modalities=[rgb,lidar]", *small_model)
    task = dataclasses.replace(TASKS["drawn"], epochs=1, minutes=0.001, overrides=changes)
    monkeypatch.setitem(TASKS, "toy", task)
    monkeypatch.setitem(ROWS, "early_fusion", dataclasses.replace(ROWS["early_fusion"], seeds=(0,)))
    monkeypatch.setattr(frontier_runs, "RESULTS", tmp_path / "results")
    return drawn


class InThisProcess:
    """Calls the commands here; remembers them."""

    def __init__(self) -> None:
        self.called: list[tuple[str, ...]] = []

    def __call__(self, module: str, *arguments: object, log: Path) -> None:
        words = tuple(map(str, arguments))
        self.called.append(words[:1] + (words[1:2] if words[0] == "score" else ()))
        if words[0] == "make-data":  # the fixture has drawn them
            return
        if module == "benchmarks.frontier":
            score_run(find_run(words[1]), Path(words[3]))
        elif egformer_fast(words) != 0:
            raise Failed(" ".join(words))

    def stop(self) -> None:
        raise AssertionError("nothing stops here")


@pytest.mark.parametrize("run", ALL_RUNS, ids=lambda run: run.key)
def test_every_run_has_a_configuration_with_its_seed_budget_and_model(run: Run, tmp_path: Path) -> None:
    config, its = loaded(run, tmp_path), TASKS[run.task]
    assert (config.train.seed, config.train.threads) == (run.seed, 1)
    if run.budget == "steps":
        assert (config.train.epochs, config.train.max_minutes) == (its.epochs, None)
    else:
        assert config.train.max_minutes == its.minutes < config.train.epochs
    assert bool(config.model.early_fusion) == run.name.startswith("early_fusion")
    if run.name.startswith(SINGLE):
        assert config.data.modalities == [run.name.removeprefix(SINGLE)]
    assert config.data.missing > 0  # a model of one modality never loses it
    if run.trains:
        assert config.teaches_scores == (run.name == "default")
    assert find_run(run.key) == run


@pytest.mark.parametrize("task", TASKS)
def test_rows_and_seeds(task: str) -> None:
    runs = sweep(task, "steps")
    for name in ("default", "early_fusion"):
        assert {run.seed for run in runs if run.name == name} == set(SEEDS)
    (late,) = (run for run in runs if run.name == LATE)
    assert {part.name.removeprefix(SINGLE) for part in late.parts} == set(frontier_runs.modalities_of(task))
    assert set(late.parts) < set(runs)
    assert all(run.seed == 0 for run in runs[: len(frontier_runs.rows_of(task))])


def test_an_unknown_run_is_refused() -> None:
    for key in ("drawn/steps/default", "drawn/steps/default/7", "drawn/days/default/0", "drawn/steps/none/0"):
        with pytest.raises(ValueError, match="wanted task/steps"):
            find_run(key)


def test_a_task_from_nothing_to_its_tables(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [Run("toy", "steps", name, 0) for name in ("early_fusion", LATE)]
    call = InThisProcess()
    assert carry_out(chosen, toy, 1, call) == []
    trained = [words for words in call.called if words[0] == "train"]
    assert len(trained) == 3  # early fusion, and both modalities for late fusion
    result = json.loads(chosen[0].result.read_text())
    assert (result["epoch"], result["step"], result["settings"]["train.epochs"]) == (1, 2, 1)
    assert not {"data.description", "data.root"} & set(result["settings"])
    late = json.loads(chosen[1].result.read_text())
    assert (late["step"], late["val"]) == (4, None)
    members = [load_run(toy / part.path) for part in chosen[1].parts]
    opened = late_fusion(members)
    frames = opened.dataset("test")
    assert list(frames.modalities) == list(MODALITIES)
    assert late["rows"][0]["miou"] == evaluate(opened.model, frames)["miou"]

    assert carry_out(chosen, toy, 1, again := InThisProcess()) == [] and again.called == []
    assert "toy/steps/early_fusion/0: has a result file, skipped" in capsys.readouterr().out
    assert set(results_of("toy", "steps")) == {"early_fusion", LATE, "best_single"}
    assert lacking("toy", "steps") == ["default", "separate", "separate keeping all"]
    text = tables.of_task("toy")
    assert "| early fusion | 1 |" in text and "Not all measured yet: Drawn scenes: default, separate" in text
    # Another configuration, and nothing is mixed in.
    monkeypatch.setitem(TASKS, "toy", dataclasses.replace(TASKS["toy"], epochs=2))
    (failure,) = carry_out(chosen[:1], toy, 1, InThisProcess())
    assert (
        failure == "toy/steps/early_fusion/0: early_fusion_0.json is of another configuration; delete it and run again"
    )


def test_what_was_stopped_goes_on_and_gets_no_result_before(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, late = Run("toy", "steps", "default", 2), Run("toy", "steps", LATE, 0)
    ends, called = {"progress": 0.5}, []

    class Stopped(InThisProcess):
        def __call__(self, module: str, *arguments: object, log: Path) -> None:
            called.append(arguments[0])
            (toy / run.path / "checkpoints" / "best").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(execution, "last_row", lambda folder: ends)
    with pytest.raises(Failed, match="stopped before its end"):
        execute(run, toy, Stopped())
    ends["progress"] = 1.0
    execute(run, toy, Stopped())
    assert called == ["train", "score"]
    monkeypatch.setattr(execution, "has_ended", lambda part, runs: False)
    with pytest.raises(Failed, match="not all of the single modalities"):
        execute(late, toy, Stopped())


def test_a_failed_run_stops_no_other(toy: Path) -> None:
    class Picky(InThisProcess):
        def __call__(self, module: str, *arguments: object, log: Path) -> None:
            self.called.append((str(log),))
            raise Failed("no luck")

    runs = [Run("toy", "minutes", name, 0) for name in ("default", "separate")]
    call = Picky()
    call.called = [("make-data",)]
    with pytest.raises(Failed):
        carry_out(runs, toy, 2, call)  # without scenes nothing begins
    toy_runs = [dataclasses.replace(run, task="ombria") for run in runs]
    assert carry_out(toy_runs, toy, 2, call) == [f"{run.key}: no luck" for run in toy_runs]


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    processes, log = Processes(), tmp_path / "logs" / "one.log"
    processes("platform", log=log)
    said = log.read_text()
    with pytest.raises(Failed, match=r"^no_such_module ended with 1: \S+: No module named no_such_module$"):
        processes("no_such_module", log=log)
    assert said and log.read_text().startswith(said)


def test_a_stop_ends_what_runs(tmp_path: Path) -> None:
    processes, log = Processes(), tmp_path / "one.log"
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(processes, "timeit", "-n1", "-r1", "import time; time.sleep(60)", log=log)
        while not processes.running:
            time.sleep(0.01)
        processes.stop()
        with pytest.raises(Failed, match="ended with -15"):
            outcome.result()


def test_nothing_begins_after_a_stop(tmp_path: Path) -> None:
    processes = Processes()
    processes.stop()
    with pytest.raises(Failed, match="stopped before its beginning"):
        processes("platform", log=tmp_path / "one.log")


def test_committed_results_are_of_the_configurations_as_they_are(tmp_path: Path) -> None:
    there = [run for run in ALL_RUNS if run.result.is_file()]
    assert not [run.key for run in there if not frontier_runs.is_current(run, tmp_path)]


def test_models_of_a_task_are_timed_in_turns(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: ROWS[name] for name in ("default", "early_fusion")}
    monkeypatch.setattr(frontier_runs, "ROWS", few)
    first = speed.alike("toy")
    assert next(iter(first)) == "early_fusion"
    assert first["single_lidar"] == first["single_rgb"] == "single_rgb" and first["default"] == "default"
    result = json.loads(speed.measure("toy", size=32, threads=(1,), rounds=2).read_text())
    models = result["models"]
    assert set(models) == set(frontier_runs.rows_of("toy"))
    assert models["early_fusion"]["threads"]["1"]["ratio"] == 1
    assert models["late_fusion"]["gmac"] == pytest.approx(2 * models["single_rgb"]["gmac"])
    assert models["late_fusion"]["params_m"] == pytest.approx(2 * models["single_rgb"]["params_m"])


def test_tasks_without_their_data_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Run] = []
    for name in ("OMBRIA_ROOT", "MRI_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(execution, "carry_out", lambda chosen, *_: asked.extend(chosen) or [])
    assert command_line.main(["run", "--names", "default", "separate", "--seeds", "0", "1"]) == 0
    assert [run.key for run in asked] == ["drawn/steps/default/0", "drawn/steps/separate/0", "drawn/steps/default/1"]
    assert "mri: left out, the environment variable MRI_ROOT is not set" in capsys.readouterr().out
    for wrong, words in (
        (["run", "mri"], "mri: the environment variable MRI_ROOT is not set"),
        (["run", "drawn", "--names", "defualt"], "found 'defualt', wanted some of default"),
        (["latency", "dawn"], "found 'dawn', wanted one of drawn"),
    ):
        with pytest.raises(SystemExit):
            command_line.main(wrong)
        assert words in capsys.readouterr().err


def test_a_stopped_sweep_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def carry_out(*_: object) -> list[str]:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("not interrupted")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(execution, "carry_out", carry_out)
    assert command_line.main(["run", "drawn"]) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before
