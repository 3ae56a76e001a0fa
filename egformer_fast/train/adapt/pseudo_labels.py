"""Pseudo-labels of target frames, how much they count, what is learnt from them, and whether one class takes them all.

p = softmax(teacher(frame)),  label = argmax p,  q = share of pixels with max p > threshold         (DAFormer)
q <- q * min(1, r / r_source)      r = sum over kept sensors of weight * score, averaged over stages (ours)
loss = mean of q * cross entropy  +  jaccard * soft intersection over union, its pixels weighted by q
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from egformer_fast.models.trace import Trace
from egformer_fast.train.adapt.running_mean import RunningMean
from egformer_fast.train.adapt.views import View
from egformer_fast.train.losses import soft_jaccard


class ClassConfidence:
    """Running mean of the teacher's probability of each class where it labels that class; before the first such pixel
    1, so that a class has to be found before it is found easily."""

    def __init__(self, classes: int, decay: float = 0.99) -> None:
        self.decay, self.value = decay, torch.ones(classes)

    def update(self, probability: Tensor, label: Tensor) -> None:
        """probability, label: of some pixels, of one shape."""
        classes = len(self.value)
        count = torch.bincount(label.flatten(), minlength=classes).float().cpu()
        # Not bincount with weights, which on a GPU adds up in no fixed order.
        zero = probability.new_zeros(classes, dtype=torch.float64)
        total = zero.index_add(0, label.flatten(), probability.flatten().double()).float().cpu()
        seen = count > 0
        mean = torch.where(seen, total / count.clamp_min(1), self.value)
        self.value = self.decay * self.value + (1 - self.decay) * mean

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


class ClassBalance:
    """Factors of the teacher's probabilities, so that over the target every class is as frequent as in the source
    (distribution alignment, ReMixMatch, arXiv 1911.09785): a class that the teacher hardly finds in its new look is not
    given up. Wrong where the domains differ in what they show. Source frames count as they are drawn: with rare-class
    sampling rare classes are asked for more often.

    factor[c] = (share of c in the source's labels / mean probability of c in the target)^exponent, LIMIT at most; the
    two shares are running means.
    """

    LIMIT = 10.0

    def __init__(self, classes: int, exponent: float) -> None:
        self.exponent, self.shares = exponent, RunningMean(2, classes)

    def update(self, label: Tensor, probability: Tensor, inside: Tensor) -> None:
        """label: (B, H, W) of source frames, other numbers than classes ignored. probability: (B, classes, H, W) of
        target frames, before any factor, which counts where `inside` (B, H, W)."""
        source, labelled = class_shares(label, probability.shape[1])
        target = ((probability * inside[:, None]).sum((0, 2, 3)) / inside.sum()).double().cpu()
        self.shares.update(torch.stack([source, target]), torch.tensor([[labelled], [True]]))

    def apply(self, probability: Tensor) -> Tensor:
        """(B, classes, H, W), summing to 1 over the classes again."""
        source, target = self.shares.value
        factor = (source / target.clamp_min(1e-12)).pow(self.exponent).clamp_max(self.LIMIT)
        scaled = probability * factor.to(probability)[:, None, None]
        total = scaled.sum(1, keepdim=True)
        # Nothing is left where no source frame was labelled yet, or a pixel is sure of a class that the source lacks.
        return torch.where(total > 0, scaled / total, probability)

    def state_dict(self) -> dict[str, Any]:
        return self.shares.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.shares.load_state_dict(state)


@dataclass(frozen=True)
class PseudoLabels:
    """label: (B, H, W) int64, ignored in padding. weight: (B, H, W) float32, 0 there. confidence: scalar, the mean of
    max p."""

    label: Tensor
    weight: Tensor
    confidence: Tensor


def pseudo_labels(
    probabilities: Tensor, inside: Tensor, ignore_index: int, threshold: float, by_class: ClassConfidence | None = None
) -> PseudoLabels:
    """probabilities: (B, classes, H, W) of the teacher. inside: (B, H, W) bool, False in padding. by_class: judge
    pixels by their class, and take in this batch."""
    probability, label = probabilities.max(1)
    if by_class is None:
        sure = ((probability > threshold) & inside).flatten(1).sum(1) / inside.flatten(1).sum(1)
        weight = sure[:, None, None].expand(label.shape)
    else:
        by_class.update(probability[inside], label[inside])
        relative = (by_class.value / by_class.value.max()).to(label.device)
        weight = (probability > threshold * relative[label]).float()
    return PseudoLabels(torch.where(inside, label, ignore_index), weight * inside, probability[inside].mean())


def pseudo_label_loss(logits: Tensor, view: View, ignore_index: int = 255, jaccard: float = 0.0) -> Tensor:
    """Mean over all pixels of weight * cross entropy, to which ignored pixels add nothing; and `jaccard` times the soft
    intersection over union with the same weights. logits: (B, classes, H, W)."""
    logits = logits.float()
    loss = F.cross_entropy(logits, view.label, ignore_index=ignore_index, reduction="none")
    loss = (loss if view.weight is None else loss * view.weight).mean()
    return loss + jaccard * soft_jaccard(logits, view.label, ignore_index, view.weight) if jaccard else loss


def reliability(trace: Trace) -> Tensor:
    """(B,) in (0, 1): the scores of the kept sensors, by their weights, averaged over the stages.

    A score is a sensor's own estimate of what its map is worth (arXiv 2505.14014), so frames whose sensors all score
    lower than the teacher is used to from the source deserve less trust than their probabilities claim.
    """
    stages = []
    for stage in range(len(trace.stages)):
        score, weight = trace.score_table(stage), trace.weight_table(stage)
        stages.append((torch.where(weight > 0, score, 0.0) * weight).sum(1))
    return torch.stack(stages).float().mean(0)


def class_shares(label: Tensor, classes: int) -> tuple[Tensor, bool]:
    """(classes,) float64 on the CPU: the share of each class in the labels, numbers that are no class ignored; and
    whether there was a label."""
    valid = label[(label >= 0) & (label < classes)]
    counts = torch.bincount(valid.flatten(), minlength=classes).double().cpu()
    return counts / counts.sum().clamp_min(1), len(valid) > 0


class CollapseWatch:
    """Notices when one class takes `share` of the pseudo-labels and the source's labels do not look like that.

    Class shares are running means over 1 / (1 - decay) steps, before which nothing is reported. Collapsed is also what
    a target of one class looks like: the report says what was seen, the run goes on.
    """

    def __init__(self, classes: list[str], share: float, decay: float = 0.99) -> None:
        self.classes, self.share, self.since = classes, share, -1
        self.shares = RunningMean(2, len(classes), decay=decay)

    def update(self, pseudo: Tensor, source: Tensor, step: int) -> str | None:
        """Take in the pseudo-labels and source labels (class numbers; others are ignored) of a step; a report when a
        collapse begins."""
        found = [class_shares(label, len(self.classes)) for label in (pseudo, source)]
        shares = self.shares.update(
            torch.stack([share for share, _ in found]), torch.tensor([[any_] for _, any_ in found])
        )
        settled = float(self.shares.count[0].min()) >= 1 / (1 - self.shares.decay)
        collapsed = settled and self.top() >= self.share > float(shares[1].max())
        begins = collapsed and self.since < 0
        self.since = (step if self.since < 0 else self.since) if collapsed else -1
        return self.report() if begins else None

    def top(self) -> float:
        """The share of the class that has most of the pseudo-labels."""
        return float(self.shares.value[0].max())

    def report(self) -> str | None:
        """What is collapsed and since when, or None."""
        if self.since < 0:
            return None
        top = int(self.shares.value[0].argmax())
        name, source = self.classes[top], float(self.shares.value[1, top])
        return (
            f"collapse: since step {self.since} {100 * self.top():.1f} % of the pseudo-labels are {name!r}, which has "
            f"{100 * source:.1f} % of the source's labels; a lower train.lr, a higher adapt.threshold or a "
            "better start (model.weights) may help"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"shares": self.shares.state_dict(), "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.shares.load_state_dict(state["shares"])
        self.since = state["since"]
