"""Pseudo-labels, their weights, and the watch for a collapse; score statistics."""

from __future__ import annotations

import pytest
import torch

from egformer_fast.models import StageTrace, Trace
from egformer_fast.train.adapt.pseudo_labels import (
    ClassBalance,
    ClassConfidence,
    CollapseWatch,
    pseudo_label_loss,
    pseudo_labels,
    reliability,
)
from egformer_fast.train.adapt.running_mean import RunningMean
from egformer_fast.train.adapt.score_statistics import ScoreStatistics
from egformer_fast.train.adapt.views import View
from egformer_fast.train.losses import soft_jaccard


def everywhere(logits: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(logits), *logits.shape[2:], dtype=torch.bool)


def test_a_frame_weighs_as_much_as_its_share_of_confident_pixels() -> None:
    logits = torch.zeros(2, 3, 4, 4)
    logits[0, 1] = 10.0
    logits[1, 2, :, 0] = 10.0
    labels = pseudo_labels(logits.softmax(1), everywhere(logits), 255, 0.968)
    assert (labels.label[0] == 1).all()
    assert (labels.label[1, :, 0] == 2).all()
    assert labels.weight.flatten(1).amin(1).tolist() == labels.weight.flatten(1).amax(1).tolist() == [1.0, 0.25]
    assert float(labels.confidence) == pytest.approx((1 + 0.25 + 0.75 / 3) / 2, abs=1e-3)


def test_by_class_a_pixel_counts_where_it_is_surer_than_its_class_usually_is() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [2.0, 1.5, 0.0], [0.0, 0.5, 1.2], [0.0, 0.5, 1.2]]).T.reshape(1, 3, 1, 4)
    confidence = ClassConfidence(3, decay=0.0)
    confidence.value = torch.tensor([0.5, 0.9, 0.9])
    labels = pseudo_labels(logits.softmax(1), everywhere(logits), 255, 0.8, confidence)
    best = logits.softmax(1).amax(1).flatten()
    # decay 0: the means are this batch's; no pixel has class 1, whose mean stays.
    torch.testing.assert_close(confidence.value, torch.stack([best[:2].mean(), torch.tensor(0.9), best[2]]))
    assert labels.weight.tolist() == [[[1.0, 0.0, 1.0, 1.0]]]
    assert pseudo_labels(logits.softmax(1), everywhere(logits), 255, 0.8).weight.tolist() == [[[0.25] * 4]]


@pytest.mark.parametrize("by_class", [False, True])
def test_padding_has_no_label_and_counts_nowhere(by_class: bool) -> None:
    """As if the frame were cut to what it shows."""
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 4
    inside = torch.zeros(2, 8, 8, dtype=torch.bool)
    inside[:, 2:, :5] = True
    shown, confidences = logits[:, :, 2:, :5], [ClassConfidence(3, 0.5) if by_class else None for _ in range(2)]
    padded = pseudo_labels(logits.softmax(1), inside, 255, 0.9, confidences[0])
    cut = pseudo_labels(shown.softmax(1), everywhere(shown), 255, 0.9, confidences[1])
    assert torch.equal(padded.label[inside], cut.label.flatten())
    assert torch.equal(padded.weight[inside], cut.weight.flatten())
    torch.testing.assert_close(padded.confidence, cut.confidence)
    assert (padded.label[~inside] == 255).all()
    assert (padded.weight[~inside] == 0).all()
    if by_class:
        torch.testing.assert_close(confidences[0].value, confidences[1].value)
    balances = [ClassBalance(3, 1.0) for _ in range(2)]
    source = torch.tensor([[[0, 1, 2]]])
    balances[0].update(source, logits.softmax(1), inside)
    balances[1].update(source, shown.softmax(1), everywhere(shown))
    torch.testing.assert_close(balances[0].shares.value, balances[1].shares.value, rtol=1e-5, atol=1e-6)


