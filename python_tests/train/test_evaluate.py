"""Evaluation on frames whose scores, kept sensors and subsets are worked out by hand; the report and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from evaluation_standins import SIZE, MemoryFrames, Reporter

from egformer_fast.errors import DataError
from egformer_fast.train.evaluate import evaluate
from egformer_fast.train.inference import TTA_VIEWS, evaluation_mode, segment, turned, turned_back
from egformer_fast.train.report import format_report, table, write_json


def left_half(inside: int, outside: int) -> torch.Tensor:
    image = torch.full(SIZE, outside)
    image[:, : SIZE[1] // 2] = inside
    return image


@pytest.fixture
def frames() -> MemoryFrames:
    """By day the better scored rgb is right; at night depth is, and rgb, still better scored in one frame, is not."""
    frames = MemoryFrames(["rgb", "depth"])
    frames.add({"rgb": 1, "depth": 0}, {"rgb": 0.75, "depth": 0.5}, 1, condition="day")
    frames.add({"rgb": left_half(0, 2), "depth": 0}, {"rgb": 0.75, "depth": 0.5}, 2, condition="day", case="blur")
    frames.add({"rgb": 0, "depth": 1}, {"rgb": 0.25, "depth": 0.5}, 1, condition="night")
    frames.add({"rgb": 0, "depth": 1}, {"rgb": 1.0, "depth": 0.5}, 1, condition="night", case="blur")
    frames.add({"depth": 1}, {"depth": 0.5}, left_half(1, 255), condition="night")
    return frames


@pytest.fixture
def model() -> Reporter:
    return Reporter(["rgb", "depth"])


def test_scores_over_the_data_set_and_over_frames(model: Reporter, frames: MemoryFrames) -> None:
    report = evaluate(model, frames, batch_size=2)
    # In frames: class 1 is hit in 1 + 1 + 1/2, missed in 1; class 2 is hit in 1/2, missed in 1/2; class 0 never right.
    assert report["frames"] == 5
    assert report["iou"] == {"road": 0.0, "sky": pytest.approx(2.5 / 3.5), "car": 0.5}
    assert report["miou"] == pytest.approx((2.5 / 3.5 + 0.5) / 3)
    assert report["pixel_accuracy"] == pytest.approx(3 / 4.5)
    assert report["fwiou"] == pytest.approx((3.5 * 2.5 / 3.5 + 0.5) / 4.5)
    assert report["pixels"] == {"road": 0, "sky": 3.5 * SIZE[0] * SIZE[1], "car": SIZE[0] * SIZE[1]}
    assert report["frame_mean"] == {"pixel_accuracy": 0.7, "miou": 0.7, "fwiou": 0.7, "frames": 5}
    assert (report["dataset"], report["split"], report["modalities"]) == ("drawn", "test", ["rgb", "depth"])
    assert report["settings"] == {"keep": [1, 1, 1, 1], "missing": [], "tta": "none"}


def test_batches_do_not_change_the_report(model: Reporter, frames: MemoryFrames) -> None:
    reports = [evaluate(model, frames, batch_size=size, subsets="all") for size in (1, 3, 8)]
    assert reports[0] == reports[1] == reports[2]


def test_conditions_and_cases(model: Reporter, frames: MemoryFrames) -> None:
    report = evaluate(model, frames, batch_size=3)
    assert {name: scores["frames"] for name, scores in report["conditions"].items()} == {"day": 2, "night": 3}
    assert report["conditions"]["day"]["pixel_accuracy"] == 0.75
    assert report["conditions"]["night"]["pixel_accuracy"] == pytest.approx(1.5 / 2.5)
    assert report["conditions"]["day"]["kept"] == {"rgb": [1.0] * 4, "depth": [0.0] * 4}
    assert report["cases"]["blur"]["frames"] == 2
    assert report["cases"]["blur"]["pixel_accuracy"] == 0.25


def test_data_set_without_cases(model: Reporter, frames: MemoryFrames) -> None:
    for sample in frames.samples:
        del sample["case"]
    assert evaluate(model, frames)["cases"] == {}


def test_kept_shares_count_the_frames_where_the_sensor_was_present(frames: MemoryFrames) -> None:
    model = Reporter(["rgb", "depth"])
    model.keep = (2, 1, 1, 1)
    report = evaluate(model, frames)
    assert report["present"] == {"rgb": 4 / 5, "depth": 1.0}
    assert report["kept"] == {"rgb": [1.0, 0.75, 0.75, 0.75], "depth": [1.0, 0.4, 0.4, 0.4]}
    assert report["score"]["rgb"] == pytest.approx([2.75 / 4, 2.75 / 4, 2.5 / 3, 2.5 / 3])
    assert report["score"]["depth"] == pytest.approx([0.5] * 4)


def test_subsets_withhold_the_other_sensors(model: Reporter, frames: MemoryFrames) -> None:
    report = evaluate(model, frames, subsets="all")
    assert list(report["subsets"]) == ["rgb+depth", "rgb", "depth"]
    whole, rgb, depth = report["subsets"].values()
    assert whole["pixel_accuracy"] == report["pixel_accuracy"]
    # rgb alone: right in frames 0 and half of 1, blind in the last one; depth alone: right in the night frames.
    assert rgb["pixel_accuracy"] == pytest.approx(1.5 / 4.5)
    assert rgb["no_prediction"] == SIZE[0] * SIZE[1] // 2
    assert depth["pixel_accuracy"] == pytest.approx(2.5 / 4.5)
    assert depth["kept"]["rgb"] == [None] * 4
    assert [inputs for _, inputs in model.calls] == [["rgb", "depth"], ["rgb"], ["depth"]]
    mean = (whole["miou"] + rgb["miou"] + depth["miou"]) / 3
    assert report["subset_mean"]["miou"] == pytest.approx(mean)


def test_named_subsets_keep_their_order_and_come_once(frames: MemoryFrames) -> None:
    report = evaluate(Reporter(["rgb", "depth"]), frames, subsets=[["depth"], ["depth", "rgb"], ["rgb", "depth"]])
    assert list(report["subsets"]) == ["depth", "rgb+depth"]


def test_withheld_sensors(model: Reporter, frames: MemoryFrames) -> None:
    report = evaluate(model, frames, missing=["rgb"], subsets="all")
    assert report["pixel_accuracy"] == pytest.approx(2.5 / 4.5)
    assert report["present"] == {"rgb": 0.0, "depth": 1.0}
    assert list(report["subsets"]) == ["depth"]
    assert report["settings"]["missing"] == ["rgb"]
    assert all(inputs == ["depth"] for _, inputs in model.calls)


def test_a_withheld_sensor_need_not_be_in_the_data_set() -> None:
    frames = MemoryFrames(["depth"])
    frames.add({"depth": 1}, {"depth": 0.5}, 1)
    assert evaluate(Reporter(["rgb", "depth"]), frames, missing=["rgb"])["pixel_accuracy"] == 1.0
    with pytest.raises(DataError, match=r"takes modality 'rgb', which data set 'drawn' does not have \(it has \['dep"):
        evaluate(Reporter(["rgb", "depth"]), frames)


def test_data_set_in_another_order_with_more_sensors(frames: MemoryFrames) -> None:
    frames.samples[1]["degraded"][0] = frames.samples[3]["degraded"][1] = True
    turned = MemoryFrames(["lidar", "depth", "rgb"])
    for sample in frames.samples:
        masks = {key: torch.tensor([True, *sample[key].tolist()[::-1]]) for key in ("present", "degraded")}
        inputs = {"lidar": torch.full((2, *SIZE), torch.nan), **sample["inputs"]}
        turned.samples.append({**sample, "inputs": inputs, **masks})
    report = evaluate(Reporter(["rgb", "depth"]), frames)
    assert [(row["modality"], row["failure"]) for row in report["failures"]] == [("rgb", "blur"), ("depth", "blur")]
    assert evaluate(Reporter(["rgb", "depth"]), turned) == report


def test_frames_without_a_usable_sensor_are_counted_as_wrong_and_named(model: Reporter, frames: MemoryFrames) -> None:
    frames.add({}, {}, 1)
    frames.add({"rgb": 1, "depth": 1}, {"rgb": 0.5, "depth": 0.5}, 1)
    frames.samples[-1]["inputs"]["rgb"][0, 0, 0] = torch.nan
    frames.samples[-1]["inputs"]["depth"][1, 3, 3] = torch.inf
    report = evaluate(model, frames, batch_size=3)
    assert report["blind_frames"] == {"count": 2, "names": ["frame_5", "frame_6"]}
    assert report["frames"] == 7
    assert report["pixel_accuracy"] == pytest.approx(3 / 6.5)
    assert "2 frame(s) without a usable sensor, predicted as ignore; all their pixels count as wrong: frame_5, fr" in (
        format_report(report)
    )


def test_data_set_of_blind_frames_only(model: Reporter) -> None:
    frames = MemoryFrames(["rgb", "depth"])
    frames.add({}, {}, 1)
    report = evaluate(model, frames)
    assert report["pixel_accuracy"] == 0.0
    assert report["kept"] == {}
    assert "over all pixels           0.0000  0.0000  0.0000" in format_report(report)


def test_frames_of_different_sizes(model: Reporter) -> None:
    frames = MemoryFrames(["rgb", "depth"])
    for size in ((32, 32), (32, 32), (40, 64), (32, 32)):
        frames.add({"rgb": 1, "depth": 0}, {"rgb": 0.75, "depth": 0.5}, 1, size)
    report = evaluate(model, frames, batch_size=4)
    assert report["pixels"]["sky"] == 3 * 32 * 32 + 40 * 64
    assert report["pixel_accuracy"] == 1.0
    assert [len(present) for present, _ in model.calls] == [2, 1, 1]


def test_indices_keep_and_mode(model: Reporter, frames: MemoryFrames) -> None:
    model.train()
    report = evaluate(model, frames, indices=[2, 0], keep=(2, 2, 1, 1))
    assert model.training
    assert report["frames"] == 2
    assert report["pixel_accuracy"] == 1.0
    assert report["settings"]["keep"] == [2, 2, 1, 1]
    assert report["kept"]["depth"] == [1.0, 1.0, 0.5, 0.5]


class OneSided(Reporter):
    """Sees class 2 in the left half of what it is shown, and is less sure of it the more it was turned."""

    def forward(self, inputs, present=None, keep=None, trace=False):  # type: ignore[no-untyped-def]
        logits, record = super().forward(inputs, present, keep, True)
        logits = torch.zeros_like(logits)
        logits[:, 1] = 1
        logits[..., : logits.shape[-1] // 2][:, 2] = 1 + inputs["rgb"][:, 0, 0, 0].view(-1, 1, 1)
        return (logits, record) if trace else logits


@pytest.mark.parametrize(("tta", "share"), [("none", 0.5), ("flip", 1.0), ("dihedral", 1.0)])
def test_test_time_augmentation_averagesturned_back_views(tta: str, share: float) -> None:
    frames = MemoryFrames(["rgb"])
    frames.add({"rgb": 2}, {"rgb": 0.5}, 2)
    report = evaluate(OneSided(["rgb"]), frames, tta=tta)
    assert report["pixel_accuracy"] == share
    assert report["settings"]["tta"] == tta


def test_exact_model_stays_exact_under_all_views_of_a_frame_that_is_not_square() -> None:
    frames = MemoryFrames(["rgb"])
    truth = torch.randint(0, 3, SIZE)
    frames.add({"rgb": truth}, {"rgb": 0.5}, truth)
    assert evaluate(Reporter(["rgb"]), frames, tta="dihedral")["pixel_accuracy"] == 1.0


@pytest.mark.parametrize("view", TTA_VIEWS["dihedral"])
def test_every_view_is_undone(view: tuple[int, bool]) -> None:
    image = torch.rand(2, 3, *SIZE)
    assert torch.equal(turned_back(turned(image, view), view), image)


def test_the_views_of_dihedral_are_eight_different_ones() -> None:
    image = torch.rand(1, 1, 8, 8)
    assert len({tuple(turned(image, view).flatten().tolist()) for view in TTA_VIEWS["dihedral"]}) == 8


def test_segment_leaves_out_blind_frames(model: Reporter) -> None:
    inputs = {"rgb": torch.ones(2, 2, *SIZE), "depth": torch.zeros(2, 2, *SIZE)}
    with evaluation_mode(model):
        result = segment(model, inputs, torch.tensor([[False, False], [True, False]]))
    assert result.blind.tolist() == [True, False]
    assert result.prediction[0].unique().tolist() == [255]
    assert result.prediction[1].unique().tolist() == [1]
    assert result.present.tolist() == [[False, False], [True, False]]
    assert result.score[0].isnan().all()
    assert result.score[1].isnan().tolist() == [[False, True]] * 4
    assert result.kept[0].any().item() is False
    assert result.weight.tolist() == [[[0, 0]] * 4, [[1, 0]] * 4]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"missing": ["radar"]}, ValueError, r"missing: found modality 'radar', wanted some of \['rgb', 'depth'\]"),
        ({"missing": ["rgb", "depth"]}, ValueError, "missing: withholds all modalities"),
        ({"subsets": [["radar"]]}, ValueError, "subsets: found modality 'radar'"),
        ({"subsets": [["rgb"]], "missing": ["rgb"]}, ValueError, r"subsets: found modality 'rgb', wanted some of \['d"),
        ({"subsets": [[]]}, ValueError, "subsets: found an empty one"),
        ({"subsets": "rgb"}, ValueError, "subsets: found 'rgb', wanted 'all' or lists"),
        ({"tta": "zoom"}, ValueError, "tta: found 'zoom', wanted one of"),
    ],
)
def test_wrong_arguments(model: Reporter, frames: MemoryFrames, arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        evaluate(model, frames, **arguments)


def test_model_that_does_not_fit(frames: MemoryFrames) -> None:
    with pytest.raises(DataError, match="predicts 5 classes, data set 'drawn' has 3"):
        evaluate(Reporter(["rgb", "depth"], num_classes=5), frames)
    model = Reporter(["rgb", "depth"])
    model.modalities["depth"] = 1
    with pytest.raises(DataError, match=r"'depth' has 2 channel\(s\) in data set 'drawn', the model takes 1"):
        evaluate(model, frames)


def test_report_as_text_and_json(model: Reporter, frames: MemoryFrames, tmp_path: Path) -> None:
    report = evaluate(model, frames, subsets="all")
    text = format_report(report)
    for line in (
        "drawn, split test: 5 frame(s)",
        "sensors rgb, depth; keep 1, 1, 1, 1",
        "over all pixels           0.6667  0.4048  0.6667",
        "mean over frames          0.7000  0.7000  0.7000",
        "sky    0.7143  77.78 %",
        "rgb                                 80.0 %   75.0 %   75.0 %   75.0 %   75.0 %",
        "night           3          0.6000  0.3000  0.6000",
        "mean over subsets",
    ):
        assert line in text
    path = tmp_path / "new" / "report.json"
    write_json(report, path)
    assert json.loads(path.read_text()) == report
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]


def test_report_of_a_model_that_scores_once(model: Reporter, frames: MemoryFrames) -> None:
    model.keep = (1,)
    report = evaluate(model, frames)
    assert report["kept"] == {"rgb": [0.75], "depth": [0.4]}
    assert (
        "kept, of the frames where present  present  stage 1\nrgb                                 80.0 %   75.0 %\n"
        in (format_report(report))
    )


def test_report_says_what_is_missing_from_the_scores(model: Reporter) -> None:
    frames = MemoryFrames(["rgb", "depth"])
    frames.add({"rgb": 1}, {"rgb": 0.5}, 1)
    frames.add({"rgb": 1}, {"rgb": 0.5}, 255)
    text = format_report(evaluate(model, frames, missing=["depth"], tta="flip"))
    assert "1 frame(s) without a labelled pixel" in text
    assert "mIoU with 0 for the 2 classes that do not occur: 0.3333" in text
    assert "withheld depth; test-time augmentation flip" in text


def test_table_aligns_columns() -> None:
    assert table(["a", "bc"], [["long", "1"], ["b", "10000"]]) == "a        bc\nlong      1\nb     10000"
