"""The runs of the sweep of adaptations: what each goes on from and every key of its configuration.

    start          trained on the source from nothing
    wide_start     the same on the source frames of the adaptation, with their light changed too
    source_only    goes on from start as start did
    wide_source    goes on from wide_start as it did
    mean_teacher, entropy go on from wide_start; on OMBRIA, where there is none, all from start
    short          mean_teacher in half the time, and its variants: what each part is worth
    oracle         trained on the target's labels from nothing

Budgets are epochs, so that a run is the same whatever else the machine does. All but short and the variants take
about as long as each other: two at once, of one thread each, are meant to take less than 50 minutes of two cores.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.registry import RESULTS
from egformer_fast.data.synthetic.domain import DOMAINS
from egformer_fast.train.config_file import load_config

CONFIGS = Path(__file__).parent.parent / "configs"
# Labels of drawn scenes cost nothing, those of a real place do: home has four times as many frames.
SCENES = {"home": (1260, "train=1200,val=60"), "away": (360, "train=300,val=60")}
SEEDS = (0, 1, 2)
STARTS = ("start", "wide_start")
METHODS = {"wide_start": "source_only", "wide_source": "source_only", "short": "mean_teacher"}
FROM_NOTHING = (*STARTS, "oracle")
ONE_SEED = ("wide_source", "entropy", "oracle")
# Give source_only the frames of `start`, with the keys of its data.
PLAIN = ("adapt.source_jitter=0", "adapt.source_thinning=0", "adapt.rare_temperature=null")
# Keys of `adapt` that source_only does not read; a key that is not listed counts.
OF_THE_TARGET = (
    *("weight", "jaccard", "threshold", "by_class", "balance", "mix", "jitter"),
    *("style", "masked", "mask_block", "mask_ratio", "entropy", "drop_sensors", "score_confidence", "score_alignment"),
)
# Keys that are gone, and the value at which they did nothing.
GONE = {"adapt.burn_in": 0.0, "adapt.magnify": None, "adapt.consensus": 0.0}
NOT_FRAMES = ("description", "root", "split", "modalities", "cache", "workers", "degraded")
SEPARATE = ("model.flow=separate", "data.degraded=0", "train.score_loss=0")  # what was measured
JITTER = "adapt.source_jitter=0.35"  # costs in the adaptation, after a start that learnt from such frames
# What a part is worth: short without it, or with one that is off. Other seeds of short say how much is chance.
VARIANTS = {
    "without_source_thinning": "adapt.source_thinning=0",
    "without_jaccard": "adapt.jaccard=0",
    "without_by_class": "adapt.by_class=false",
    "without_balance": "adapt.balance=0",
    "without_mix": "adapt.mix=false",
    "without_jitter": "adapt.jitter=0",
    "without_style": "adapt.style=0",
    "without_rare_classes": "adapt.rare_temperature=null",
    "without_score_confidence": "adapt.score_confidence=false",
    "without_score_alignment": "adapt.score_alignment=0",
    "with_source_jitter": JITTER,
    "with_drop_sensors": "adapt.drop_sensors=0.2",
    "with_masked_frames": "adapt.masked=1",
    "with_features": "adapt.features=0.005",
}


@dataclass(frozen=True)
class Benchmark:
    """start, adapt: configurations of `train` and of `adapt`. split: of the target, to score. epochs: by run, those of
    short for the variants. beginning: overrides of what starts from nothing. wide: of wide_start.
    plain: of source_only."""

    start: str
    adapt: str
    split: str
    epochs: dict[str, int]
    beginning: tuple[str, ...]
    wide: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()


BENCHMARKS = {
    "drawn": Benchmark(
        "drawn.yaml",
        "adapt/drawn.yaml",
        "val",
        {
            "start": 22,
            "wide_start": 22,
            "source_only": 22,
            "wide_source": 22,
            "entropy": 10,
            "mean_teacher": 10,
            "short": 5,
            "oracle": 88,
        },
        beginning=(*SEPARATE, "model.keep=[4,3,2,2]", "train.lr=2e-3", "train.jaccard=0.5"),
        wide=(JITTER,),
        plain=("train.ema=0.99",),  # the teacher's slow average is for pseudo-labels
    ),
    "ombria": Benchmark(
        "ombria_pairs.yaml",
        "adapt/ombria.yaml",
        "all",
        {"start": 50, "source_only": 50, "wide_source": 50, "entropy": 30, "mean_teacher": 24},
        beginning=(*SEPARATE, "model.keep=[2,2,1,1]", "train.batch_size=8", "train.lr=1e-3"),
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


def start_of(run: Run) -> Run | None:
    """What it goes on from."""
    if run.name in FROM_NOTHING:
        return None
    plain = run.name == "source_only" or "wide_start" not in BENCHMARKS[run.benchmark].epochs
    return Run(run.benchmark, "start" if plain else "wide_start", run.seed)


def checkpoint_of(run: Run, runs: Path) -> Path:
    """Where it ended."""
    return runs / run.benchmark / f"{run.name}_{run.seed}" / "checkpoints" / "last"


def overrides(run: Run, runs: Path) -> list[str]:
    its = BENCHMARKS[run.benchmark]
    epochs = its.epochs["short" if run.name in VARIANTS else run.name]
    own = [f"train.seed={run.seed}", "train.threads=1", "train.autocast=none"]
    own += [f"train.epochs={epochs}", "train.max_minutes=null"]
    scenes = {place: runs / "scenes" / place / "dataset.yaml" for place in ("home", "away")}
    if run.benchmark == "drawn":
        own += [f"data.description={scenes['away' if run.name == 'oracle' else 'home']}"]
    if run.name in FROM_NOTHING:
        own += its.beginning
    if run.name == "wide_start":
        own += its.wide
    if not adapts(run):
        return own
    if run.benchmark == "drawn":
        own += [f"target.description={scenes['away']}"]
    start = start_of(run)
    if start is not None:
        own += [f"model.weights={checkpoint_of(start, runs)}"]
    own += ["eval.every=1000"]
    if run.name in VARIANTS:
        return [*own, VARIANTS[run.name]]
    method = METHODS.get(run.name, run.name)
    return [*own, f"adapt.method={method}", *(plain_frames(its) if run.name == "source_only" else ())]


def plain_frames(its: Benchmark) -> list[str]:
    data = vars(load_config(CONFIGS / its.start).data)
    frames = (f"data.{key}={json.dumps(value)}" for key, value in data.items() if key not in NOT_FRAMES)
    return [*PLAIN, *its.plain, *frames]


def adapts(run: Run) -> bool:
    """Whether it is a run of `adapt`, not of `train`."""
    return run.name not in ("start", "oracle")


def config_of(run: Run) -> Path:
    its = BENCHMARKS[run.benchmark]
    return CONFIGS / (its.adapt if adapts(run) else its.start)


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
    """Name -> frames, splits and a digest of its numbers; test_synthetic_domains.py holds how they are drawn."""
    return {
        f"scenes.{name}": f"{frames} frames, {splits}, {hashlib.sha256(repr(DOMAINS[name]).encode()).hexdigest()[:16]}"
        for name, (frames, splits) in SCENES.items()
    }


def is_current(run: Run, runs: Path) -> bool:
    """Whether the result is of the configuration as it is; keys that have come since do not count, nor those that are
    gone and did nothing, nor those that the run does not read."""
    now = settings(run, runs)
    kept = json.loads(run.result.read_text())["settings"]
    idle = {key for key, value in GONE.items() if kept.get(key) == value}
    return all(key in now and now[key] == kept[key] for key in kept.keys() - idle - _unread(run, now))


def _unread(run: Run, now: dict[str, Any]) -> set[str]:
    """Keys of `settings` that do nothing in the run."""
    if not adapts(run):
        return {key for key in now if key.startswith(("adapt.", "target."))}
    unread: set[str] = set()
    if now["adapt.method"] == "source_only":
        unread |= {"target.scale", *(f"adapt.{key}" for key in OF_THE_TARGET)}
    if now["adapt.rare_temperature"] is None:
        unread |= {"adapt.rare_share", "adapt.rare_pixels"}
    return unread
