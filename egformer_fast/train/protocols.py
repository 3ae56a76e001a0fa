"""Robustness protocols: the same frames again and again, with something withheld, zeroed or drowned in noise.

For M modalities, over the 2^M - 1 sets of them that are not empty ("combinations"):

    subsets   the set is given, the others are withheld: the model does without them (modality-agnostic segmentation,
              MaSS; AnySeg's evaluation 2411.17141)
    emm       all are given as present; those outside the set are zero-filled (entirely missing modality)
    rmm       all are given; outside the set each element is zero with probability r, 0.25, 0.5, 0.75 (randomly missing)
    noise     all are given with salt and pepper; with Gaussian noise too, but for events; low, mid and high

emm, rmm and noise are 2503.18445's. mean: plain mean over the combinations; expected: sum P mIoU / sum P with
P = p^m (1 - p)^(M - m), m of M modalities affected, each with probability p; no combination affects all. Corruptions
are those of data/corruptions.py, drawn for (seed, frame, modality, level): the combinations of a level share them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from egformer_fast.data.corruptions import draws, gaussian, randomly_zeroed, salt_and_pepper, zero_filled
from egformer_fast.train.evaluate import all_subsets
from egformer_fast.train.groups import MEANS, Group, means
from egformer_fast.train.inference import EvalDataset
from egformer_fast.train.runner import Runner, Step

ABOUT = {
    "subsets": "the other modalities are withheld, their branches skipped",
    "emm": "affected modalities are zero-filled and given to the model as present",
    "rmm": "each element of affected modalities is zero with probability r, every channel for itself",
    "noise": "salt and pepper on all modalities; Gaussian noise on all but event, as published, and without, as the"
    " released code runs it: its Gaussian line is commented out",
}
PROBABILITIES = (0.2, 0.1, 0.05)
SHARES = (0.25, 0.5, 0.75)
NOISE = {"low": (0.05, 0.1), "mid": (0.1, 0.2), "high": (0.2, 0.5)}  # density, sigma


@dataclass(frozen=True)
class Change:
    """A corruption. draw: names what it draws; changes of one name draw the same. apply: (normalised image (C, H, W),
    kind of sensor, generator) -> image."""

    draw: str
    apply: Callable[[Tensor, str, np.random.Generator], Tensor]


ZEROS = Change("zeros", lambda image, kind, rng: zero_filled(image))


@dataclass(frozen=True)
class Setting:
    """One way to run the frames. given: modalities that the model gets; affected: those of them that are changed."""

    name: str
    given: Sequence[str]
    affected: Sequence[str] = ()
    change: Change = ZEROS


Groups = dict[str, list[Setting]]


def _subsets(names: Sequence[str]) -> Groups:
    return {"withheld": [Setting("+".join(some), some) for some in all_subsets(names)]}


def _affecting(names: Sequence[str], word: str, change: Change) -> list[Setting]:
    """A setting for each combination, named by what is changed in it."""
    settings = []
    for some in all_subsets(names):
        affected = [name for name in names if name not in some]
        settings.append(Setting(f"{word} {'+'.join(affected) or 'none'}", names, affected, change))
    return settings


def _emm(names: Sequence[str]) -> Groups:
    return {"zero-filled": _affecting(names, "zeros in", ZEROS)}


def _rmm(names: Sequence[str]) -> Groups:
    def change(share: float) -> Change:
        return Change(f"rmm {share}", lambda image, kind, rng: randomly_zeroed(image, share, rng))

    return {f"r = {share}": _affecting(names, "holes in", change(share)) for share in SHARES}


def _noise(names: Sequence[str]) -> Groups:
    def change(level: str, both: bool) -> Change:
        density, sigma = NOISE[level]

        def apply(image: Tensor, kind: str, rng: np.random.Generator) -> Tensor:
            noisy = salt_and_pepper(image, density, rng)
            return gaussian(noisy, sigma, rng) if both and kind != "event" else noisy

        return Change(f"noise {level}", apply)

    words = {"salt and pepper, Gaussian": True, "salt and pepper alone": False}
    return {
        word: [Setting(level, names, names, change(level, both)) for level in NOISE] for word, both in words.items()
    }


SETTINGS: dict[str, Callable[[Sequence[str]], Groups]] = {
    "subsets": _subsets,
    "emm": _emm,
    "rmm": _rmm,
    "noise": _noise,
}


class _Scored(NamedTuple):
    """A setting of a group of a protocol, and its frames so far."""

    protocol: str
    group: str
    setting: Setting
    scores: Group


def run_protocols(runner: Runner, names: Sequence[str], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Run protocols, each frame loaded once.

    Args:
        names: of SETTINGS. Modalities that the runner withholds count nowhere.

    Returns:
        protocol -> {about, groups: {group: {settings: {setting: report of groups.Group}, mean: {...}, and for emm and
        rmm expected: {p: {...}}}}}; means and expected values of groups.MEANS.
    """
    given = runner.sensors.given
    scored = [
        _Scored(name, group, setting, Group(runner.dataset.classes))
        for name in names
        for group, settings in SETTINGS[name](given).items()
        for setting in settings
    ]
    for step in runner.steps(", ".join(names)):
        _score(runner, step, scored, seed)
    report: dict[str, dict[str, Any]] = {name: {"about": ABOUT[name], "groups": {}} for name in names}
    for (name, group), some in groupby(scored, key=lambda one: one[:2]):
        report[name]["groups"][group] = _report(list(some), len(given), combined=name in ("emm", "rmm"))
    return report


