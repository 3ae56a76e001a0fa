"""The sweep of adaptations: what labels of the source, and frames of the target without labels, are worth.

    OMBRIA_ROOT=... python -m benchmarks.adaptation --runs RUNS [--parallel 2] [benchmark/run/seed ...]

A run goes on from where `start` of its seed ended and ends as one file in benchmarks/results/adaptation; what has a
file of the same configuration is skipped, what was stopped goes on from its checkpoint, and a `start` that others need
is trained again where its run folder is gone. Labels of the target score the end of a run and choose nothing.
`source_only` trains on as `start` did, `wide_source` with the source frames of the adaptation. Budgets are epochs, so
that a run is the same whatever else the machine does: what goes on from `start` gets as many as take about as long as
the adaptation, and `oracle`, trained on the target's labels from nothing, those of `start` and `source_only` together.
Each run has one thread; --parallel says how many run at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ombria import last_row
from benchmarks.registry import RESULTS, machine, write_result
from egformer_fast.data.synthetic.domain import DOMAINS
from egformer_fast.train.config_file import load_config

CONFIGS = Path(__file__).parent.parent / "configs"
# Labels of drawn scenes cost nothing, those of a real place do: home has four times as many frames.
SCENES = {"home": (1260, "train=1200,val=60"), "away": (360, "train=300,val=60")}
SEEDS = (0, 1, 2)
FROM_NOTHING = ("start", "oracle")
ONE_SEED = ("wide_source", "entropy")
# Gives source_only the frames of `start`.
PLAIN = ("adapt.source_jitter=0", "adapt.rare_temperature=null", "data.missing=0.1")
# What a part is worth: the adaptation without it, or with one that is off. For seed 0 only.
VARIANTS = {
    "without_source_jitter": "adapt.source_jitter=0",
    "without_by_class": "adapt.by_class=false",
    "without_balance": "adapt.balance=0",
    "without_mix": "adapt.mix=false",
    "without_jitter": "adapt.jitter=0",
    "without_rare_classes": "adapt.rare_temperature=null",
    "without_drop_sensors": "adapt.drop_sensors=0",
    "without_score_confidence": "adapt.score_confidence=false",
    "without_score_alignment": "adapt.score_alignment=0",
    "with_burn_in": "adapt.burn_in=0.3",
    "with_masked_frames": "adapt.masked=1",
    "with_consensus": "adapt.consensus=0.3",
    "with_magnify": "adapt.magnify=1.5",
}


@dataclass(frozen=True)
class Benchmark:
    """start, adapt: configurations of the run on the source and of what goes on from it. split: of the target, to
    score. epochs: by run, those of mean_teacher for its variants. beginning: overrides of what starts from nothing."""

    start: str
    adapt: str
    split: str
    epochs: dict[str, int]
    beginning: tuple[str, ...]


BENCHMARKS = {
    "drawn": Benchmark(
        "drawn.yaml",
        "adapt/drawn.yaml",
        "val",
        {"start": 12, "source_only": 16, "wide_source": 16, "entropy": 8, "mean_teacher": 8, "oracle": 112},
        beginning=("model.keep=[4,3,2,2]", "train.lr=2e-3", "train.jaccard=0.5"),
    ),
    "ombria": Benchmark(
        "ombria.yaml",
        "adapt/ombria.yaml",
        "all",
        {"start": 26, "source_only": 27, "wide_source": 27, "entropy": 14, "mean_teacher": 14},
        beginning=("model.keep=[4,3,2,2]", "train.batch_size=8", "train.lr=1e-3"),
    ),
}


@dataclass(frozen=True)
class Run:
    benchmark: str
    name: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.benchmark}/{self.name}/{self.seed}"

    @property
    def result(self) -> Path:
        return RESULTS / "adaptation" / self.benchmark / f"{self.name}_{self.seed}.json"


def sweep() -> list[Run]:
    """Every run, `start` before what goes on from it."""
    runs = []
    for benchmark, its in BENCHMARKS.items():
        for seed in SEEDS:
            names = [name for name in its.epochs if name not in ONE_SEED or seed == SEEDS[0]]
            names += VARIANTS if benchmark == "drawn" and seed == SEEDS[0] else ()
            runs += [Run(benchmark, name, seed) for name in names]
    return runs


def call(*arguments: object) -> None:
    """One command in a process of its own; SystemExit where it fails."""
    line = [sys.executable, "-m", "egformer_fast.cli", *map(str, arguments)]
    print(f"$ egformer-fast {' '.join(map(str, arguments))}", flush=True)
    finished = subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if finished.returncode != 0:
        sys.exit(f"egformer-fast {arguments[0]}: {finished.stderr.strip()[-500:]}")


def checkpoint_of(run: Run, runs: Path) -> Path:
    """Where it ended."""
    return runs / run.benchmark / f"{run.name}_{run.seed}" / "checkpoints" / "last"


def overrides(run: Run, runs: Path) -> list[str]:
    its = BENCHMARKS[run.benchmark]
    epochs = its.epochs.get(run.name, its.epochs["mean_teacher"])
    own = [f"train.seed={run.seed}", "train.threads=1", "train.autocast=none"]
    own += [f"train.epochs={epochs}", "train.max_minutes=null"]
    scenes = {place: runs / "scenes" / place / "dataset.yaml" for place in ("home", "away")}
    if run.benchmark == "drawn":
        own += [f"data.description={scenes['away' if run.name == 'oracle' else 'home']}"]
    if run.name in FROM_NOTHING:
        return [*own, *its.beginning]
    if run.benchmark == "drawn":
        own += [f"target.description={scenes['away']}"]
    own += [f"model.weights={checkpoint_of(Run(run.benchmark, 'start', run.seed), runs)}", "eval.every=1000"]
    if run.name in VARIANTS:
        return [*own, VARIANTS[run.name]]
    method = "source_only" if run.name == "wide_source" else run.name
    return [*own, f"adapt.method={method}", *(PLAIN if run.name == "source_only" else ())]


def config_of(run: Run) -> Path:
    its = BENCHMARKS[run.benchmark]
    return CONFIGS / (its.start if run.name in FROM_NOTHING else its.adapt)


def settings(run: Run, runs: Path) -> dict[str, Any]:
    """Every key of the run's configuration but where its files lie; and what its scenes are."""
    sections = dataclasses.asdict(load_config(config_of(run), overrides(run, runs)))
    keys = {
        f"{section}.{key}": value
        for section, keys in sections.items()
        for key, value in keys.items()
        if key not in ("description", "root", "weights")
    }
    return keys | (drawn_places() if run.benchmark == "drawn" else {})


