"""The sweep of adaptations: what labels of the source, and frames of the target without labels, are worth.

    OMBRIA_ROOT=... python -m benchmarks.adaptation --runs RUNS [--parallel 2] [benchmark/run/seed ...]

A run (adaptation_runs.py) goes on from where a start of its seed ended and ends as one file in
benchmarks/results/adaptation; what has a file of the same configuration is skipped, what was stopped goes on from its
checkpoint, and a start that others need is trained again where its run folder is gone. Labels of the target score the
end of a run and choose nothing. --parallel says how many runs, of one thread each, go at once.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.adaptation_runs import (
    BENCHMARKS,
    CONFIGS,
    SCENES,
    STARTS,
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
from benchmarks.ombria import last_row
from benchmarks.registry import machine, write_result


def call(*arguments: object) -> None:
    """One command in a process of its own; SystemExit where it fails."""
    line = [sys.executable, "-m", "egformer_fast.cli", *map(str, arguments)]
    print(f"$ egformer-fast {' '.join(map(str, arguments))}", flush=True)
    finished = subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if finished.returncode != 0:
        sys.exit(f"egformer-fast {arguments[0]}: {finished.stderr.strip()[-500:]}")


def execute(run: Run, runs: Path, needed: bool = False) -> None:
    """Train or adapt to the end of the budget, score the end on the target, write the result.

    needed: others go on from its checkpoint.
    """
    scored = run.result.is_file()
    if scored and not is_current(run, runs):
        sys.exit(f"{run.key}: {run.result.name} is of another configuration; delete it and run again")
    lacking = needed and not has_ended(run, runs)
    if scored and not lacking:
        print(f"{run.key}: has a result file, skipped")
        return
    minutes = train(run, runs)
    if not scored:
        score(run, runs, minutes)


def has_ended(run: Run, runs: Path) -> bool:
    """Whether the checkpoint of its end is there; a run that was stopped has one too, of where it stopped."""
    folder = checkpoint_of(run, runs)
    return folder.is_dir() and last_row(folder.parent.parent)["progress"] >= 1.0


def train(run: Run, runs: Path) -> float:
    """To the end of the budget; the minutes that it took."""
    folder = checkpoint_of(run, runs).parent.parent
    options = [part for change in overrides(run, runs) for part in ("--set", change)]
    call("adapt" if adapts(run) else "train", "--config", config_of(run), "--output", folder, "--resume", *options)
    end = last_row(folder)
    if end["progress"] < 1.0:  # a run that was told to stop also exits with 0
        sys.exit(f"{run.key}: stopped before its end; the same command goes on")
    return float(end["minutes"])


def score(run: Run, runs: Path, minutes: float) -> None:
    """Write the result of a run that has ended."""
    checkpoint = checkpoint_of(run, runs)
    report = checkpoint.parent.parent / "target.json"
    call("eval", "--checkpoint", checkpoint, *target(run, runs), "--json", report)
    scores = json.loads(report.read_text())
    del scores["checkpoint"]  # where the run lay on this machine says nothing
    scores["subsets"] = {sensors: one["miou"] for sensors, one in scores["subsets"].items()}
    write_result(
        f"adaptation/{run.benchmark}/{run.name}_{run.seed}",
        {
            "command": f"python -m benchmarks.adaptation {run.key}",
            "config": str(config_of(run).relative_to(CONFIGS)),
            "settings": settings(run, runs),
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "machine": machine(),
            "minutes": minutes,
            "target": scores,
        },
    )


def target(run: Run, runs: Path) -> list[str]:
    """Options of `eval` for the frames that are scored; drawn ones with every set of the sensors, too."""
    split = ["--split", BENCHMARKS[run.benchmark].split]
    if run.benchmark == "drawn":
        return ["--data", str(runs / "scenes" / "away" / "dataset.yaml"), *split, "--subsets", "all"]
    return ["--data", str(CONFIGS / "data" / "ombria_pairs_2021.yaml"), *split]


def draw_scenes(runs: Path) -> None:
    for place, (frames, splits) in SCENES.items():
        call(
            "make-data", "--out", runs / "scenes" / place, "--frames", frames, "--size", 128, "--splits", splits,
            "--domain", place,
        )  # fmt: skip


def with_starts(chosen: list[Run]) -> list[Run]:
    """The chosen runs, and before them what those that have no result yet go on from."""
    starts = [start_of(run) for run in chosen if not run.result.is_file()]
    return list(dict.fromkeys([*(start for start in starts if start is not None), *chosen]))


def waves(chosen: list[Run]) -> list[list[Run]]:
    """First what others start from, then the rest."""
    return [[run for run in chosen if run.name in STARTS], [run for run in chosen if run.name not in STARTS]]


def is_needed(run: Run, chosen: list[Run]) -> bool:
    """Whether one of the chosen has still to go on from it."""
    return any(start_of(other) == run and not other.result.is_file() for other in chosen)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adaptation", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/adaptation"), help="folder of the run folders")
    parser.add_argument("--parallel", type=int, default=1, help="runs at once, a thread each (default 1)")
    parser.add_argument("keys", nargs="*", metavar="benchmark/run/seed", help="default: all")
    arguments = parser.parse_args()
    known = {run.key: run for run in sweep()}
    unknown = [key for key in arguments.keys if key not in known]
    if unknown:
        parser.error(f"unknown run {unknown[0]!r}; one of {', '.join(known)}")
    chosen = with_starts([known[key] for key in arguments.keys or known])
    runs = arguments.runs.resolve()
    if any(run.benchmark == "drawn" and not run.result.is_file() for run in chosen):
        draw_scenes(runs)
    for wave in waves(chosen):
        with ThreadPoolExecutor(arguments.parallel) as pool:
            outcomes = [pool.submit(execute, run, runs, is_needed(run, chosen)) for run in wave]
            try:
                for outcome in outcomes:
                    outcome.result()
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


if __name__ == "__main__":
    main()
