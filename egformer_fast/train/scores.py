"""Do the scores say which modality fails? Scores and weights of clean against failing frames, and a permutation test.

    roc_area         = P(clean > failing) + P(clean = failing) / 2     over pairs of a clean and a failing frame; 1: a
                       threshold on the score tells them apart, 0.5: the score knows nothing of the failure
    out              = share of frames in which the weight is under 0.05, dropped ones included, stage by stage
    permutation test = mIoU - mIoU with each modality's scores exchanged at random between the frames that have it

The area is of the scores of the first scored stage, the one that sees all modalities; clean frames are those in which
no modality is known to fail. The permutation keeps how good each modality is on average and loses what its score says
of the frame at hand: a fixed order of the modalities loses nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from egformer_fast.train.groups import Group
from egformer_fast.train.records import Records
from egformer_fast.train.runner import Runner

OUT = 0.05
SEED = 0


def roc_area(clean: Tensor, failing: Tensor) -> float | None:
    """Area under the ROC curve of a score that should be higher in clean frames: Mann and Whitney's rank statistic.

    clean: (n,), failing: (m,), finite -> area in [0, 1], None where either has none.
    """
    if not len(clean) or not len(failing):
        return None
    ordered = failing.sort()[0]
    below, to = (torch.searchsorted(ordered, clean, right=right).double().sum() for right in (False, True))
    return float((below + to) / (2 * len(clean) * len(failing)))


def compared(clean: tuple[Tensor, Tensor], failing: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """What tells failing frames from clean ones.

    clean, failing: a modality's scores (n,) and weights (n, stages), see Records.of.

    Returns:
        frames, clean_frames: how many; roc_area; score, clean_score: means; out, clean_out: a share for each stage.
    """
    return {
        "frames": len(failing[0]),
        "clean_frames": len(clean[0]),
        "roc_area": roc_area(clean[0], failing[0]),
        "score": _mean(failing[0]),
        "clean_score": _mean(clean[0]),
        "out": _out(failing[1]),
        "clean_out": _out(clean[1]),
    }


def _mean(score: Tensor) -> float | None:
    return float(score.double().mean()) if len(score) else None


def _out(weight: Tensor) -> list[float | None]:
    return [float((column < OUT).double().mean()) if len(column) else None for column in weight.unbind(1)]


def failure_rows(records: Records) -> list[dict[str, Any]]:
    """A row for each modality that the data set says fails, and each case in which it does: modality, failure, and what
    `compared` gives. Empty where modalities have no scores of their own."""
    rows = []
    for column, modality in enumerate(records.modalities if records.by_modality else ()):
        cases = np.array(records.tags["case"])
        failing = records.degraded[:, column]
        clean = records.of(column, ~records.failing)
        for case in sorted(set(cases[failing.numpy()])):
            found = records.of(column, failing & torch.from_numpy(cases == case))
            rows.append({"modality": modality, "failure": str(case), **compared(clean, found)})
    return rows


def permuted(score: Tensor, seed: int = SEED) -> Tensor:
    """Scores exchanged between frames, each modality for itself, among the frames where the first stage scored it.

    score: (N, stages, M), NaN where there is none. All stages of a modality come from one frame; where that frame did
    not score it any more, its last score stands.
    """
    mixed, rng = score.clone(), np.random.default_rng(seed)
    for column in range(score.shape[2]):
        rows = score[:, 0, column].isfinite().nonzero().flatten()
        mixed[rows, :, column] = score[rows[torch.from_numpy(rng.permutation(len(rows)))], :, column]
    for stage in range(1, score.shape[1]):
        mixed[:, stage] = torch.where(mixed[:, stage].isnan(), mixed[:, stage - 1], mixed[:, stage])
    return mixed


def permutation_test(
    runner: Runner, records: Records, groups: dict[str, Group], seed: int = SEED
) -> dict[str, Any] | None:
    """Run all frames again with `permuted` scores; None where there is nothing to exchange.

    records: of the runner's frames, in its order. groups: "all" and "failing" (frames with a modality that fails), as
    they were scored.

    Returns:
        seed; and for all and failing: frames, miou, permuted (the mIoU with permuted scores), lost. failing is None
        without such a frame.
    """
    if not records.by_modality or len(records.modalities) < 2:
        return None
    again = {name: Group(runner.dataset.classes) for name in groups}
    scores, done = permuted(records.score, seed), 0
    for step in runner.steps("scores permuted"):
        rows = slice(done, done + len(step.numbers))
        result = runner.segment(step.inputs, step.present, list(scores[rows].unbind(1)))
        counts = runner.count(result, step.sample)
        again["all"].add(counts, result)
        again["failing"].add(counts, result, records.failing[rows])
        done = rows.stop
    return {"seed": seed, **{name: _lost(groups[name], again[name]) for name in groups}}


def _lost(before: Group, after: Group) -> dict[str, Any] | None:
    if not before.frames:
        return None
    miou, permuted = (group.matrix.compute()["miou"] for group in (before, after))
    lost = None if miou is None else miou - permuted
    return {"frames": before.frames, "miou": miou, "permuted": permuted, "lost": lost}
