"""Late fusion, and what a model of the frontier is scored on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from benchmarks.frontier.late_fusion import LateFusion
from benchmarks.frontier.runs import scenes
from benchmarks.frontier.scoring import Dead, score
from egformer_fast.data import FolderDataset
from egformer_fast.models import EGFormer, create_model
from egformer_fast.train.evaluate import evaluate

MODALITIES = ("rgb", "lidar")


def small(names: tuple[str, ...], seed: int) -> EGFormer:
    torch.manual_seed(seed)
    return create_model("egformer_b0", 25, names, head_dim=32).eval()


@pytest.fixture
def test_frames(drawn: Path) -> FolderDataset:
    return FolderDataset(scenes(drawn) / "dataset.yaml", split="test", modalities=MODALITIES)


def test_late_fusion_is_the_mean_of_the_logits_of_the_present() -> None:
    members = {name: small((name,), seed) for seed, name in enumerate(MODALITIES)}
    frames = {name: torch.randn(3, 3, 64, 64) for name in MODALITIES}
    rgb, lidar = (members[name]({name: frames[name]}) for name in MODALITIES)
    model = LateFusion(members).eval()
    assert (model.modalities, model.num_classes) == ({"rgb": 3, "lidar": 3}, 25)
    torch.testing.assert_close(model(frames), (rgb + lidar) / 2)
    present = torch.tensor([[True, True], [False, True], [True, False]])
    logits, trace = model(frames, present, trace=True)
    torch.testing.assert_close(logits, torch.stack([(rgb + lidar)[0] / 2, lidar[1], rgb[2]]))
    assert torch.equal(trace.kept_mask(0), present)
    assert trace.weight_table(0).tolist() == [[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]]
    assert bool(trace.score_table(0).isnan().all())
    torch.testing.assert_close(model({"lidar": frames["lidar"]}), lidar)
    # A frame with a NaN is as good as missing.
    broken = {**frames, "rgb": frames["rgb"].clone()}
    broken["rgb"][1, 0, 0, 0] = torch.nan
    torch.testing.assert_close(model(broken), torch.stack([(rgb + lidar)[0] / 2, lidar[1], (rgb + lidar)[2] / 2]))


def test_late_fusion_wants_models_of_one_modality() -> None:
    with pytest.raises(ValueError, match=r"the model of 'rgb' takes \['rgb', 'lidar'\], wanted it alone"):
        LateFusion({"rgb": small(MODALITIES, 0)})
    with pytest.raises(ValueError, match="wanted some of"):
        LateFusion({"rgb": small(("rgb",), 0)})({"depth": torch.zeros(1, 3, 64, 64)})


def test_scores_of_every_part(test_frames: FolderDataset) -> None:
    model = small(MODALITIES, 0)
    whole, rows = score(model, test_frames, MODALITIES, lesion="Sky")
    assert [(row["part"], row["name"]) for row in rows[:6]] == [
        ("all", ""), ("subset", "rgb+lidar"), ("subset", "rgb"), ("subset", "lidar"), ("dead", "rgb"), ("dead", "lidar")
    ]  # fmt: skip
    figures = {(row["part"], row["name"]): row for row in rows}
    assert figures["all", ""]["miou"] == figures["subset", "rgb+lidar"]["miou"] == whole["miou"]
    assert figures["subset", "rgb"]["miou"] == evaluate(model, test_frames, missing=["lidar"])["miou"]
    assert figures["all", ""]["frame_fwiou"] == whole["frame_mean"]["fwiou"]
    iou = whole["iou"]["Sky"]
    assert figures["all", ""]["dice_Sky"] == pytest.approx(2 * iou / (1 + iou))
    # The zeros are those of the files, which normalisation moves, and the model is told that the sensor is there.
    zeros = dataclasses.replace(test_frames.sensors["rgb"], scale=1e30)
    dark = FolderDataset(test_frames.description, test_frames.root, "test", MODALITIES)
    dark.sensors = {**dark.sensors, "rgb": zeros}
    assert figures["dead", "rgb"]["miou"] == evaluate(model, dark)["miou"]
    assert figures["dead", "rgb"]["miou"] != figures["subset", "lidar"]["miou"]
    failing = [row for row in rows if row["part"] == "case"]
    assert figures["failing", ""]["frames"] == sum(row["frames"] for row in failing) > 0
    chosen = [index for index in range(len(test_frames)) if test_frames.group(index)[1]]
    assert figures["failing", ""]["miou"] == evaluate(model, test_frames, indices=chosen)["miou"]


def test_a_model_that_lacks_a_modality_predicts_nothing_without_its_own(test_frames: FolderDataset) -> None:
    alone = FolderDataset(test_frames.description, test_frames.root, "test", ["lidar"])
    dead = FolderDataset(alone.description, alone.root, "test", ["lidar"], Dead("lidar"))
    whole, rows = score(small(("lidar",), 0), alone, MODALITIES)
    miou = {(row["part"], row["name"]): row["miou"] for row in rows}
    assert whole["miou"] > 0
    assert miou["subset", "rgb"] == 0
    assert miou["subset", "lidar"] == miou["subset", "rgb+lidar"] == miou["dead", "rgb"] == whole["miou"]
    assert miou["dead", "lidar"] == evaluate(small(("lidar",), 0), dead)["miou"]