def _score(runner: Runner, step: Step, scored: list[_Scored], seed: int) -> None:
    """Run a batch in every setting; those that change nothing share one run."""
    whole = None
    # One change after the other, so that no more changed images are held than one change's.
    for change, some in groupby(scored, key=lambda one: one.setting.change):
        images: dict[str, Tensor] = {}
        for _, _, setting, scores in some:
            whole_given = not setting.affected and len(setting.given) == len(runner.sensors.given)
            if whole_given and whole is not None:
                scores.add(*whole)
                continue
            inputs, present = runner.given(step, setting.given)
            for name in setting.affected:
                if name not in images:
                    images[name] = _changed(runner.dataset, step, name, change, seed)
                inputs[name] = images[name]
            result = runner.segment(inputs, present)
            counts = runner.count(result, step.sample)
            scores.add(counts, result)
            whole = (counts, result) if whole_given else whole


def _changed(dataset: EvalDataset, step: Step, name: str, change: Change, seed: int) -> Tensor:
    """(B, C, H, W): a modality's images, each with its own draw."""
    sensors = getattr(dataset, "sensors", {})
    kind = sensors[name].kind if name in sensors else "other"
    pairs = zip(step.inputs[name], step.numbers, strict=True)
    return torch.stack([change.apply(image, kind, draws(seed, number, name, change.draw)) for image, number in pairs])


def _report(scored: list[_Scored], modalities: int, combined: bool) -> dict[str, Any]:
    """One group's settings and means over them. combined: they are combinations, each with its probability."""
    reports = {one.setting.name: one.scores.report() for one in scored}
    report: dict[str, Any] = {"settings": reports, "mean": means(list(reports.values()))}
    if combined:
        affected = [len(one.setting.affected) for one in scored]
        report["expected"] = {
            str(p): {key: expected([r[key] for r in reports.values()], affected, modalities, p) for key in MEANS}
            for p in PROBABILITIES
        }
    return report


def expected(
    values: Sequence[float | None], affected: Sequence[int], modalities: int, probability: float
) -> float | None:
    """sum P value / sum P, P = p^m (1 - p)^(M - m), m of M modalities affected; None where a value is None."""
    if None in values:
        return None
    weights = np.array([probability**m * (1 - probability) ** (modalities - m) for m in affected])
    return float(np.dot(weights, np.array(values, float)) / weights.sum())
