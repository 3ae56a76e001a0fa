"""Pictures checked by their pixels: label colours, overlays, bars of scores, and what is drawn for absent things."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_standins import PALETTE, SIZE, MemoryFrames, Reporter
from PIL import Image

from egformer_fast.train.drawing import (
    DROPPED,
    HATCH,
    KEPT,
    PAPER,
    Row,
    clipped,
    colored,
    compose,
    font,
    hatch,
    legend,
    overlay,
    palette_png,
    score_panel,
)
from egformer_fast.train.pictures import FrameView, frame_figure, frame_views, pictures_grid, save_label

LABEL = np.array([[0, 0, 1], [2, 255, 1]])


def count(picture: Image.Image, color: tuple[int, ...]) -> int:
    return int((np.asarray(picture) == np.array(color)).all(-1).sum())


def test_colored_label_hatches_what_is_ignored() -> None:
    image = colored(LABEL, PALETTE)
    assert image.dtype == np.uint8
    for place in ((0, 0), (0, 2), (1, 0)):
        assert tuple(image[place]) == tuple(PALETTE[LABEL[place]])
    assert tuple(image[1, 1]) in HATCH
    assert tuple(np.unique(hatch(20, 20)[..., 0])) == (HATCH[1][0], HATCH[0][0])


def test_overlay_tints_inside_draws_borders_and_leaves_ignored_pixels() -> None:
    image = np.full((5, 8, 3), 100, np.uint8)
    label = np.zeros((5, 8), np.int64)
    label[:, 4:] = 1
    label[0, 0] = 255
    out = overlay(image, label, PALETTE, opacity=0.25)
    assert tuple(out[0, 0]) == (100, 100, 100)
    assert out[3, 0].tolist() == [107, 91, 107]  # 0.25 (128, 64, 128) + 0.75 (100, 100, 100)
    assert tuple(out[3, 3]) == tuple(PALETTE[0])
    assert tuple(out[3, 4]) == tuple(PALETTE[1])
    assert tuple(out[1, 0]) == tuple(PALETTE[0])  # borders on the ignored pixel


def test_label_png_holds_class_numbers_and_the_palette(tmp_path: Path) -> None:
    save_label(LABEL, PALETTE, tmp_path / "a" / "b.png")
    with Image.open(tmp_path / "a" / "b.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), LABEL)
        shown = np.asarray(image.convert("RGB"))
    assert np.array_equal(shown[0, 2], PALETTE[1])
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.png"]
    with pytest.raises(ValueError, match="256 classes, an 8-bit image holds 255"):
        palette_png(LABEL, np.zeros((256, 3), np.uint8))


def test_label_png_writes_255_for_another_ignore_index(tmp_path: Path) -> None:
    save_label(np.array([[0, 77]]), PALETTE, tmp_path / "label.png", ignore_index=77)
    assert np.asarray(Image.open(tmp_path / "label.png")).tolist() == [[0, 255]]


def panel(score: list, kept: list, present: list) -> Image.Image:
    names = [f"sensor_{number}" for number in range(len(present))]
    return score_panel((300, 150), names, np.array(score), np.array(kept), np.array(present))


def bar_lengths(picture: Image.Image, color: tuple[int, ...]) -> list[int]:
    """Lengths of the longest runs of a colour, line by line of the picture, each bar once."""
    lines = (np.asarray(picture) == np.array(color)).all(-1)
    lengths = {int(line.sum()) for line in lines if line.sum() > 15}
    return sorted(lengths)


def test_bars_are_as_long_as_the_scores_and_blue_where_kept() -> None:
    score = [[0.5, 1.0]] + [[np.nan, np.nan]] * 3
    picture = panel(score, [[False, True]] + [[False, False]] * 3, [True, True])
    (grey,), (blue,) = bar_lengths(picture, DROPPED), bar_lengths(picture, KEPT)
    assert blue == pytest.approx(2 * grey, abs=2)


def test_sensors_that_were_not_scored_have_no_bar() -> None:
    nothing = panel([[np.nan]] * 4, [[False]] * 4, [False])
    assert bar_lengths(nothing, KEPT) == bar_lengths(nothing, DROPPED) == []
    all_stages = panel([[0.5]] * 4, [[True], [True], [False], [False]], [True])
    assert len(bar_lengths(all_stages, KEPT)) == len(bar_lengths(all_stages, DROPPED)) == 1


def test_a_single_stage_has_the_width_of_all() -> None:
    one, four = (bar_lengths(panel([[1.0]] * stages, [[True]] * stages, [True]), KEPT) for stages in (1, 4))
    # A line of the picture crosses the bars of all stages.
    assert one[-1] == pytest.approx(four[-1], abs=6)
    blind = score_panel((300, 150), [], np.zeros((0, 0)), np.zeros((0, 0), bool), np.zeros(0, bool))
    assert bar_lengths(blind, KEPT) == []


def test_sixteen_sensors_fit_a_small_panel() -> None:
    picture = score_panel(
        (260, 140), [f"sensor_{n}" for n in range(16)], np.full((4, 16), 0.9), np.ones((4, 16), bool), np.ones(16, bool)
    )
    blue = (np.asarray(picture) == np.array(KEPT)).all(-1).sum(1) > 100
    assert (np.diff(blue.astype(int)) == 1).sum() == 16


def test_long_texts_are_cut() -> None:
    cut = clipped("a very long name of a sensor", 12, 80)
    assert cut.endswith("...")
    assert font(12).getlength(cut) <= 80
    assert clipped("short", 12, 80) == "short"


def test_legend_breaks_into_lines() -> None:
    names = [f"class {number}" for number in range(10)]
    one, many = (legend(width, names, [(1, 2, 3)] * 10) for width in (2000, 200))
    assert many.height > 3 * one.height
    assert count(many, (1, 2, 3)) == count(one, (1, 2, 3))
    assert legend(100, [], []).height < 30


def test_compose_stacks_rows_without_cutting_anything() -> None:
    red, blue = Image.new("RGB", (40, 20), (255, 0, 0)), Image.new("RGB", (30, 50), (0, 0, 255))
    page = compose([Row([red, blue], ["one", "two"], "heading"), Row([blue])])
    assert count(page, (255, 0, 0)) == 40 * 20
    assert count(page, (0, 0, 255)) == 2 * 30 * 50
    assert page.getpixel((0, 0)) == PAPER


@pytest.fixture
def frames() -> MemoryFrames:
    frames = MemoryFrames(["rgb", "depth"])
    truth = torch.zeros(SIZE, dtype=torch.int64)
    truth[:, 24:] = 1
    frames.add({"rgb": truth, "depth": 2}, {"rgb": 0.75, "depth": 0.5}, truth, condition="night")
    frames.add({"depth": 2}, {"depth": 0.5}, 255)
    frames.add({}, {}, truth)
    return frames


def test_frame_views(frames: MemoryFrames) -> None:
    model = Reporter(["rgb", "depth"])
    model.keep = (2, 1, 1, 1)
    model.train()
    both, single, blind = frame_views(model, frames, batch_size=2)
    assert model.training
    assert torch.is_grad_enabled()
    assert both.heading(3, 255) == "frame_0   night   pixel accuracy 1.000, mIoU 1.000"
    assert (both.title("rgb"), both.title("depth")) == ("rgb: kept to stage 4", "depth: kept to stage 1")
    assert both.images["rgb"].shape == (*SIZE, 3)
    assert single.heading(3, 255) == "frame_1"
    assert (single.images["rgb"], single.label) == (None, None)
    assert single.title("rgb") == "rgb"
    assert blind.blind
    assert blind.heading(3, 255) == "frame_2   no usable sensor, nothing predicted"
    assert np.unique(blind.prediction).tolist() == [255]


def test_views_follow_the_indices_and_can_be_left_half_way(frames: MemoryFrames) -> None:
    views = frame_views(Reporter(["rgb", "depth"]), frames, [1, 0], batch_size=1)
    assert next(views).name == "frame_1"
    assert torch.is_grad_enabled()
    second = next(views)
    assert second.name == "frame_0"
    assert np.array_equal(second.images["rgb"], frames.raw(0)["inputs"]["rgb"])
    assert second.images["rgb"].any()


def test_grid_shows_inputs_label_and_prediction(frames: MemoryFrames, tmp_path: Path) -> None:
    path = tmp_path / "pictures" / "grid.png"
    pictures_grid(Reporter(["rgb", "depth"]), frames, [0, 1], path)
    with Image.open(path) as grid:
        half = 144 * 96 / 2
        # In frame 0 class 0 fills half of the label and of the prediction, but for the frames of the tiles.
        assert count(grid, tuple(PALETTE[0])) == pytest.approx(2 * half, rel=0.06)
        # Class 2 is all that frame 1 predicts; its label and its rgb are hatched.
        assert count(grid, tuple(PALETTE[2])) == pytest.approx(2 * half, rel=0.06)
        assert count(grid, HATCH[0]) + count(grid, HATCH[1]) > 2 * half
        assert count(grid, KEPT) > 0
    assert [file.name for file in path.parent.iterdir()] == ["grid.png"]


@pytest.mark.parametrize("keep", [(1, 1, 1, 1), (2,)])
def test_figures_of_all_kinds_of_frames(frames: MemoryFrames, tmp_path: Path, keep: tuple[int, ...]) -> None:
    model, sizes = Reporter(["rgb", "depth"]), []
    model.keep = keep
    for view in frame_views(model, frames):
        frame_figure(view, frames, tmp_path / f"{view.name}.png", width=160)
        with Image.open(tmp_path / f"{view.name}.png") as figure:
            sizes.append(figure.size)
            assert count(figure, tuple(PALETTE[2])) > 0 or view.name != "frame_1"
    # label, prediction, overlay, scores; no label; no overlay and scores.
    assert sizes[0][0] > sizes[1][0] > sizes[2][0]


def test_a_dropped_sensor_says_so() -> None:
    view = FrameView(
        name="a", condition="", images={"rgb": np.zeros((32, 32, 3), np.uint8)}, label=None,
        prediction=np.zeros((32, 32), np.int64), sensors=("rgb",), score=np.full((4, 1), 0.5),
        kept=np.zeros((4, 1), bool), present=np.ones(1, bool),
    )  # fmt: skip
    assert view.title("rgb") == "rgb: dropped at stage 1"
    assert replace(view, name="fog/a", condition="fog").heading(1, 255) == "fog/a"
    once = replace(view, score=view.score[:1], kept=view.kept[:1])
    assert (once.title("rgb"), replace(once, kept=~once.kept).title("rgb")) == ("rgb: dropped", "rgb: kept")
