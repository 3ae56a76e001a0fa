"""A model whose predictions can be computed by hand, and a data set in memory, to test evaluation and pictures with.

A sensor's first channel holds the class that it reports at each pixel. The model drops the sensor with the lowest mean
over its second channel, its "score", stage by stage, and predicts what the best one reports. Weights are in proportion
to the scores of those that are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from egformer_fast.models.trace import StageTrace, Trace

SIZE = (32, 48)
CLASSES = ["road", "sky", "car"]
PALETTE = np.array([[128, 64, 128], [70, 130, 180], [0, 0, 142]], dtype=np.uint8)


class Reporter(nn.Module):
    """Stands in for EGFormer; see the head of this file. calls: (present, names of the inputs) of each call; seen: the
    inputs of the last one. scores, where given, are those of every stage."""

    def __init__(self, modalities: Sequence[str], num_classes: int = 3) -> None:
        super().__init__()
        self.modalities = dict.fromkeys(modalities, 2)
        self.num_classes = num_classes
        self.keep = tuple(max(1, len(modalities) - stage - 1) for stage in range(4))
        self.anchor = nn.Parameter(torch.zeros(()))
        self.calls: list[tuple[list[list[bool]], list[str]]] = []

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        present: Tensor | None = None,
        keep: Sequence[int] | None = None,
        trace: bool = False,
        scores: Sequence[Tensor] | None = None,
    ) -> Tensor | tuple[Tensor, Trace]:
        assert not self.training
        assert not torch.is_grad_enabled()
        assert present is not None
        assert bool(present.any(1).all())
        self.calls.append((present.tolist(), list(inputs)))
        self.seen = dict(inputs)
        names, batch = list(self.modalities), len(present)
        score = torch.full((batch, len(names)), -1.0)
        for name, image in inputs.items():
            column = names.index(name)
            own = image[:, 1].mean((1, 2)) if scores is None else scores[0][:, column]
            score[:, column] = torch.where(present[:, column], own, -1.0)
        order = score.argsort(dim=1, descending=True, stable=True)
        sensor = torch.where(score.gather(1, order) >= 0, order, -1)
        record = Trace(tuple(names))
        for count in keep or self.keep:
            kept = sensor[:, :count]
            slots = score.gather(1, sensor.clamp_min(0))
            weight = torch.where(kept >= 0, slots[:, :count], 0.0)
            weight = weight / weight.sum(1, keepdim=True).clamp_min(1e-9)
            record.stages.append(StageTrace(slots, sensor, kept, weight))
            sensor = kept
        report = torch.stack([inputs[names[best]][frame, 0] for frame, best in enumerate(order[:, 0].tolist())])
        report = report.round().long().clamp(0, self.num_classes - 1)
        logits = nn.functional.one_hot(report, self.num_classes).movedim(3, 1).float()
        return (logits, record) if trace else logits


class MemoryFrames:
    """FolderDataset's interface over samples made by `add`."""

    name, split, ignore_index = "drawn", "test", 255
    classes, palette = CLASSES, PALETTE

    def __init__(self, modalities: Sequence[str]) -> None:
        self.modalities = dict.fromkeys(modalities, 2)
        self.samples: list[dict] = []

    def add(
        self,
        reports: dict[str, Tensor | int],
        scores: dict[str, float],
        label: Tensor | int,
        size: tuple[int, int] = SIZE,
        degraded: Sequence[str] = (),
        **more: str,
    ) -> None:
        """One frame: what each sensor reports (absent from `reports`: missing), its score, the label, and who fails."""
        inputs = {name: torch.zeros(2, *size) for name in self.modalities}
        for name, report in reports.items():
            inputs[name][0] = report
            inputs[name][1] = scores[name]
        self.samples.append(
            {
                "inputs": inputs,
                "present": torch.tensor([name in reports for name in self.modalities]),
                "degraded": torch.tensor([name in degraded for name in self.modalities]),
                "label": torch.full(size, 0).add(label),
                "name": f"frame_{len(self.samples)}",
                "condition": "",
                "case": "",
                **more,
            }
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        return self.samples[index]

    def raw(self, index: int) -> dict:
        shades = {name: image[:1].mul(100).byte() for name, image in self[index]["inputs"].items()}
        return {"inputs": {name: shade.expand(3, -1, -1).movedim(0, 2).numpy() for name, shade in shades.items()}}
