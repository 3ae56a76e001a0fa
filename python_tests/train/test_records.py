"""Records of frames: rows for each frame and modality, and what a dropped one lost to."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from evaluation_standins import MemoryFrames, Reporter

from egformer_fast.models import EGFormer
from egformer_fast.train.evaluate import evaluate_frames
from egformer_fast.train.records import COLUMNS, Records
from egformer_fast.train.runner import Runner


@pytest.fixture
def frames() -> MemoryFrames:
    frames = MemoryFrames(["rgb", "depth", "lidar"])
    scores = {"rgb": 0.25, "depth": 0.5, "lidar": 0.75}
    frames.add(dict.fromkeys(scores, 1), scores, 1, condition="day")
    frames.add({"rgb": 1, "lidar": 1}, scores, 1, degraded=["rgb"], case="blur")
    frames.add({}, {}, 1)
    return frames


def records_of(model: torch.nn.Module, frames: MemoryFrames, batch_size: int = 2) -> Records:
    return evaluate_frames(Runner(model, frames, batch_size))[1]


def test_rows(frames: MemoryFrames, tmp_path: Path) -> None:
    """Keeps two, then one: with weights 0.4 and 0.6 the evidence of stage 2 is score times weight."""
    model = Reporter(["rgb", "depth", "lidar"])
    model.keep = (2, 1, 1, 1)
    records_of(model, frames).write_csv(tmp_path / "new" / "frames.csv")
    with (tmp_path / "new" / "frames.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    assert [(row["name"], row["modality"]) for row in rows[:3]] == [("frame_0", n) for n in ("rgb", "depth", "lidar")]
    rgb, depth, lidar = rows[:3]
    assert (rgb["condition"], rgb["case"], rgb["present"], rgb["degraded"]) == ("day", "", "1", "0")
    assert (rgb["score"], rgb["weight"], rgb["kept"], rgb["dropped_at_stage"]) == ("0.25", "0", "0", "1")
    assert (rgb["evidence"], rgb["worst_kept"], rgb["worst_kept_evidence"]) == ("0.25", "depth", "0.5")
    assert (rgb["best_kept"], rgb["best_kept_evidence"]) == ("lidar", "0.75")
    assert (depth["weight"], depth["dropped_at_stage"], depth["evidence"]) == ("0.4", "2", "0.2")
    assert (depth["worst_kept"], depth["worst_kept_evidence"]) == ("lidar", "0.45")
    assert (lidar["kept"], lidar["dropped_at_stage"], lidar["worst_kept"]) == ("1", "", "")
    blurred, absent = rows[3:5]
    assert (blurred["case"], blurred["degraded"], blurred["dropped_at_stage"]) == ("blur", "1", "2")
    assert [absent[key] for key in COLUMNS[4:]] == ["0", "0", *[""] * (len(COLUMNS) - 6)]
    assert [row["score"] for row in rows[6:]] == [""] * 3


def test_batches_do_not_change_records(frames: MemoryFrames) -> None:
    """A batch of the blind frame alone has tables of no stage."""
    model = Reporter(["rgb", "depth", "lidar"])
    whole, single = records_of(model, frames, 3), records_of(model, frames, 1)
    assert list(whole.rows()) == list(single.rows())
    assert single.score[2].isnan().all()
    assert not single.weight[2].any()


def test_only_blind_frames(frames: MemoryFrames) -> None:
    frames.samples = frames.samples[2:]
    records = records_of(Reporter(["rgb", "depth", "lidar"]), frames)
    assert (records.sensors, records.score.shape) == ((), (1, 0, 0))
    assert [row["present"] for row in records.rows()] == [0, 0, 0]


def test_a_score_that_overflowed_is_no_score(frames: MemoryFrames) -> None:
    records = records_of(Reporter(["rgb", "depth", "lidar"]), frames)
    score, weight = records.of(0, torch.tensor([True, True, True]))
    assert (score.tolist(), weight.shape) == ([0.25, 0.25], (2, 4))
    records.score[0, 0, 0] = torch.nan
    assert len(records.of(0, torch.tensor([True, True, True]))[0]) == 1


def test_one_scored_stage_and_early_fusion(frames: MemoryFrames) -> None:
    modalities = dict.fromkeys(["rgb", "depth", "lidar"], 2)
    torch.manual_seed(0)
    merged = records_of(EGFormer("mit_b0", 3, modalities, keep=(1, 0, 0, 0), head_dim=16), frames)
    assert merged.score.shape == (3, 1, 3)
    for row in list(merged.rows())[:3]:
        assert row["kept"] or (row["worst_kept"] == row["best_kept"] and row["evidence"] == row["score"])
        assert row["kept"] or float(row["worst_kept_evidence"]) >= float(row["evidence"])
    stacked = records_of(EGFormer("mit_b0", 3, modalities, head_dim=16, early_fusion=True), frames)
    assert not stacked.by_modality
    assert {row["score"] for row in stacked.rows()} == {""}
