"""The protocol "failures": one modality at a time degraded over the whole split, in every way that its kind can fail.

Of each (modality, degradation): the mIoU, what of it is lost, and whether score and weight of that modality tell
(scores.py): clean frames are those of the split as it is, without a failure of its own; failing frames are those that
the degradation changed. The data set's own failures, `failing` in its description, stand beside them. The permutation
test runs on the split as it is and on one in which half of the frames are degraded, one modality each: where all
sensors are well, or all frames have the same failure, the scores of other frames are as good as a frame's own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from egformer_fast.data import DescribedFrames
from egformer_fast.data.degradations import applicable
from egformer_fast.data.degraded_frames import DegradedFrames, Plan, half_at_random, one_for_all
from egformer_fast.train.evaluate import evaluate_frames
from egformer_fast.train.records import Records
from egformer_fast.train.runner import Runner
from egformer_fast.train.scores import compared

ABOUT = "one modality of every frame degraded, before normalisation; own: frames that fail in the data set itself"


def run_failures(runner: Runner, report: dict[str, Any], records: Records, seed: int = 0) -> dict[str, Any]:
    """Run the protocol.

    Args:
        runner: of described frames. report, records: of evaluate_frames with the permutation test, of the same runner.

    Returns:
        about; rows [{modality, failure, own, miou, lost, and of scores.compared where modalities have scores of their
        own}]; permutation {split, half: as scores.permutation_test gives}. lost is None for own failures.

    Raises:
        ValueError: the data set is not a DescribedFrames.
    """
    frames = runner.dataset
    if not isinstance(frames, DescribedFrames):
        raise ValueError(f"failures: found a {type(frames).__name__}, wanted a data set with a description")
    rows = [{**row, "own": True, "miou": report["cases"][row["failure"]]["miou"], "lost": None} for row in _own(report)]
    for name in runner.sensors.given:
        for degradation in applicable(frames.sensors[name].kind):
            worse = _degraded(runner, frames, one_for_all(frames, name, degradation), seed)
            rows.append(_row(worse, name, degradation, report["miou"], records))
    half = _degraded(runner, frames, half_at_random(frames, runner.sensors.given, seed), seed)
    mixed, _ = evaluate_frames(half, permute=True, title="half of the frames degraded", seed=seed)
    permutation = {"split": report.get("permutation"), "half": mixed["permutation"]}
    return {"about": ABOUT, "rows": rows, "permutation": permutation}


def _own(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in report["failures"] if row["failure"] in report["cases"]]


def _degraded(runner: Runner, frames: DescribedFrames, plan: Plan, seed: int) -> Runner:
    return replace(runner, dataset=DegradedFrames(frames, plan, seed))


def _row(runner: Runner, modality: str, degradation: str, miou: float | None, clean: Records) -> dict[str, Any]:
    report, records = evaluate_frames(runner, title=f"{modality}: {degradation}")
    lost = None if miou is None else miou - report["miou"]
    row = {"modality": modality, "failure": degradation, "own": False, "miou": report["miou"], "lost": lost}
    if not records.by_modality:
        return row
    column = records.modalities.index(modality)
    failing = records.of(column, records.degraded[:, column])
    return row | compared(clean.of(column, ~clean.failing), failing)