def drawn_places() -> dict[str, str]:
    """Name -> frames, splits and a digest of the place's numbers; changes of the drawing itself do not show."""
    return {
        f"scenes.{name}": f"{frames} frames, {splits}, {hashlib.sha256(repr(DOMAINS[name]).encode()).hexdigest()[:16]}"
        for name, (frames, splits) in SCENES.items()
    }


def is_current(run: Run, runs: Path) -> bool:
    """Whether the result is of the configuration as it is; keys that have come since do not count."""
    now = settings(run, runs)
    kept = json.loads(run.result.read_text())["settings"]
    return all(key in now and now[key] == value for key, value in kept.items())


def execute(run: Run, runs: Path, needed: bool = False) -> None:
    """Train or adapt to the end of the budget, score the end on the target, write the result.

    needed: others go on from its checkpoint.
    """
    scored = run.result.is_file()
    if scored and not is_current(run, runs):
        sys.exit(f"{run.key}: {run.result.name} is of another configuration; delete it and run again")
    if scored and not (needed and not checkpoint_of(run, runs).is_dir()):
        print(f"{run.key}: has a result file, skipped")
        return
    minutes = train(run, runs)
    if not scored:
        score(run, runs, minutes)


def train(run: Run, runs: Path) -> float:
    """To the end of the budget; the minutes that it took."""
    folder = checkpoint_of(run, runs).parent.parent
    options = [part for change in overrides(run, runs) for part in ("--set", change)]
    command = "train" if run.name in FROM_NOTHING else "adapt"
    call(command, "--config", config_of(run), "--output", folder, "--resume", *options)
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
    """Options of `eval` for the frames that are scored."""
    drawn = runs / "scenes" / "away" / "dataset.yaml"
    data = drawn if run.benchmark == "drawn" else CONFIGS / "data" / "ombria_2021.yaml"
    return ["--data", str(data), "--split", BENCHMARKS[run.benchmark].split]


def draw_scenes(runs: Path) -> None:
    for place, (frames, splits) in SCENES.items():
        call(
            "make-data", "--out", runs / "scenes" / place, "--frames", frames, "--size", 128, "--splits", splits,
            "--domain", place,
        )  # fmt: skip


def waves(chosen: list[Run]) -> list[list[Run]]:
    """First what others start from, then the rest."""
    return [[run for run in chosen if run.name == "start"], [run for run in chosen if run.name != "start"]]


def is_needed(run: Run, chosen: list[Run]) -> bool:
    """Whether one of the chosen has still to go on from it."""
    others = [other for other in chosen if other.name not in FROM_NOTHING and not other.result.is_file()]
    return run.name == "start" and (run.benchmark, run.seed) in {(other.benchmark, other.seed) for other in others}


def over_seeds(values: list[float]) -> dict[str, Any]:
    """Mean and spread (largest less smallest) over the seeds."""
    return {"mean": sum(values) / len(values), "spread": max(values) - min(values), "seeds": len(values)}


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
    chosen = [known[key] for key in arguments.keys or known]
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
