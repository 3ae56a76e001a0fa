"""Records: what a model made of every frame of a split, frame by frame, and as a table of frames and modalities.

Evidence decides what a stage keeps: its score times the weight that the stage before gave (models/flow.py); with one
scored stage it is the score. A modality is dropped because better ones fill the stage's `keep`, or because it is under
`threshold` times the best: the table names both, the worst and the best that were kept where it was dropped.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from egformer_fast.files import write_whole
from egformer_fast.train.inference import Segmented
from egformer_fast.train.runner import Step

TAGS = ("name", "condition", "case")
COLUMNS = (
    *(*TAGS, "modality", "present", "degraded", "score", "weight", "kept", "dropped_at_stage"),
    *("evidence", "worst_kept", "worst_kept_evidence", "best_kept", "best_kept_evidence"),
)


@dataclass(frozen=True)
class Records:
    """N frames of a model with M modalities; score, kept and weight as in inference.Segmented, with N for B.

    modalities: names of the M. sensors: names of the S that were scored: the same, or "stacked" (early fusion), or none
    where no frame had a usable modality. tags: name, condition and case of each frame, "" where there is none. present,
    degraded: (N, M) bool, usable modalities, and those of them that are known to fail.
    """

    modalities: tuple[str, ...]
    sensors: tuple[str, ...]
    tags: dict[str, list[str]]
    present: Tensor
    degraded: Tensor
    score: Tensor
    kept: Tensor
    weight: Tensor

    @property
    def by_modality(self) -> bool:
        """Whether each modality has scores of its own."""
        return self.sensors == self.modalities

    @property
    def failing(self) -> Tensor:
        """(N,) bool: frames in which a modality is known to fail."""
        return self.degraded.any(1)

    def of(self, modality: int, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Score (n,) at the first stage and weight (n, stages) of a modality.

        frames: (N,) bool; those of them count in which it was scored.
        """
        rows = frames & self.present[:, modality] & self.score[:, 0, modality].isfinite()
        return self.score[rows, 0, modality], self.weight[rows, :, modality]

    def evidence(self) -> Tensor:
        """(N, stages, S): score times the weight of the stage before."""
        before = torch.cat([torch.ones_like(self.weight[:, :1]), self.weight[:, :-1]], 1)
        return self.score * before

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row of COLUMNS for each frame and modality; empty where nothing applies, as for scores in early fusion.

        score, weight: of the first stage. kept: to the last stage. evidence and what follows: where it was dropped.
        """
        evidence = self.evidence()
        for frame in range(len(self.present)):
            for column, modality in enumerate(self.modalities):
                there = bool(self.present[frame, column])
                row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
                row |= {tag: names[frame] for tag, names in self.tags.items()}
                row |= {"modality": modality, "present": int(there), "degraded": int(self.degraded[frame, column])}
                if there and self.by_modality:
                    row |= self._fate(frame, column, evidence[frame])
                yield row

    def _fate(self, frame: int, column: int, evidence: Tensor) -> dict[str, Any]:
        """What became of a modality in a frame, and what it lost to; evidence: (stages, S)."""
        score, weight = self.score[frame, 0, column], self.weight[frame, 0, column]
        fate = {"score": _cell(score), "weight": _cell(weight), "kept": int(self.kept[frame, :, column].all())}
        if fate["kept"]:
            return fate
        stage = self.kept[frame, :, column].tolist().index(False)
        kept = self.kept[frame, stage]
        worst = int(torch.where(kept, evidence[stage], torch.inf).argmin())
        best = int(torch.where(kept, evidence[stage], -torch.inf).argmax())
        return fate | {
            "dropped_at_stage": stage + 1,
            "evidence": _cell(evidence[stage, column]),
            "worst_kept": self.sensors[worst],
            "worst_kept_evidence": _cell(evidence[stage, worst]),
            "best_kept": self.sensors[best],
            "best_kept_evidence": _cell(evidence[stage, best]),
        }

    def write_csv(self, path: str | Path) -> None:
        """Write the rows; the file appears whole or not at all. Makes the folder."""
        text = StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        write_whole(Path(path), text.getvalue().encode())


class Recorder:
    """Gathers Records batch by batch. modalities: of the model, in its order."""

    def __init__(self, modalities: list[str]) -> None:
        self._modalities = tuple(modalities)
        self._steps: list[Step] = []
        self._sensors: tuple[str, ...] = ()
        self._tables: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, step: Step, result: Segmented) -> None:
        """Add a batch; neither its images nor its predictions are held."""
        tags = {tag: step.sample.get(tag, [""] * len(step.present)) for tag in TAGS}
        self._steps.append(step._replace(sample=tags, inputs={}, present=step.present.cpu()))
        self._sensors = self._sensors or result.sensors
        self._tables.append((result.score, result.kept, result.weight))

    def records(self) -> Records:
        """All that was added. Frames without a usable modality have NaN scores and zero weights."""
        stages = max((score.shape[1] for score, _, _ in self._tables), default=0)

        def joined(tables: Iterable[Tensor], empty: float) -> Tensor:
            # A batch of blind frames has tables of no stage and no modality.
            shape = (stages, len(self._sensors))
            return torch.cat([t if t.shape[1:] == shape else t.new_full((len(t), *shape), empty) for t in tables])

        score, kept, weight = zip(*self._tables, strict=True)
        return Records(
            self._modalities,
            self._sensors,
            {tag: [name for step in self._steps for name in step.sample[tag]] for tag in TAGS},
            torch.cat([step.present for step in self._steps]),
            torch.cat([step.degraded for step in self._steps]),
            joined(score, torch.nan),
            joined(kept, False),
            joined(weight, 0.0),
        )


def _cell(value: Tensor) -> str:
    return f"{float(value):.6g}"
