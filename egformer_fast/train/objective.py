"""Objective: the loss of a batch of labelled frames.

    loss = L(full)  +  share · [ (1 - distil) L(part) + distil KL(full || part) ]  +  score · ScoreLoss

full: logits with the modalities that the batch has; part: of the first `share` of its frames, again, with a random
part of the modalities that these have; the number of them is drawn evenly from 1 to all but one, so that a single
modality is as frequent as all but one. full teaches part and is not changed by it (self-distillation: CHARM, RMMSS and
others keep a path with all modalities in each step, since learning from random parts alone costs accuracy with all).
Both go through the model in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egformer_fast.models import Trace
from egformer_fast.models.inputs import all_finite
from egformer_fast.train.config import TrainConfig
from egformer_fast.train.distributed import Processes, exchanging_gradients
from egformer_fast.train.sampling import Labelled
from egformer_fast.train.score_loss import ScoreLoss

PARTS = 8 << 40  # above the purposes in sampling.py, rare_classes.py and adapt/engine.py


class Objective(nn.Module):
    """The loss, and the head that its supervision of the scores learns with.

    Args:
        options: train.subsets, train.distil and train.score_loss are its keys.
        segmentation: logits (B, classes, H, W), label (B, H, W) -> scalar.
        model: tells its classes and the width of the tokens that are scored.
    """

    def __init__(self, options: TrainConfig, segmentation: nn.Module, model: Any, ignore_index: int) -> None:
        super().__init__()
        self.options, self.segmentation, self.ignore_index = options, segmentation, ignore_index
        channels = model.scored_channels if options.score_loss > 0 else None
        self.scores = None if channels is None else ScoreLoss(channels, model.num_classes, ignore_index)
        self.modalities = list(model.modalities)
        # What is called. In tuples, no part of the state: the model has its own, and the head's is the same for any
        # number of processes.
        self._model, self._scores = (model,), cast(tuple[Any], (self.scores,))

    def placed(self, place: Processes) -> Objective:
        """On this process's device, the head's gradients averaged over the processes."""
        self.to(place.device)
        if self.scores is not None:
            self._scores = (exchanging_gradients(self.scores, place),)
        return self

    def forward(
        self,
        predict: Callable[..., tuple[Tensor, Trace]],
        frames: Labelled,
        keep: tuple[int, ...],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Trace, dict[str, float]]:
        """(loss, Trace of all that was seen, the batch's frames first, values for the log).

        predict: (inputs, present, keep=, trace=True) -> (logits, Trace).
        """
        inputs, present, label = frames[:3]
        batch = len(label)
        some = math.ceil(self.options.subsets * batch) if present.shape[1] > 1 else 0
        part = draw_parts(_usable(inputs, present, self.modalities)[:some], rng)
        seen = {name: torch.cat([image, image[:some]]) for name, image in inputs.items()} if some else inputs
        logits, trace = predict(seen, torch.cat([present, part]), keep=keep, trace=True)
        logits = logits.float()
        full, values = logits[:batch], {}
        loss: Tensor = self.segmentation(full, label)
        if some:
            less = self.segmentation(logits[batch:], label[:some])
            told = distillation(full[:some], logits[batch:], label[:some] != self.ignore_index)
            distil = self.options.distil
            loss = loss + some / batch * ((1 - distil) * less + distil * told)
            values = {"part_loss": less.item(), "distil_loss": told.item()}
        if self.scores is not None and frames.worse is not None and frames.degraded is not None:
            score, stack = self._model[0].first_scores(frames.worse, present)
            scores, own = self._scores[0](score, stack, label, frames.degraded)
            loss = loss + self.options.score_loss * scores
            values["score_loss"] = own.item()
        return loss, trace, values


def _usable(inputs: Mapping[str, Tensor], present: Tensor, modalities: Sequence[str]) -> Tensor:
    """(B, M) bool: present, and finite."""
    columns = [all_finite(inputs[name]) if name in inputs else torch.zeros_like(present[:, 0]) for name in modalities]
    return present & torch.stack(columns, 1)


def draw_parts(present: Tensor, rng: np.random.Generator) -> Tensor:
    """A part of the modalities that are present in each frame, (B, M) bool: how many is uniform from 1 to all but one
    (of one modality, that one), which ones is uniform too."""
    part = torch.zeros_like(present)
    for frame, here in enumerate(present.tolist()):
        columns = [column for column, there in enumerate(here) if there]
        if columns:
            count = int(rng.integers(1, max(2, len(columns))))
            part[frame, rng.choice(columns, count, replace=False).tolist()] = True
    return part


def distillation(teacher: Tensor, student: Tensor, labelled: Tensor) -> Tensor:
    """Mean over labelled pixels of KL(teacher || student); no gradient for the teacher. teacher, student: logits
    (B, classes, H, W), labelled: (B, H, W) bool."""
    divergence = F.kl_div(student.log_softmax(1), teacher.detach().log_softmax(1), reduction="none", log_target=True)
    return torch.where(labelled, divergence.sum(1), 0.0).sum() / labelled.sum().clamp_min(1)
