"""The same training on two backends: does the `cpu` backend train a model to the metrics of `reference`?

Drawn scenes (their scores are synthetic), a fixed number of epochs, several seeds. The two backends round differently,
so that runs drift apart as runs of two seeds do; what must agree is the mean over seeds, within their spread.
"""

from __future__ import annotations

import csv
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.demo import CONFIG, step
from benchmarks.registry import case
from egformer_fast import use_backend

SEEDS = (0, 1, 2)
EPOCHS = 12
SETTINGS = ("train.max_minutes=null", f"train.epochs={EPOCHS}", f"eval.every={EPOCHS}", "eval.pictures=0")


def trained(backend: str, seed: int, scenes: Path, folder: Path) -> dict[str, Any]:
    """Scores on the validation split after the last epoch, loss of the last logged steps."""
    settings = (f"data.description={scenes / 'dataset.yaml'}", f"train.seed={seed}", *SETTINGS)
    overrides = [word for setting in settings for word in ("--set", setting)]
    with use_backend(backend):
        step(f"{backend}, seed {seed}", "train", "--config", str(CONFIG), "--output", str(folder), *overrides)
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    scores = [row for row in rows if row["kind"] == "eval"][-1]
    losses = [float(row["loss"]) for row in rows if row["kind"] == "train"]
    return {
        "backend": backend,
        "seed": seed,
        "miou": round(float(scores["miou"]), 4),
        "pixel_accuracy": round(float(scores["pixel_accuracy"]), 4),
        "last_loss": round(losses[-1], 4),
    }


@case
def train_backends() -> dict[str, Any]:
    """The demo's training, shortened, on the reference and the cpu backend."""
    with tempfile.TemporaryDirectory() as work:
        scenes = Path(work) / "scenes"
        splits = ("--splits", "train=80,val=40,test=0")
        step("scenes drawn", "make-data", "--out", str(scenes), "--frames", "120", "--size", "128", *splits)
        rows = [
            trained(backend, seed, scenes, Path(work) / f"{backend}_{seed}")
            for seed in SEEDS
            for backend in ("reference", "cpu")
        ]
    summary = {}
    for backend in ("reference", "cpu"):
        scores = [row["miou"] for row in rows if row["backend"] == backend]
        summary[backend] = {
            "miou_mean": round(statistics.mean(scores), 4),
            "miou_std": round(statistics.stdev(scores), 4),
        }
    return {"split": "val of drawn scenes (synthetic)", "epochs": EPOCHS, "summary": summary, "rows": rows}
