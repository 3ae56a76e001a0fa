"""The tables and the picture of the frontier, of results that are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.frontier import plot
from benchmarks.frontier import runs as frontier_runs
from benchmarks.frontier.results import best_modality, results_of, shown_rows, value
from benchmarks.frontier.runs import SINGLE, Run
from benchmarks.tables import frontier as tables


def fake(run: Run, **parts: float) -> None:
    """A result file: scores by part_name with __ for +, the same for each kind of score."""
    rows = []
    for key, figure in parts.items():
        part, _, name = key.partition("_")
        scores = dict.fromkeys(("miou", "frame_miou", "frame_pixel_accuracy", "frame_fwiou", "dice_lesion"), figure)
        rows.append({"part": part, "name": name.replace("__", "+"), "frames": 2, **scores})
    result = {
        "date": "2026-12-01", "machine": {"processor": "CPU", "torch": "2.13"}, "name": run.name, "seed": run.seed,
        "minutes": 7.0, "epoch": 30.0, "val": parts["all"], "rows": rows,
    }  # fmt: skip
    run.result.parent.mkdir(parents=True, exist_ok=True)
    run.result.write_text(json.dumps(result))


def fake_times(folder: Path, **milliseconds: float) -> None:
    """Latency of drawn scenes."""
    timing = {
        name: {"median_s": one / 1e3, "ratio": one / 100, "ratio_quartiles": [0, 9]}
        for name, one in milliseconds.items()
    }
    models = {name: {"params_m": 4.0, "gmac": 5.0, "threads": {"1": one, "2": one}} for name, one in timing.items()}
    where = {"command": "latency", "date": "2026-12-01", "machine": {"processor": "CPU", "torch": "2.13"}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latency_drawn.json").write_text(json.dumps({**where, "models": models}))


@pytest.fixture
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of drawn scenes: the default of two seeds, early fusion of two, two of the single modalities."""
    monkeypatch.setattr(frontier_runs, "RESULTS", tmp_path)
    for seed, up in enumerate((0.0, 0.02)):
        whole = {"all": 0.40 + up, "subset_rgb": 0.10, "subset_lidar": 0.30 + up, "subset_rgb__lidar": 0.4 + up}
        fake(Run("drawn", "steps", "default", seed), **whole, dead_rgb=0.35, dead_lidar=0.2 + up, failing=0.3)
        whole = {"all": 0.415, "subset_rgb": 0.31, "subset_lidar": 0.30, "subset_rgb__lidar": 0.41}
        fake(Run("drawn", "steps", "early_fusion", seed), **whole, dead_rgb=0.1, dead_lidar=0.35, failing=0.25)
    for name, other, figure in (("rgb", "lidar", 0.25), ("lidar", "rgb", 0.33)):
        whole = {"all": figure, f"subset_{name}": figure, f"subset_{other}": 0.0, "subset_rgb__lidar": figure}
        dead = {f"dead_{name}": 0.01, f"dead_{other}": figure}
        fake(Run("drawn", "steps", SINGLE + name, 0), **whole, **dead, failing=0.2)
    fake_times(tmp_path / "frontier", default=110, early_fusion=100, single_rgb=95, late_fusion=380)
    return tmp_path


def test_figures_of_a_result(faked: Path) -> None:
    results = results_of("drawn", "steps")
    first = results["default"][0]
    assert value(first, "all", "miou") == 0.40
    assert value(first, "subsets", "miou") == pytest.approx((0.1 + 0.3 + 0.4) / 3)
    assert (best_modality(first, "miou"), value(first, "dead", "miou")) == ("lidar", 0.2)
    assert (best_modality(results["early_fusion"][0], "miou"), value(results["early_fusion"][0], "dead", "miou")) == (
        "rgb", 0.1
    )  # fmt: skip
    (best,) = results["best_single"]
    assert best["name"] == "single_lidar"


