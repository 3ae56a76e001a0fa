"""The runs of the frontier: rows (models) on tasks (data) in one of two budgets, with a seed each.

    budget   steps: every model takes `epochs` passes; minutes: every model has `minutes` of one thread
    recipe   the task's configuration, the same for all rows; a row changes the model alone, and what goes with it
    single   a row for each modality, trained on it alone; late fusion is all of these together, without a training

A task or a row more is an entry more in TASKS or ROWS.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import egformer_fast.data.synthetic
from benchmarks.registry import RESULTS
from egformer_fast.data import Description, load_description
from egformer_fast.train.config import Config
from egformer_fast.train.config_file import flatten, load_config

CONFIGS = Path(__file__).parents[2] / "configs"
SCENES_DESCRIPTION = Path(egformer_fast.data.synthetic.__file__).parent / "dataset.yaml"
SCENES = {"frames": 500, "size": 256, "seed": 0, "splits": "train=320,val=40,test=140"}
BUDGETS = ("steps", "minutes")
SEEDS = (0, 1, 2)
SINGLE, LATE = "single_", "late_fusion"
BEST = "best_single"  # of the tables: the single modality that is best on `val`
COMMON = ("train.device=cpu", "train.threads=1", "train.autocast=none", "train.tensorboard=false", "eval.pictures=0")
SECTIONS = ("data", "model", "train", "eval")
# Where files lie, and what changes no weights.
LEFT_OUT = (
    *("data.description", "data.root", "model.weights", "data.cache", "data.workers", "train.device"),
    *("train.log_every", "train.save_minutes", "train.tensorboard", "eval.pictures", "eval.batch_size"),
)


@dataclass(frozen=True)
class Task:
    """config: in configs/. epochs, minutes: the two budgets of a run. score: of the tables; a key of scoring.scores_of,
    measured on the split `test`. root: environment variable with the folder of the data; None: the drawn scenes.
    lesion: class whose Dice is reported."""

    title: str
    config: str
    epochs: int
    minutes: float
    score: str = "miou"
    overrides: tuple[str, ...] = ()
    root: str | None = None
    lesion: str | None = None


TASKS = {
    "drawn": Task("Drawn scenes", "drawn.yaml", 20, 8, overrides=("data.crop=[128,128]",)),
    "ombria": Task("OMBRIA", "ombria.yaml", 25, 12, "frame_miou", root="OMBRIA_ROOT"),
    "ombria_pairs": Task("OMBRIA, pairs", "ombria_pairs.yaml", 25, 8, "frame_miou", root="OMBRIA_ROOT"),
    "mri": Task("MRI contrasts", "ms_mri.yaml", 60, 5, "dice_lesion", root="MRI_ROOT", lesion="lesion"),
}


@dataclass(frozen=True)
class Row:
    label: str
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = SEEDS[:1]


# Of one modality nothing is chosen, and teaching its score would cost time.
UNSCORED = ("data.degraded=0", "train.score_loss=0")
ROWS = {
    "default": Row("**default**", seeds=SEEDS),
    "early_fusion": Row("early fusion", ("model.early_fusion=true",), SEEDS),
    "separate": Row("separate", ("model.flow=separate",)),
    "keep_all": Row("separate keeping all", ("model.flow=separate", "model.keep=[4,4,4,4]")),
}


@dataclass(frozen=True)
class Run:
    """One row of a task in a budget, with a seed."""

    task: str
    budget: str
    name: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.task}/{self.budget}/{self.name}/{self.seed}"

    @property
    def path(self) -> str:
        """Where it lies in the folder of the runs, and in that of the results."""
        return f"{self.task}/{self.budget}/{self.name}_{self.seed}"

    @property
    def result(self) -> Path:
        return RESULTS / "frontier" / f"{self.path}.json"

    @property
    def trains(self) -> bool:
        return self.name != LATE

    @property
    def parts(self) -> list[Run]:
        """The runs that it is made of: those of late fusion, by modality."""
        names = [] if self.trains else [SINGLE + name for name in modalities_of(self.task)]
        return [Run(self.task, self.budget, name, self.seed) for name in names]


def rows_of(task: str) -> dict[str, Row]:
    """Name -> row: ROWS, one for each modality alone, late fusion."""
    single = {
        SINGLE + name: Row(f"{name} alone", (f"data.modalities=[{name}]", *UNSCORED)) for name in modalities_of(task)
    }
    return ROWS | single | {LATE: Row("late fusion")}


def sweep(task: str, budget: str) -> list[Run]:
    """All runs of a task: every row with its first seed, then the further seeds."""
    rows = rows_of(task)
    return [Run(task, budget, name, seed) for seed in SEEDS for name, row in rows.items() if seed in row.seeds]


def find_run(key: str) -> Run:
    """The run with this key. Raises ValueError: there is none."""
    task, budget, name, seed = (*key.split("/"), "", "", "")[:4]
    if task in TASKS and budget in BUDGETS:
        for run in sweep(task, budget):
            if run.name == name and str(run.seed) == seed:
                return run
    raise ValueError(f"found run {key!r}, wanted task/{'|'.join(BUDGETS)}/name/seed, such as drawn/steps/default/0")


@cache
def description_of(task: str) -> Description:
    """The description of a task's data; no frame need be there."""
    its = TASKS[task]
    return load_description(SCENES_DESCRIPTION if its.root is None else load_config(config_of(task)).data.description)


@cache
def modalities_of(task: str) -> dict[str, int]:
    """Name -> channels."""
    known = description_of(task).modalities
    names = load_config(config_of(task), TASKS[task].overrides).data.modalities or list(known)
    return {name: known[name].channels for name in names}


def config_of(task: str) -> Path:
    return CONFIGS / TASKS[task].config


def overrides(run: Run, runs: Path) -> list[str]:
    """What differs from the task's configuration; runs: the folder of the run folders, where the scenes lie too."""
    its = TASKS[run.task]
    epochs, minutes = (its.epochs, "null") if run.budget == "steps" else (100_000, its.minutes)
    own = [*COMMON, f"train.seed={run.seed}", f"train.epochs={epochs}", f"train.max_minutes={minutes}"]
    if its.root is None:
        own.append(f"data.description={scenes(runs) / 'dataset.yaml'}")
    return [*own, *its.overrides, *rows_of(run.task)[run.name].overrides]


def scenes(runs: Path) -> Path:
    """Where make-data draws the scenes."""
    return runs / "scenes"


def loaded(run: Run, runs: Path) -> Config:
    return load_config(config_of(run.task), overrides(run, runs))


def settings(run: Run, runs: Path) -> dict[str, Any]:
    """Every key of the run's training that its weights depend on; and what its scenes are."""
    flat = flatten(loaded(run, runs))
    keys = {key: value for key, value in flat.items() if key.split(".")[0] in SECTIONS and key not in LEFT_OUT}
    drawn = {f"scenes.{key}": value for key, value in SCENES.items()}
    return keys | (drawn if TASKS[run.task].root is None else {})


def is_current(run: Run, runs: Path) -> bool:
    """Whether the result is of the configuration as it is; keys that have come since do not count."""
    now, kept = settings(run, runs), read(run.result)["settings"]
    return all(key in now and now[key] == value for key, value in kept.items() if key not in LEFT_OUT)


def read(result: Path) -> dict[str, Any]:
    return dict(json.loads(result.read_text()))