def test_the_loss_weighs_pixels_and_ignores_those_without_a_class() -> None:
    logits, label = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    weight = torch.rand(2, 4, 5)
    label[0, 0] = 255
    log_p = logits.log_softmax(1).gather(1, label.clamp(max=2).unsqueeze(1)).squeeze(1)
    expected = -(log_p * weight * (label != 255)).sum() / 40
    view = View({}, torch.ones(2, 1, dtype=torch.bool), label, weight)
    torch.testing.assert_close(pseudo_label_loss(logits, view), expected)
    with_jaccard = expected + 0.3 * soft_jaccard(logits, label, 255, weight)
    torch.testing.assert_close(pseudo_label_loss(logits, view, 255, 0.3), with_jaccard)


def test_balance_makes_classes_as_frequent_as_in_the_source() -> None:
    balance = ClassBalance(3, 1.0)
    source = torch.tensor([[[0, 0, 1, 2, 255]]])
    probability = torch.tensor([[0.8, 0.2, 0.0], [0.6, 0.3, 0.1]]).T.reshape(1, 3, 1, 2)
    balance.update(source, probability, everywhere(probability))
    torch.testing.assert_close(balance.shares.value[0], torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64))
    torch.testing.assert_close(balance.shares.value[1].float(), torch.tensor([0.7, 0.25, 0.05]))
    scaled = balance.apply(probability)
    torch.testing.assert_close(scaled.sum(1), torch.ones(1, 1, 2))
    odds = (scaled / probability)[0, :, 0, 1]
    torch.testing.assert_close(odds / odds[1], torch.tensor([5 / 7, 1.0, 5.0]))
    half = ClassBalance(3, 0.5)
    half.update(source, probability, everywhere(probability))
    odds = (half.apply(probability) / probability)[0, :, 0, 1]
    torch.testing.assert_close(odds / odds[1], torch.tensor([5 / 7, 1.0, 5.0]).sqrt())


def test_balance_has_a_limit_and_forgets_slowly() -> None:
    balance = ClassBalance(2, 1.0)
    never = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    rare = torch.tensor([0.99, 0.01]).reshape(1, 2, 1, 1)
    both = torch.tensor([[[0, 1]]])
    balance.update(both, never, everywhere(never))
    torch.testing.assert_close(balance.apply(rare).flatten(), torch.tensor([0.495, 0.1]) / 0.595)
    balance.shares.count += 1e6
    balance.update(both, torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1), everywhere(never))
    torch.testing.assert_close(balance.shares.value[1].float(), torch.tensor([0.99, 0.01]))


def test_balance_leaves_pixels_alone_that_nothing_would_be_left_of() -> None:
    balance = ClassBalance(3, 1.0)
    sure = torch.tensor([[0.0, 0.0, 1.0], [0.2, 0.3, 0.5]]).T.reshape(1, 3, 1, 2)
    balance.update(torch.full((1, 1, 2), 255), sure, everywhere(sure))
    assert torch.equal(balance.apply(sure), sure)
    balance.update(torch.tensor([[[0, 1]]]), sure, everywhere(sure))  # the source has no class 2
    found = balance.apply(sure)
    assert found[0, :, 0, 0].tolist() == [0, 0, 1]
    assert found[0, 2, 0, 1] == 0
    assert found.isfinite().all()


def trace(scores: list[list[float]], kept: list[list[int]], weights: list[list[float]]) -> Trace:
    sensor = torch.arange(len(scores[0])).expand(len(scores), -1)
    stage = StageTrace(torch.tensor(scores), sensor, torch.tensor(kept), torch.tensor(weights))
    return Trace(tuple("abc"[: len(scores[0])]), [stage] * 4)


def test_reliability_is_the_score_of_what_is_kept() -> None:
    found = reliability(trace([[0.9, 0.1], [0.2, 0.6]], [[0, -1], [1, 0]], [[1.0, 0.0], [0.75, 0.25]]))
    torch.testing.assert_close(found, torch.tensor([0.9, 0.5]))


