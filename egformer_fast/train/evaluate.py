"""Evaluation of a model on a named split: scores, per condition, per subset of sensors, and what the model kept.

`evaluate` returns plain numbers, ready for JSON (None where nothing was counted):

    dataset, split, modalities, classes, settings {keep, missing, tta}
    frames
    miou, miou_all_classes, pixel_accuracy, fwiou, iou {class: value}, pixels {class: count}, frame_mean {...}
                                     definitions: egformer_fast.train.metrics
    present {sensor: share of the frames}
    kept    {sensor: share at each stage, of the frames in which the sensor was present}
    score   {sensor: mean at each stage, over the frames in which it was still scored}
    blind_frames {count, names}      no usable sensor: the prediction is the ignore index, so every pixel is wrong
    conditions, cases {name: frames to score as above, over the frames of one weather, or of one sensor failure}
    subsets {"rgb+depth": the same, with only these sensors given}, subset_mean {plain means over the subsets}
    failing                          frames to score over frames in which a sensor is known to fail; None without any
    failures [{modality, failure, frames, clean_frames, roc_area, score, clean_score, out, clean_out}]
    permutation                      where it was asked for; both: egformer_fast.train.scores
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from egformer_fast.train.groups import Group, means
from egformer_fast.train.inference import EvalDataset, Segmented, check_modalities
from egformer_fast.train.records import Recorder, Records
from egformer_fast.train.runner import Runner, Step
from egformer_fast.train.scores import SEED, failure_rows, permutation_test

Subsets = str | Sequence[Sequence[str]]
MAX_BLIND_NAMES = 20


class _Evaluation:
    """The groups of one pass over the frames, filled batch by batch."""

    def __init__(self, runner: Runner, subsets: list[list[str]]) -> None:
        self.runner, self.subsets = runner, subsets
        self.classes = runner.dataset.classes
        self.total, self.failing = Group(self.classes), Group(self.classes)
        self.by_subset = {"+".join(names): Group(self.classes) for names in subsets}
        self.by_name: dict[str, dict[str, Group]] = {"condition": {}, "case": {}}
        self.blind: list[str] = []
        self.recorder = Recorder(runner.sensors.names)

    def add(self, step: Step) -> None:
        """Score a batch: as it is, and with the modalities of each subset alone."""
        result = self.runner.segment(step.inputs, step.present)
        counts = self._add_whole(step, result)
        for names, group in zip(self.subsets, self.by_subset.values(), strict=True):
            if names == self.runner.sensors.given:
                group.add(counts, result)
            else:
                some = self.runner.segment(*self.runner.given(step, names))
                group.add(self.runner.count(some, step.sample), some)

    def _add_whole(self, step: Step, result: Segmented) -> Tensor:
        """Add a batch to the total, to its conditions and cases, and to the records; returns its confusion matrices."""
        counts = self.runner.count(result, step.sample)
        self.total.add(counts, result)
        self.failing.add(counts, result, step.degraded.any(1))
        self.recorder.add(step, result)
        self.blind += [step.sample["name"][frame] for frame in result.blind.nonzero().flatten().tolist()]
        for key, groups in self.by_name.items():
            names = step.sample.get(key, [])
            for name in set(names) - {""}:
                rows = torch.tensor([other == name for other in names])
                groups.setdefault(name, Group(self.classes)).add(counts, result, rows)
        return counts

    def report(self, records: Records) -> dict[str, Any]:
        by_name = {
            key: {name: groups[name].report() for name in sorted(groups)} for key, groups in self.by_name.items()
        }
        subsets = {name: group.report() for name, group in self.by_subset.items()}
        return {
            **self.total.report(),
            "blind_frames": {"count": len(self.blind), "names": self.blind[:MAX_BLIND_NAMES]},
            "conditions": by_name["condition"],
            "cases": by_name["case"],
            "subsets": subsets,
            "subset_mean": means(list(subsets.values())),
            "failing": self.failing.report() if self.failing.frames else None,
            "failures": failure_rows(records),
        }


def evaluate(
    model: nn.Module,
    dataset: EvalDataset,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    indices: Sequence[int] | None = None,
    subsets: Subsets | None = None,
    keep: Sequence[int] | None = None,
    missing: Sequence[str] = (),
    tta: str = "none",
    workers: int = 0,
    progress: bool = False,
    permute: bool = False,
) -> dict[str, Any]:
    """Score a model on a data set; the report is described at the head of this file.

    Args:
        model: an EGFormer; in evaluation mode for the time of the call.
        dataset: samples as FolderDataset gives them; frames may differ in size.
        batch_size: at most so many frames of equal size together. With rank "batch" the choice of sensors, and so the
            result, depends on it.
        device: default, where the model is.
        indices: frames to evaluate; default all.
        subsets: "all" (2^M - 1 of them) or lists of modalities; each is evaluated with the other sensors withheld.
        keep: sensors to keep at each stage instead of the model's setting.
        missing: modalities to withhold in every frame.
        tta: test-time augmentation, see inference.segment.
        workers: processes that load frames.
        progress: show a bar.
        permute: add the permutation test, which runs all frames once more.

    Raises:
        DataError: the data set does not fit the model.
        ValueError: an argument is wrong; the message names it.
    """
    runner = Runner(model, dataset, batch_size, device, indices, keep, missing, tta, workers, progress)
    return evaluate_frames(runner, subsets, permute)[0]


def evaluate_frames(
    runner: Runner, subsets: Subsets | None = None, permute: bool = False, title: str = "eval", seed: int = SEED
) -> tuple[dict[str, Any], Records]:
    """(report of `evaluate`, what the model made of each frame). title: of the bar; seed: of the permutation."""
    dataset = runner.dataset
    state = _Evaluation(runner, _subset_lists(subsets, runner.sensors.given))
    for step in runner.steps(title):
        state.add(step)
    records = state.recorder.records()
    report = {
        "dataset": dataset.name,
        "split": dataset.split,
        "modalities": runner.sensors.given,
        "classes": list(dataset.classes),
        "settings": runner.settings,
        **state.report(records),
    }
    if permute:
        groups = {"all": state.total, "failing": state.failing}
        report["permutation"] = permutation_test(runner, records, groups, seed)
    return report, records


def _subset_lists(subsets: Subsets | None, given: list[str]) -> list[list[str]]:
    """The subsets asked for, each in the model's order, in the order asked for and each once."""
    if subsets is None:
        return []
    if subsets == "all":
        return all_subsets(given)
    if isinstance(subsets, str):
        raise ValueError(f"subsets: found {subsets!r}, wanted 'all' or lists of modalities")
    lists: list[list[str]] = []
    for names in subsets:
        check_modalities("subsets", names, given)
        ordered = [name for name in given if name in names]
        if not ordered:
            raise ValueError("subsets: found an empty one, wanted at least one modality in each")
        if ordered not in lists:
            lists.append(ordered)
    return lists


def all_subsets(names: Sequence[str]) -> list[list[str]]:
    """All that are not empty, the largest first, each in the order of `names`."""
    return [list(some) for size in range(len(names), 0, -1) for some in combinations(names, size)]
