"""The OMBRIA sweep: flood mapping from two satellites at two dates, trained from scratch on a CPU.

    OMBRIA_ROOT=... python -m benchmarks.ombria --runs RUNS [name ...]

Runs one after the other; a run that has a result file in benchmarks/results/ombria is skipped, one that was stopped
goes on from its last checkpoint. The best checkpoint is chosen on the split `val` (a seeded share of train); the test
frames are looked at once, at the end of a run. The headline run's folder also gets a picture of eight test frames.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.registry import RESULTS, machine, write_result
from egformer_fast.cli import main as command
from egformer_fast.ops._backend import choose

CONFIGS = Path(__file__).parent.parent / "configs"
PICTURED = 8

# name: overrides of its configuration, which is CONFIG_OF or ombria.yaml. The comparisons share one budget, 20 minutes
# of one core in float32, since bfloat16 is slower on a processor without arithmetic for it. The headline run has a
# larger one.
SEPARATE = ("model.flow=separate", "data.degraded=0", "train.score_loss=0")  # what was measured
EQUAL = (*SEPARATE, "train.max_minutes=20", "train.threads=1", "train.autocast=none", "eval.pictures=0")
SWEEP: dict[str, tuple[str, ...]] = {
    "headline": SEPARATE,
    "default": EQUAL,
    "keep_all": (*EQUAL, "model.keep=[4,4,4,4]"),
    "early_fusion": (*EQUAL, "model.early_fusion=true"),
    "s2_pair": (*EQUAL, "data.modalities=[s2_before,s2_after]"),
    "s1_pair": (*EQUAL, "data.modalities=[s1_before,s1_after]"),
    "pairs": (*EQUAL, "model.keep=[2,2,1,1]"),
}
CONFIG_OF = {"pairs": "ombria_pairs.yaml"}
# Evaluated besides the whole test split: sensors withheld at test time.
WITHHELD = {"default": ("s2_before,s2_after",), "headline": ("s2_before,s2_after",), "pairs": ("s2",)}


def call(*arguments: str) -> None:
    print(f"\n$ egformer-fast {' '.join(arguments)}", flush=True)
    status = command(arguments)
    if status != 0:
        sys.exit(status)


def train(name: str, folder: Path) -> None:
    """From nothing, or on from the last checkpoint; returns when the run's budget is used up."""
    config = CONFIGS / CONFIG_OF.get(name, "ombria.yaml")
    arguments = ["train", "--config", str(config), "--output", str(folder), "--resume"]
    for override in SWEEP[name]:
        arguments += ["--set", override]
    call(*arguments)


def last_row(folder: Path) -> dict[str, float]:
    """Progress, minutes, epochs and steps at the end of the run's log."""
    with (folder / "log.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["progress"]]
    names = ("progress", "minutes", "epoch", "step")
    return {name: max((float(row[name]) for row in rows), default=0.0) for name in names}


def evaluate(folder: Path, *options: str) -> dict[str, Any]:
    report = folder / "test.json"
    call("eval", "--checkpoint", str(folder), "--split", "test", "--json", str(report), *options)
    scores = dict(json.loads(report.read_text()))
    del scores["checkpoint"]  # where the run lay on this machine says nothing
    return scores


def run(name: str, runs: Path) -> None:
    result_file = RESULTS / "ombria" / f"{name}.json"
    if result_file.is_file():
        print(f"{name}: has a result file, skipped")
        return
    folder = runs / name
    train(name, folder)
    if last_row(folder)["progress"] < 1.0:  # a run that was told to stop also exits with 0
        sys.exit(f"{name}: stopped before its end; the same command goes on")
    result = {
        "command": f"python -m benchmarks.ombria {name}",
        "overrides": list(SWEEP[name]),
        "minutes": last_row(folder)["minutes"],
        "epochs": last_row(folder)["epoch"],
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": machine(),
        "backend": choose("cpu")[0],
        "test": evaluate(folder),
        "withheld": {sensors: evaluate(folder, "--missing", sensors) for sensors in WITHHELD.get(name, ())},
    }
    if name == "headline":
        out = folder / "test_pictures"
        call("predict", "--checkpoint", str(folder), "--split", "test", "--out", str(out), "--limit", str(PICTURED))
    write_result(f"ombria/{name}", result)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ombria", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", default="runs/ombria", help="folder of the run folders (default: runs/ombria)")
    parser.add_argument("names", nargs="*", metavar="name", help=f"default: all of {', '.join(SWEEP)}")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in SWEEP]
    if unknown:
        parser.error(f"unknown run {unknown[0]!r}; one of {', '.join(SWEEP)}")
    for name in arguments.names or SWEEP:
        run(name, Path(arguments.runs))


if __name__ == "__main__":
    main()