def test_reliability_ignores_sensors_that_were_not_scored() -> None:
    found = reliability(trace([[0.8, float("nan")]], [[0]], [[1.0]]))
    torch.testing.assert_close(found, torch.tensor([0.8]))


def test_a_running_mean_starts_with_its_first_values() -> None:
    mean = RunningMean(decay=0.9)
    assert float(mean.update(torch.tensor(4.0))) == 4.0
    assert float(mean.update(torch.tensor(2.0))) == 3.0
    for _ in range(200):
        mean.update(torch.tensor(1.0))
    assert float(mean.value) == pytest.approx(1.0, abs=1e-6)


def test_elements_that_are_not_seen_keep_their_mean_and_start_later() -> None:
    mean = RunningMean(2, decay=0.5)
    mean.update(torch.tensor([4.0, torch.nan]), torch.tensor([True, False]))
    assert mean.value.tolist() == [4.0, 0.0]
    assert mean.update(torch.tensor([2.0, 8.0])).tolist() == [3.0, 8.0]
    again = RunningMean(2, decay=0.5)
    again.load_state_dict(mean.state_dict())
    assert torch.equal(again.update(torch.ones(2)), mean.update(torch.ones(2)))


def test_a_collapse_is_reported_once_and_told_until_it_ends() -> None:
    watch = CollapseWatch(["dry", "flood"], 0.98, decay=0.5)
    mixed, dry = torch.tensor([[0, 0, 1, 255]]), torch.zeros(1, 4, dtype=torch.int64)
    assert watch.update(mixed, mixed, 1) is None
    reports = [watch.update(dry, mixed, step) for step in range(2, 12)]
    told = [report for report in reports if report]
    assert len(told) == 1
    assert "'dry'" in told[0]
    assert "66.7 %" in told[0]
    assert watch.report()
    for step in range(12, 16):
        watch.update(mixed, mixed, step)
    assert watch.report() is None


def test_a_source_that_is_almost_one_class_is_no_collapse() -> None:
    watch = CollapseWatch(["road", "sky"], 0.9)
    road = torch.zeros(1, 100, dtype=torch.int64)
    assert [watch.update(road, road, step) for step in range(200)] == [None] * 200


def test_a_fresh_model_has_no_collapse_to_report() -> None:
    watch = CollapseWatch(["dry", "flood"], 0.98)
    mixed, dry = torch.tensor([[0, 0, 1, 255]]), torch.zeros(1, 4, dtype=torch.int64)
    reports = [watch.update(dry, mixed, step) for step in range(1, 120)]
    assert [step for step, report in enumerate(reports, 1) if report] == [100]


def test_score_statistics_pull_mean_and_spread_together() -> None:
    statistics = ScoreStatistics(1, 2)
    source = torch.tensor([[[0.8, torch.nan], [0.6, torch.nan]]])
    for _ in range(3):
        statistics.update(source)
    same = source.clone().requires_grad_()
    assert statistics.distance(same).item() == pytest.approx(0, abs=1e-9)
    apart = torch.tensor([[[0.4, 0.5], [0.4, 0.9]]], requires_grad=True)
    distance = statistics.distance(apart)
    assert distance.item() == pytest.approx((0.7 - 0.4) ** 2 + (0.1 - 0.0) ** 2, abs=1e-3)
    distance.backward()
    assert apart.grad is not None
    assert (apart.grad[0, :, 0] < 0).all()
    # The second sensor was never scored in the source.
    assert (apart.grad[0, :, 1] == 0).all()


def test_the_distance_of_equal_scores_has_a_finite_gradient() -> None:
    statistics = ScoreStatistics(1, 1)
    statistics.update(torch.tensor([[[0.5]]]))
    score = torch.tensor([[[0.5]]], requires_grad=True)
    statistics.distance(score).backward()
    assert score.grad is not None
    assert score.grad.isfinite().all()


def test_no_common_score_gives_no_distance() -> None:
    statistics = ScoreStatistics(1, 1)
    assert float(statistics.distance(torch.tensor([[[0.5]]]))) == 0
