"""Late fusion: a model for each modality, trained alone; their logits are averaged.

logits = sum over m present of model_m(x_m) / number of modalities present
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from egformer_fast.models import EGFormer, StageTrace, Trace
from egformer_fast.models.inputs import all_finite


class LateFusion(nn.Module):
    """Stands in for an EGFormer in evaluation: nothing is scored, nothing is dropped.

    Args:
        members: modality -> the model that takes it alone. All have the same classes; they no longer refuse frames
            that they cannot use, which weigh nothing here.

    Attributes:
        modalities, num_classes: as EGFormer's. keep: all modalities at every stage.
    """

    def __init__(self, members: Mapping[str, EGFormer]) -> None:
        super().__init__()
        for name, member in members.items():
            if list(member.modalities) != [name]:
                raise ValueError(f"LateFusion: the model of {name!r} takes {list(member.modalities)}, wanted it alone")
            member.validate = False
        self.members = nn.ModuleDict(members)
        self.modalities = {name: member.modalities[name] for name, member in members.items()}
        self.num_classes = next(iter(members.values())).num_classes
        self.keep = (len(members),) * 4

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        present: Tensor | None = None,
        keep: Sequence[int] | None = None,
        trace: bool = False,
    ) -> Any:
        """Segment a batch of frames.

        Args:
            inputs: name -> (B, channels, H, W); an absent key is a modality missing in every frame.
            present: (B, M) bool in the order of `modalities`; one with a NaN or an infinity in a frame
                is missing there.
            keep: not used.
            trace: also return a Trace of one stage: equal weights, scores NaN.

        Returns:
            logits: (B, num_classes, H, W), or (logits, Trace); NaN in a frame without a usable modality.
        """
        total: Tensor | None = None
        alive = self._alive(inputs, present)
        for column, (name, member) in enumerate(self.members.items()):
            if name in inputs:
                usable = alive[:, column, None, None, None]
                logits = torch.where(usable, member({name: inputs[name]}), 0)
                total = logits if total is None else total + logits
        if total is None:
            raise ValueError(f"LateFusion: found inputs {list(inputs)}, wanted some of {list(self.modalities)}")
        logits = total / alive.sum(1)[:, None, None, None]
        return (logits, self._trace(alive)) if trace else logits

    def _alive(self, inputs: Mapping[str, Tensor], present: Tensor | None) -> Tensor:
        """(B, M) bool: the usable modalities of each frame."""
        first = next(iter(inputs.values()))
        absent = torch.zeros(len(first), dtype=torch.bool, device=first.device)
        columns = [all_finite(inputs[n]) if n in inputs else absent for n in self.modalities]
        alive = torch.stack(columns, 1)
        return alive if present is None else alive & present

    def _trace(self, alive: Tensor) -> Trace:
        sensor = torch.where(alive, torch.arange(alive.shape[1], device=alive.device), -1)
        weight = alive / alive.sum(1, keepdim=True)
        return Trace(tuple(self.modalities), [StageTrace(torch.full_like(weight, torch.nan), sensor, sensor, weight)])