def test_the_default_against_early_fusion(faked: Path) -> None:
    text = tables.of_task("drawn")
    lines = text.splitlines()
    default = "0.410 (0.400-0.420) | 0.273 (0.267-0.280) | 0.210 (0.200-0.220) | 0.300 (0.300-0.300)"
    assert f"| **default** | 2 | 7 | 30 | {default} |" in lines
    assert "| best single modality: lidar | 1 | 7 | 30 | 0.330 | 0.220 | 0.010 | 0.200 |" in lines
    assert "| all modalities | -0.005 | no | +0.005, missed by 0.010 |" in lines
    assert "| mean of subsets | -0.067 | yes | +0.020, missed by 0.087 |" in lines
    assert "| best modality dead | +0.110 | yes | +0.020, met |" in lines
    assert "| time | 1.10x |  | 1.12x, met |" in lines
    assert "Faster than the default and better: early fusion (all modalities, mean of subsets)." in lines
    best = "default lidar, early fusion rgb, best single lidar"
    assert f"The best modality, which scores highest alone: {best}." in lines
    missing = "default, early fusion, separate, separate keeping all, late fusion, best single modality"
    assert f"Not all measured yet: Drawn scenes: {missing}." in lines
    assert "| mIoU | **default** | early fusion | best single modality |" in lines
    assert "| given: rgb, lidar | 0.410 | 0.410 | 0.330 |" in lines
    assert "| lidar dead | 0.210 | 0.350 | 0.010 |" in lines


def test_one_seed_has_no_spread() -> None:
    assert tables.beyond_spread([0.5], [0.1, 0.2]) == "one seed"
    assert [tables.beyond_spread([0.3, 0.5], other) for other in ([0.1, 0.2], [0.6, 0.7], [0.4, 0.6])] == [
        "yes",
        "yes",
        "no",
    ]


def test_readme_table_has_a_row_for_each_model_that_was_measured(faked: Path) -> None:
    lines = tables.frontier().splitlines()
    scores = "all modalities, mean of subsets, best modality dead, failing frames"
    assert lines[0] == f"| model | 512x512, 1 thread | GMAC | Drawn scenes: {scores} |"
    assert lines[2:5] == [
        "| **default** | 110 ms, 1.10x | 5.0 | 0.410 / 0.273 / 0.210 / 0.300 |",
        "| early fusion | 100 ms, 1.00x | 5.0 | 0.415 / 0.340 / 0.100 / 0.250 |",
        "| best single modality | 95 ms, 0.95x | 5.0 | 0.330 / 0.220 / 0.010 / 0.200 |",
    ]
    (faked / "frontier" / "drawn").rename(faked / "gone")
    assert tables.frontier() == tables.of_task("drawn") == "No run has a result file yet."
    assert "| early fusion | 4.00 | 5.0 | 100 ms, 1.00x (0.00-9.00) |" in tables.frontier_latency()


def test_what_nothing_beats_in_both_is_the_front(faked: Path) -> None:
    points = plot.points_of("drawn", "all")
    assert {point.name: point.time for point in points} == {"default": 110, "early_fusion": 100, "best_single": 95}
    assert [point.name for point in plot.front(points)] == ["best_single", "early_fusion"]
    assert plot.front([]) == []


def test_the_picture_has_a_dot_where_a_model_stands(faked: Path) -> None:
    path = plot.draw(faked / "frontier.png")
    with Image.open(path) as picture:
        assert picture.size == (3 * plot.PANEL[0], plot.PANEL[1] + plot.LEGEND)
        colors = {color for _, color in picture.convert("RGB").crop((0, 0, *plot.PANEL)).getcolors(1 << 16)}
    names = list(shown_rows("drawn"))
    drawn = {name for name, color in zip(names, plot.COLORS, strict=False) if color in colors}
    assert drawn == {"default", "early_fusion", "best_single"}
    assert plot.draw(path).read_bytes() == path.read_bytes()
    (faked / "frontier" / "latency_drawn.json").unlink()
    with pytest.raises(FileNotFoundError, match="no task has results and times"):
        plot.draw(path)


def test_axes_have_a_few_round_numbers() -> None:
    axis = plot._Axis([0.21, 0.38], 300.0, 0.0)
    assert [round(tick, 6) for tick in axis.ticks()] == [0.2, 0.25, 0.3, 0.35, 0.4]
    assert axis(0.21) > axis(0.38) > 0
