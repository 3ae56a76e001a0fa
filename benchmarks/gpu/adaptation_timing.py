"""A step of `egformer-fast adapt` as its user has it: frames read from disk, teacher, student and the next weights.

Runs of the command on drawn scenes of 512x512 with the sensors, crops and passes of
configs/adapt/deliver_to_muses.yaml: a step is a source pass, the teacher's labels, a mixed and a masked pass. Two
things differ: no feature distance, which needs pretrained weights, and bfloat16 by autocast, as one would ask for on a
GPU. source_only has the source pass alone. Seconds are of whole steps, each the mean of a row of the run's log, once
a few steps are done; peak_bytes is of the whole run.
"""

from __future__ import annotations

import csv
import functools
import itertools
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.baselines import usable_backends
from benchmarks.gpu.device import is_gpu
from benchmarks.gpu.part import ROOT, OutOfTime, Part
from egformer_fast import cli, use_backend
from egformer_fast.data.synthetic.command import make_data
from egformer_fast.data.synthetic.domain import DOMAINS

CONFIG = ROOT / "configs" / "adapt" / "deliver_to_muses.yaml"
RUN_SECONDS = 45.0  # a run is begun only when this much is left: it can't be stopped half-way and count


@dataclass(frozen=True)
class Scale:
    """How much is run: side of frames and crops, frames a step, frames of each domain, steps, those of `warm` not
    counted, steps a row, loading processes and arithmetic."""

    size: int
    batches: tuple[int, ...]
    frames: int
    steps: int
    warm: int
    row: int
    workers: int
    autocast: str


FULL = Scale(512, (2, 8), frames=32, steps=48, warm=16, row=4, workers=4, autocast="bfloat16")
TINY = Scale(64, (2,), frames=2, steps=4, warm=1, row=1, workers=0, autocast="none")


def variants(device: str) -> Iterator[tuple[str, str]]:
    """(method, backend), the backend that `auto` takes first."""
    backends = list(dict.fromkeys([*usable_backends(device), "reference"]))
    yield "source_only", backends[0]
    for backend in backends:
        yield "mean_teacher", backend


def draw(folder: Path, size: int, frames: int) -> None:
    """Scenes of both places: `frames` to train on, and one to score, which every run ends with."""
    for place in ("home", "away"):
        shares = {"train": float(frames), "val": 1.0}
        make_data(folder / place, frames + 1, (size, size), splits=shares, domain=DOMAINS[place])


def arguments(scenes: Path, output: Path, where: dict[str, Any], device: str, scale: Scale) -> list[str]:
    """Of the command, for one run."""
    values = {
        "data.description": scenes / "home" / "dataset.yaml",
        "target.description": scenes / "away" / "dataset.yaml",
        "data.root": "null",
        "target.root": "null",
        "data.crop": f"[{where['size']},{where['size']}]",
        "data.workers": scale.workers,
        "train.batch_size": where["batch"],
        "train.epochs": scale.steps * where["batch"] // scale.frames,
        "train.log_every": scale.row,
        "train.autocast": scale.autocast,
        "train.device": torch.device(device).type,
        "eval.every": 10 * scale.steps,
        "eval.pictures": 0,
        "adapt.method": where["method"],
        "adapt.features": 0,
        "adapt.features_classes": "null",
    }
    pairs = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    return ["adapt", "--config", str(CONFIG), "--output", str(output), *pairs]


def seconds_a_step(log: Path, batch: int, warm: int) -> list[float]:
    """From each row of a run's log after step `warm`."""
    with log.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "train" and int(row["step"]) > warm]
    return [batch / float(row["frames_per_s"]) for row in rows]


def timed(command: list[str], output: Path, batch: int, backend: str, device: str, warm: int) -> dict[str, Any]:
    """Run the command.

    Raises:
        RuntimeError: it failed; its line is on stderr.
    """
    if is_gpu(device):
        torch.cuda.reset_peak_memory_stats(device)
    with use_backend(backend):
        status = cli.main(command)
    if status:
        raise RuntimeError(f"egformer-fast adapt ended with status {status}")
    seconds = seconds_a_step(output / "log.csv", batch, warm)
    low, median, high = statistics.quantiles(seconds, n=4)
    peak = torch.cuda.max_memory_allocated(device) if is_gpu(device) else None
    return {"median_s": median, "quartiles_s": [low, high], "rounds": len(seconds), "peak_bytes": peak}


def measure(part: Part, where: dict[str, Any], scale: Scale, folder: Path) -> None:
    """One run; each is a place of its own, for the next may not be reached."""
    if not part.tiny and part.left() < RUN_SECONDS:
        raise OutOfTime
    part.begin(where, where["backend"])
    scenes = folder / "scenes"
    draw(scenes, where["size"], scale.frames)  # once: what is there already is kept
    output = folder / "_".join(map(str, where.values()))
    command = arguments(scenes, output, where, part.device, scale)
    timing = timed(command, output, where["batch"], where["backend"], part.device, scale.warm)
    part.add([{**where, "timings": {f"{where['method']}: {where['backend']}": timing}}])


def run(part: Part) -> int:
    """All places, until the time is up."""
    scale = TINY if part.tiny else FULL
    with tempfile.TemporaryDirectory() as work:
        for batch, (method, backend) in itertools.product(scale.batches, variants(part.device)):
            where = {"size": scale.size, "batch": batch, "method": method, "backend": backend}
            if backend not in part.data["lost"]:
                part.attempt(where, functools.partial(measure, part, where, scale, Path(work)))
    return part.finish()
