"""Scores that are checked: ROC area against its definition, clean against failing frames, and the permutation test."""

from __future__ import annotations

import pytest
import torch
from evaluation_standins import MemoryFrames, Reporter
from hypothesis import given
from hypothesis import strategies as st

from egformer_fast.models import EGFormer
from egformer_fast.train.evaluate import evaluate, evaluate_frames
from egformer_fast.train.report import format_report
from egformer_fast.train.runner import Runner
from egformer_fast.train.scores import permutation_test, permuted, roc_area

SCORES = st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0]) | st.floats(0, 1, width=32), min_size=1, max_size=12)


@given(SCORES, SCORES)
def test_roc_area_is_the_share_of_pairs_in_order(clean: list[float], failing: list[float]) -> None:
    wins = sum((c > f) + (c == f) / 2 for c in clean for f in failing)
    assert roc_area(torch.tensor(clean), torch.tensor(failing)) == pytest.approx(wins / len(clean) / len(failing))


def test_roc_area_of_nothing_is_none() -> None:
    assert roc_area(torch.tensor([]), torch.tensor([0.5])) is None
    assert roc_area(torch.tensor([0.5]), torch.tensor([])) is None


@pytest.fixture
def frames() -> MemoryFrames:
    """Three clean frames and three with a failing sensor; rgb's score tells its blur in one of two, depth's tells all.

    The sensor that does not fail reports the truth.
    """
    frames = MemoryFrames(["rgb", "depth"])
    for score in (0.75, 0.5, 0.875):
        frames.add({"rgb": 1, "depth": 2}, {"rgb": score, "depth": 0.25}, 1)
    blurred = {"degraded": ["rgb"], "case": "blur"}
    frames.add({"rgb": 0, "depth": 1}, {"rgb": 0.125, "depth": 0.25}, 1, **blurred)
    frames.add({"rgb": 0, "depth": 1}, {"rgb": 0.75, "depth": 0.25}, 1, **blurred)
    frames.add({"rgb": 1, "depth": 0}, {"rgb": 0.75, "depth": 0.015625}, 1, degraded=["depth"], case="jitter")
    return frames


def test_failures_are_compared_with_clean_frames(frames: MemoryFrames) -> None:
    model = Reporter(["rgb", "depth"])
    model.keep = (2, 1, 1, 1)
    report = evaluate(model, frames, batch_size=4)
    blur, jitter = report["failures"]
    assert (blur["modality"], blur["failure"], blur["frames"], blur["clean_frames"]) == ("rgb", "blur", 2, 3)
    # Clean .5, .75, .875 against .125 and .75: 3 pairs, then 1 and a tie.
    assert blur["roc_area"] == pytest.approx((3 + 1.5) / 6)
    assert blur["score"] == pytest.approx(0.875 / 2)
    assert blur["clean_score"] == pytest.approx(2.125 / 3)
    # Of the two blurred frames one has rgb kept at all stages; at stage 1 both are kept.
    assert blur["out"] == [0.0, 0.5, 0.5, 0.5]
    assert blur["clean_out"] == [0.0] * 4
    # depth has a weight of 1/49 at stage 1 where it fails, and is dropped at stage 2 in all frames but one.
    assert (jitter["modality"], jitter["failure"], jitter["frames"], jitter["roc_area"]) == ("depth", "jitter", 1, 1.0)
    assert jitter["out"] == [1.0] * 4
    assert jitter["clean_out"] == [0.0, 1.0, 1.0, 1.0]
    assert report["failing"]["frames"] == 3
    assert report["failing"]["pixel_accuracy"] == pytest.approx(2 / 3)
    text = format_report(report)
    for line in (
        "frames with one       3          0.6667  0.3333  0.6667",
        "blur       2    0.7500          0.7083      0.4375        0/0/0/0 %       0/50/50/50 %",
    ):
        assert line in text


def test_absent_and_withheld_modalities_do_not_fail(frames: MemoryFrames) -> None:
    frames.samples[3]["present"][0] = False
    report = evaluate(Reporter(["rgb", "depth"]), frames)
    assert report["failures"][0]["frames"] == 1
    assert report["failing"]["frames"] == 2
    report = evaluate(Reporter(["rgb", "depth"]), frames, missing=["rgb"])
    assert [row["modality"] for row in report["failures"]] == ["depth"]
    assert report["failing"]["frames"] == 1


def test_failures_of_one_modality_stand_for_themselves(frames: MemoryFrames) -> None:
    frames.add({"rgb": 0, "depth": 1}, {"rgb": 0.9375, "depth": 0.25}, 1, degraded=["rgb"], case="dark")
    blur, dark, jitter = evaluate(Reporter(["rgb", "depth"]), frames)["failures"]
    assert [row["failure"] for row in (blur, dark, jitter)] == ["blur", "dark", "jitter"]
    assert (blur["frames"], blur["roc_area"]) == (2, pytest.approx(0.75))
    assert (dark["frames"], dark["roc_area"]) == (1, 0.0)


def test_data_set_that_says_nothing_of_failures(frames: MemoryFrames) -> None:
    for sample in frames.samples:
        del sample["degraded"]
    report = evaluate(Reporter(["rgb", "depth"]), frames, permute=True)
    assert (report["failing"], report["failures"]) == (None, [])
    assert report["permutation"]["failing"] is None
    assert "known failures" not in format_report(report)


