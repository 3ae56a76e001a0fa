"""Metrics against hand-computed numbers, against torchmetrics, and against the published per-frame definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics.classification as tm
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from egformer_fast.train.metrics import ConfusionMatrix, FrameMeans, confusion, frame_metrics

IGNORE = 255


def compute(prediction: list, label: list, num_classes: int) -> dict:
    matrix = ConfusionMatrix(num_classes)
    matrix.update(torch.tensor(prediction), torch.tensor(label))
    return matrix.compute()


@st.composite
def frames(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """prediction, label (B, H, W) and the number of classes; some pixels without label, some without prediction."""
    num_classes = draw(st.integers(2, 6))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Few of the classes, so that absent ones, and predicted ones that the label lacks, are common.
    some = rng.integers(0, num_classes, 3)
    prediction, label = (rng.choice([*some, IGNORE], shape, p=[0.3, 0.3, 0.3, 0.1]) for _ in range(2))
    return torch.from_numpy(prediction), torch.from_numpy(label), num_classes


def test_hand_computed_case() -> None:
    # class 0: 2 hits, 3 labelled, 3 predicted; class 1: 1 hit, 2 labelled, 2 predicted; class 2: occurs nowhere
    scores = compute([[[0, 0, 1], [1, 0, 0]]], [[[0, 0, 0], [1, 1, IGNORE]]], 3)
    assert scores["iou"] == [2 / 4, 1 / 3, None]
    assert scores["miou"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert scores["miou_all_classes"] == pytest.approx((1 / 2 + 1 / 3) / 3)
    assert scores["pixel_accuracy"] == pytest.approx(3 / 5)
    assert scores["fwiou"] == pytest.approx(3 / 5 * 1 / 2 + 2 / 5 * 1 / 3)
    assert scores["pixels"] == [3, 2, 0]


def test_predicted_class_that_no_label_has_counts_as_zero() -> None:
    scores = compute([[[0, 1]]], [[[0, 0]]], 2)
    assert scores["iou"] == [0.5, 0.0]
    assert scores["miou"] == 0.25


def test_labelled_pixel_without_prediction_is_wrong() -> None:
    scores = compute([[[IGNORE, 0, IGNORE]]], [[[0, 0, IGNORE]]], 2)
    assert scores["iou"] == [0.5, None]
    assert scores["pixel_accuracy"] == 0.5
    assert scores["no_prediction"] == 1


def test_nothing_labelled_has_no_scores() -> None:
    scores = compute([[[0, 1]]], [[[IGNORE, IGNORE]]], 2)
    assert scores["miou"] is scores["miou_all_classes"] is scores["pixel_accuracy"] is scores["fwiou"] is None
    assert scores["iou"] == [None, None]


@given(frames())
def test_agrees_with_torchmetrics(case: tuple[Tensor, Tensor, int]) -> None:
    prediction, label, num_classes = case
    prediction = torch.where(prediction == IGNORE, 0, prediction)
    if bool((label == IGNORE).all()):
        return
    matrix = ConfusionMatrix(num_classes)
    matrix.update(prediction, label)
    scores = matrix.compute()

    def theirs(metric: type, average: str) -> Tensor:
        return metric(num_classes=num_classes, average=average, ignore_index=IGNORE)(prediction, label).double()

    iou = torch.tensor([0.0 if value is None else value for value in scores["iou"]], dtype=torch.float64)
    torch.testing.assert_close(iou, theirs(tm.MulticlassJaccardIndex, "none"), atol=1e-6, rtol=0)
    assert scores["miou"] == pytest.approx(float(theirs(tm.MulticlassJaccardIndex, "macro")), abs=1e-6)
    assert scores["fwiou"] == pytest.approx(float(theirs(tm.MulticlassJaccardIndex, "weighted")), abs=1e-6)
    assert scores["pixel_accuracy"] == pytest.approx(float(theirs(tm.MulticlassAccuracy, "micro")), abs=1e-6)


@given(frames())
def test_frame_metrics_follow_the_published_definitions(case: tuple[Tensor, Tensor, int]) -> None:
    """The definitions of OmbriaNet's notebook, in the loops over masks in which they are written there."""
    prediction, label, num_classes = case
    for guess, truth, counts in zip(prediction, label, confusion(prediction, label, num_classes), strict=True):
        known = truth != IGNORE
        guess, truth = guess[known], truth[known]
        if len(truth) == 0:
            continue
        in_label = set(truth.tolist())
        total_iou = weighted = correct = 0.0
        for number in in_label | (set(guess.tolist()) - {IGNORE}):
            hit = int(((guess == number) & (truth == number)).sum())
            area, guessed = int((truth == number).sum()), int((guess == number).sum())
            iou = hit / (area + guessed - hit)
            total_iou += iou
            weighted += area * iou
            correct += hit
        expected = {
            "pixel_accuracy": correct / len(truth),
            "miou": total_iou / len(in_label),
            "fwiou": weighted / len(truth),
        }
        assert frame_metrics(counts) == pytest.approx(expected)


