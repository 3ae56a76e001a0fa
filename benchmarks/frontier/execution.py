"""Carrying out runs: train in a process of its own, score in another, write the result; all of it can be stopped.

A run with a result file is skipped, a stopped one goes on from its last checkpoint. One that fails is told of at the
end and stops no other.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.frontier import runs as frontier_runs
from benchmarks.frontier.late_fusion import LateFusion
from benchmarks.frontier.runs import (
    SCENES,
    TASKS,
    Run,
    config_of,
    is_current,
    modalities_of,
    overrides,
    scenes,
    settings,
)
from benchmarks.frontier.scoring import score
from benchmarks.ombria import last_row
from benchmarks.registry import machine, write_result
from egformer_fast.ops._backend import choose
from egformer_fast.train.config_file import load_config
from egformer_fast.train.loading import LoadedRun, load_run

TAIL = 600  # characters of a command's output that an error shows


class Failed(RuntimeError):
    """A run that did not come to its end; the message names it and says why."""


class Caller(Protocol):
    """What runs `python -m module ...`; see Processes."""

    def __call__(self, module: str, *arguments: object, log: Path) -> None: ...

    def stop(self) -> None: ...


class Processes:
    """Runs `python -m module ...`, each in a process of its own, and can tell all of them to stop.

    In a session of their own: Ctrl-C is this process's to answer, and a training gets one signal, after which it saves.
    """

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def __call__(self, module: str, *arguments: object, log: Path) -> None:
        """One command, its output appended to `log`. Raises Failed."""
        line = [sys.executable, "-m", module, *map(str, arguments)]
        log.parent.mkdir(parents=True, exist_ok=True)
        earlier = log.stat().st_size if log.is_file() else 0
        with log.open("ab") as output:
            with self._lock:
                if self._stopped:
                    raise Failed("stopped before its beginning")
                process = subprocess.Popen(line, stdout=output, stderr=output, start_new_session=True)
                self.running.add(process)
            try:
                status = process.wait()
            except KeyboardInterrupt:
                process.terminate()
                raise
        with self._lock:
            self.running.discard(process)
        if status != 0:
            said = log.read_bytes()[earlier:].decode(errors="replace").strip()
            raise Failed(f"{' '.join(line[2:4])} ended with {status}: {said[-TAIL:]}")

    def stop(self) -> None:
        """Begin nothing more, and tell what runs to save and end."""
        with self._lock:
            self._stopped = True
            for process in self.running:
                process.terminate()


def carry_out(chosen: Sequence[Run], runs: Path, jobs: int, call: Caller) -> list[str]:
    """Carry out the runs and what they are made of, `jobs` at once; returns what failed, a line each.

    Interrupted, it tells what runs to save and end, and waits for it.
    """
    lacking = [run for run in chosen if not run.result.is_file()]
    parts = [part for run in lacking for part in run.parts]
    if any(TASKS[run.task].root is None for run in lacking):
        draw_scenes(runs, call)
    failures: list[str] = []
    # What late fusion is made of comes first.
    for wave in (True, False):
        todo = [run for run in dict.fromkeys([*chosen, *parts]) if run.trains == wave]
        with ThreadPoolExecutor(jobs) as pool:
            outcomes = {run: pool.submit(execute, run, runs, call, run in parts) for run in todo}
            try:
                for run, outcome in outcomes.items():
                    error = outcome.exception()
                    if error is not None:
                        failures.append(f"{run.key}: {error}")
                        print(failures[-1], flush=True)
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                call.stop()
                raise
    return failures


def draw_scenes(runs: Path, call: Caller) -> None:
    options = [part for key, value in SCENES.items() for part in (f"--{key}", value)]
    call("egformer_fast.cli", "make-data", "--out", scenes(runs), *options, log=runs / "scenes.log")


def execute(run: Run, runs: Path, call: Caller, needed: bool = False) -> None:
    """Train a run to the end of its budget and score it.

    needed: another one is made of it, so its checkpoint has to be there as well.

    Raises:
        Failed: a command failed, the run was stopped, or its result is of another configuration.
    """
    scored = run.result.is_file()
    if scored and not is_current(run, runs):
        raise Failed(f"{run.result.name} is of another configuration; delete it and run again")
    ended = has_ended(run, runs)
    if scored and (ended or not needed):
        print(f"{run.key}: has a result file, skipped", flush=True)
        return
    log = runs / f"{run.path}.log"
    if run.trains and not ended:
        print(f"{run.key}: trains, output in {log}", flush=True)
        options = [part for change in overrides(run, runs) for part in ("--set", change)]
        place = ["--config", config_of(run.task), "--output", runs / run.path, "--resume"]
        call("egformer_fast.cli", "train", *place, *options, log=log)
        if not has_ended(run, runs):  # a run that was told to stop also exits with 0
            raise Failed("stopped before its end; the same command goes on")
    if not all(has_ended(part, runs) for part in run.parts):
        raise Failed("not all of the single modalities that it is made of have come to their end")
    if not scored:
        call("benchmarks.frontier", "score", run.key, "--runs", runs, log=log)
        print(f"{run.key}: scored, {run.result}", flush=True)


def has_ended(run: Run, runs: Path) -> bool:
    """Whether the checkpoint of its end is there; a run that was stopped has one too, of where it stopped."""
    folder = runs / run.path
    return (folder / "checkpoints" / "best").is_dir() and last_row(folder)["progress"] >= 1.0


def score_run(run: Run, runs: Path) -> Path:
    """Score a run that has ended and write its result. Raises FileNotFoundError without its checkpoint."""
    torch.set_num_threads(1)
    members = [load_run(runs / part.path) for part in run.parts or [run]]
    opened = members[0] if run.trains else late_fusion(members)
    task, names = TASKS[run.task], list(modalities_of(run.task))
    report, rows = score(opened.model, opened.dataset("test"), names, task.lesion)
    ends = [last_row(runs / part.path) for part in run.parts or [run]]
    result = {
        "command": f"python -m benchmarks.frontier run {run.task} --budget {run.budget} --names {run.name}"
        f" --seeds {run.seed}",
        "name": run.name,
        "seed": run.seed,
        "config": task.config,
        "settings": settings(run, runs),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": machine(),
        "backend": choose("cpu")[0],
        **{key: sum(end[key] for end in ends) for key in ("minutes", "epoch", "step")},
        "val": validation_score(run, runs) if run.trains else None,
        "kept": report["kept"],
        "score": report["score"],
        "iou": report["iou"],
        "rows": rows,
    }
    return write_result(f"frontier/{run.path}", result, frontier_runs.RESULTS)


def late_fusion(members: Sequence[LoadedRun]) -> LoadedRun:
    """Models of one modality each, as one that takes all of them and reads the same frames."""
    model: Any = LateFusion({next(iter(one.model.modalities)): one.model for one in members})
    return replace(members[0], model=model)


def validation_score(run: Run, runs: Path) -> float:
    """What the best checkpoint was chosen by."""
    folder = runs / run.path
    metric = load_config(folder / "config.yaml").eval.metric
    value = json.loads((folder / "checkpoints" / "best" / "evaluation.json").read_text())
    for key in metric.split("."):
        value = value[key]
    return float(value)
