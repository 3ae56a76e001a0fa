"""SegmentationLoss against torch's own cross entropy and against OHEM written out pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from egformer_fast.train.losses import SegmentationLoss, soft_jaccard

CLASSES = 4


def batch(ignored: float = 0.3) -> tuple[Tensor, Tensor]:
    logits = 3 * torch.randn(2, CLASSES, 9, 7, dtype=torch.float64).float()
    label = torch.randint(CLASSES, (2, 9, 7))
    return logits.requires_grad_(), torch.where(torch.rand(label.shape) < ignored, 255, label)


def ohem_by_hand(logits: Tensor, label: Tensor, threshold: float, min_share: float) -> float:
    chance = logits.softmax(1).gather(1, label.clamp(max=CLASSES - 1).unsqueeze(1)).squeeze(1)
    pixels = sorted(chance[label != 255].tolist())
    least = math.ceil(len(pixels) * min_share)
    hard = [p for number, p in enumerate(pixels) if number < least or p < threshold]
    return -sum(math.log(p) for p in hard) / len(hard)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 2.5, 0.5]])
def test_cross_entropy_is_that_of_torch(smoothing: float, weights: list[float] | None) -> None:
    logits, label = batch()
    weight = None if weights is None else torch.tensor(weights)
    wanted = F.cross_entropy(logits, label, weight, ignore_index=255, label_smoothing=smoothing)
    loss = SegmentationLoss(label_smoothing=smoothing, class_weights=weights)(logits, label)
    torch.testing.assert_close(loss, wanted)


@pytest.mark.parametrize(
    ("threshold", "min_share"), [(0.7, 1 / 16), (0.3, 1 / 16), (1e-9, 0.25), (1e-9, 0.01), (1.0, 1)]
)
def test_ohem_learns_from_the_hard_pixels(threshold: float, min_share: float) -> None:
    logits, label = batch()
    loss = SegmentationLoss(ohem=True, threshold=threshold, min_share=min_share)(logits, label)
    assert loss.item() == pytest.approx(ohem_by_hand(logits, label, threshold, min_share), rel=1e-5)


def test_ohem_gives_easy_and_ignored_pixels_no_gradient() -> None:
    logits, label = batch()
    SegmentationLoss(ohem=True, threshold=0.5)(logits, label).backward()
    chance = logits.softmax(1).gather(1, label.clamp(max=CLASSES - 1).unsqueeze(1)).squeeze(1)
    learnt = logits.grad.abs().sum(1) > 0
    assert torch.equal(learnt, (label != 255) & (chance < 0.5))


@pytest.mark.parametrize("ohem", [False, True])
@pytest.mark.parametrize("weights", [None, [1.0] * CLASSES])
def test_nothing_labelled_is_zero_and_no_gradient(ohem: bool, weights: list[float] | None) -> None:
    logits, label = batch(ignored=1.1)
    loss = SegmentationLoss(ohem=ohem, class_weights=weights, label_smoothing=0.1)(logits, label)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits, label = batch()
    half = logits.detach().bfloat16()
    loss = SegmentationLoss()(half, label)
    assert loss.dtype == torch.float32
    assert loss == SegmentationLoss()(half.float(), label)


def test_another_ignore_index() -> None:
    logits, label = batch()
    moved = torch.where(label == 255, 3, label.clamp(max=2))
    wanted = F.cross_entropy(logits, moved, ignore_index=3)
    torch.testing.assert_close(SegmentationLoss(ignore_index=3)(logits, moved), wanted)


def test_soft_jaccard_is_one_minus_iou_where_predictions_are_certain():
    """Frame 0: IoU 1/3 of class 0 and 2/4 of class 1; frame 1: class 2 alone, all right, one pixel void."""
    label = torch.tensor([[[0, 0, 1], [1, 1, 255]], [[2, 2, 2], [2, 2, 255]]])
    guess = torch.tensor([[[0, 1, 1], [1, 0, 0]], [[2, 2, 2], [2, 2, 0]]])
    logits = 50.0 * torch.nn.functional.one_hot(guess, 3).permute(0, 3, 1, 2)
    expected = ((1 - 1 / 3) + (1 - 2 / 4) + 0) / 3
    torch.testing.assert_close(soft_jaccard(logits, label), torch.tensor(expected))
    assert soft_jaccard(logits, torch.full_like(label, 255)) == 0


def test_pixels_of_no_weight_do_not_count_in_the_jaccard_loss() -> None:
    """Frame 0 of the test above with its two wrong pixels at weight 0 and 1/2: IoU 1/1.5 of class 0, 2/2.5 of 1."""
    label = torch.tensor([[[0, 0, 1], [1, 1, 255]]])
    guess = torch.tensor([[[0, 1, 1], [1, 0, 0]]])
    logits = 50.0 * torch.nn.functional.one_hot(guess, 3).permute(0, 3, 1, 2)
    weight = torch.tensor([[[1.0, 0.0, 1.0], [1.0, 0.5, 1.0]]])
    expected = ((1 - 1 / 1.5) + (1 - 2 / 2.5)) / 2
    torch.testing.assert_close(soft_jaccard(logits, label, weight=weight), torch.tensor(expected))
    assert soft_jaccard(logits, label, weight=torch.zeros_like(weight)) == 0


def test_jaccard_adds_to_the_cross_entropy():
    logits, label = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    plain, both = SegmentationLoss()(logits, label), SegmentationLoss(jaccard=0.5)(logits, label)
    torch.testing.assert_close(both - plain, 0.5 * soft_jaccard(logits, label))