def test_permuted_scores_stay_with_their_modality_and_with_the_frames_that_have_it() -> None:
    score = torch.arange(40.0).view(20, 1, 2)
    score[3, 0, 0] = torch.nan
    mixed = permuted(score, 0)
    assert mixed[3, 0, 0].isnan()
    for column in (0, 1):
        before, after = score[:, 0, column], mixed[:, 0, column]
        assert not torch.equal(before.nan_to_num(), after.nan_to_num())
        assert after[after.isfinite()].sort()[0].tolist() == before[before.isfinite()].sort()[0].tolist()
    # Each modality for itself: pairs that belonged to one frame are parted.
    assert len({(a, b) for a, b in mixed[:, 0].tolist()} & {(a, b) for a, b in score[:, 0].tolist()}) < 10
    assert torch.equal(permuted(score, 0).nan_to_num(), mixed.nan_to_num())
    assert not torch.equal(permuted(score, 1).nan_to_num(), mixed.nan_to_num())


def test_the_last_score_of_a_frame_stands_for_stages_that_did_not_ask_it() -> None:
    score = torch.tensor([[[0.1], [torch.nan], [torch.nan]], [[0.5], [0.6], [torch.nan]]])
    rows = sorted(permuted(score, 0)[..., 0].tolist())
    assert torch.tensor(rows).tolist() == torch.tensor([[0.1, 0.1, 0.1], [0.5, 0.6, 0.6]]).tolist()


def test_permutation_costs_what_the_scores_knew(frames: MemoryFrames) -> None:
    """With scores that name the sensor that is right in every frame all pixels are; with those of other frames some."""
    frames.samples.clear()
    for right, wrong in (("rgb", "depth"), ("depth", "rgb")) * 8:
        frames.add({right: 1, wrong: 0}, {right: 0.75, wrong: 0.25}, 1, degraded=[wrong], case="dead")
    model = Reporter(["rgb", "depth"])
    runner = Runner(model, frames, batch_size=3)
    report, records = evaluate_frames(runner, permute=True)
    found = report["permutation"]
    assert found["all"] == found["failing"]
    assert (found["all"]["frames"], found["all"]["miou"]) == (16, 1.0)
    mixed = permuted(records.score)[:, 0]
    # Ties go to rgb, which is right in the even frames.
    right = sum(int(depth > rgb) == frame % 2 for frame, (rgb, depth) in enumerate(mixed.tolist())) / 16
    assert 0 < right < 1
    # Class 1 is hit where it is right; class 0 is predicted elsewhere, and never right.
    assert found["all"]["permuted"] == pytest.approx(right / 2)
    assert found["all"]["lost"] == pytest.approx(1 - right / 2)
    assert "frames with a failure         16      1.0000   0.2188  0.7812" in format_report(report)


def test_nothing_is_lost_where_every_frame_has_the_same_scores(frames: MemoryFrames) -> None:
    for sample in frames.samples:
        sample["inputs"]["rgb"][1], sample["inputs"]["depth"][1] = 0.75, 0.25
    found = evaluate(Reporter(["rgb", "depth"]), frames, permute=True)["permutation"]
    assert (found["all"]["lost"], found["failing"]["lost"]) == (0, 0)


@pytest.mark.parametrize(("flow", "keep"), [("merged", (3, 2, 1, 0)), ("separate", (3, 2, 1, 1))])
def test_own_scores_given_back_change_nothing(flow: str, keep: tuple[int, ...]) -> None:
    """Segmented.score of the model, as permutation_test gives it back, in both flows, with an absent modality."""
    torch.manual_seed(0)
    names = ["a", "b", "c"]
    model = EGFormer("mit_b0", 3, dict.fromkeys(names, 2), keep=keep, head_dim=16, flow=flow)
    frames = MemoryFrames(names)
    for number in range(3):
        frames.add(dict.fromkeys(names[: 3 - number % 2], 1), dict.fromkeys(names, 0.5), 1)
        for image in frames.samples[-1]["inputs"].values():
            image.normal_()
    runner = Runner(model, frames)
    (step,) = runner.steps()
    result = runner.segment(step.inputs, step.present)
    assert result.score.shape == result.weight.shape == (3, sum(k > 0 for k in keep), 3)
    again = runner.segment(step.inputs, step.present, list(result.score.unbind(1)))
    assert torch.equal(again.prediction, result.prediction)
    assert torch.equal(again.kept, result.kept)
    torch.testing.assert_close(again.weight, result.weight, rtol=0, atol=0)
    torch.testing.assert_close(result.weight.sum(2), torch.ones(3, len(result.weight[0])))
    best_last = result.score.flip(2)
    assert not torch.equal(runner.segment(step.inputs, step.present, list(best_last.unbind(1))).weight, result.weight)


def test_early_fusion_has_nothing_to_compare_or_to_exchange(frames: MemoryFrames) -> None:
    model = EGFormer("mit_b0", 3, {"rgb": 2, "depth": 2}, head_dim=16, early_fusion=True)
    report, records = evaluate_frames(Runner(model, frames), permute=True)
    assert (report["failures"], report["permutation"]) == ([], None)
    assert report["failing"]["frames"] == 3
    assert permutation_test(Runner(model, frames), records, {}) is None
    assert "scores of other frames" not in format_report(report)