def test_frame_miou_divides_by_the_classes_of_the_label_alone() -> None:
    counts = confusion(torch.tensor([[[0, 1]]]), torch.tensor([[[0, 0]]]), 2)[0]
    assert frame_metrics(counts)["miou"] == 0.5


def test_frame_means_leave_out_frames_without_label() -> None:
    means = FrameMeans()
    label = torch.tensor([[[0, 0]], [[IGNORE, IGNORE]], [[1, 1]]])
    means.add(confusion(torch.tensor([[[0, 0]], [[0, 0]], [[0, 1]]]), label, 2))
    assert means.compute() == {"pixel_accuracy": 0.75, "miou": 0.75, "fwiou": 0.75, "frames": 2}
    assert FrameMeans().compute() == {"pixel_accuracy": None, "miou": None, "fwiou": None, "frames": 0}


@given(frames())
def test_batches_and_merged_parts_add_up(case: tuple[Tensor, Tensor, int]) -> None:
    prediction, label, num_classes = case
    whole, first, second = (ConfusionMatrix(num_classes) for _ in range(3))
    whole.update(prediction, label)
    first.update(prediction[:1], label[:1])
    second.update(prediction[1:], label[1:])
    first.merge(second)
    assert first.compute() == whole.compute()
    assert int(whole.counts.sum()) == int((label != IGNORE).sum())


@given(frames(), st.permutations(range(6)))
def test_renaming_the_classes_moves_the_iou_and_changes_nothing_else(
    case: tuple[Tensor, Tensor, int], order: list[int]
) -> None:
    prediction, label, num_classes = case
    new_name = torch.full((IGNORE + 1,), IGNORE)
    new_name[:num_classes] = torch.tensor([number for number in order if number < num_classes])
    before, after = ConfusionMatrix(num_classes), ConfusionMatrix(num_classes)
    before.update(prediction, label)
    after.update(new_name[prediction], new_name[label])
    was, now = before.compute(), after.compute()
    assert [now["iou"][new_name[number]] for number in range(num_classes)] == was["iou"]
    assert now["miou"] == pytest.approx(was["miou"])
    assert now["fwiou"] == pytest.approx(was["fwiou"])


def test_any_integer_dtype_and_a_negative_ignore_index() -> None:
    matrix = ConfusionMatrix(2, ignore_index=-1)
    matrix.update(torch.tensor([[[0, -1, 1]]], dtype=torch.int16), torch.tensor([[[0, 0, -1]]], dtype=torch.int8))
    assert matrix.compute()["pixel_accuracy"] == 0.5


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        ([[[0, 2]]], [[[0, 1]]], r"prediction has the value 2, .*\(0 to 1\) nor the ignore index 255"),
        ([[[0, 1]]], [[[0, 7]]], r"label has the value 7, "),
        ([[[0, 1]]], [[[0, -1]]], r"label has the value -1, "),
        ([[[0, 1]]], [[[0], [1]]], r"must both be \(B, H, W\), got \(1, 1, 2\) and \(1, 2, 1\)"),
        ([[0, 1]], [[0, 1]], r"must both be \(B, H, W\)"),
    ],
)
def test_wrong_values_are_named(prediction: list, label: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion(torch.tensor(prediction), torch.tensor(label), 2)


def test_wrong_settings_are_named() -> None:
    pixel = torch.zeros(1, 1, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match="ignore_index 1 is one of the classes 0 to 2"):
        confusion(pixel, pixel, 3, ignore_index=1)
    with pytest.raises(TypeError, match=r"label must have an integer dtype, got torch\.float32"):
        confusion(pixel, pixel.float(), 3)
    with pytest.raises(ValueError, match="2 classes do not add to 3"):
        ConfusionMatrix(3).merge(ConfusionMatrix(2))
