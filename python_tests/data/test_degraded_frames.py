"""DegradedFrames: which maps change, what samples tell, and that a draw depends on the frame alone."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_files import describe, image, save

from egformer_fast.data import FolderDataset, Resize
from egformer_fast.data.degradations import applicable
from egformer_fast.data.degraded_frames import DegradedFrames, half_at_random, one_for_all

SIZE = (32, 48)


@pytest.fixture
def frames(tmp_path: Path) -> FolderDataset:
    """Four frames of rgb and LiDAR; frame 2 has no LiDAR, the last one's fails."""
    for number in range(4):
        save(tmp_path / f"rgb/{number}.png", image(*SIZE, 3))
        save(tmp_path / f"label/{number}.png", image(*SIZE) % 2)
        if number != 2:
            save(tmp_path / f"lidar/{number}.png", image(*SIZE))
    path = describe(
        tmp_path,
        modalities={
            "rgb": {"path": "rgb/{id}.png", "kind": "rgb"},
            "lidar": {"path": "lidar/{id}.png", "kind": "lidar", "optional": True},
        },
        label={"path": "label/{id}.png"},
        cases={"jittered": "3"},
        failing={"jittered": "lidar"},
    )
    return FolderDataset(path, transform=Resize((16, 24)))


def test_one_modality_changes_and_the_sample_tells_it(frames: FolderDataset) -> None:
    worse = DegradedFrames(frames, one_for_all(frames, "rgb", "overexposure"))
    for number in range(4):
        before, after = frames[number], worse[number]
        assert not torch.equal(before["inputs"]["rgb"], after["inputs"]["rgb"])
        assert torch.equal(before["inputs"]["lidar"], after["inputs"]["lidar"])
        assert torch.equal(before["label"], after["label"])
        assert before["degraded"].tolist() == [False, number == 3]
        assert after["degraded"].tolist() == [True, number == 3]
        assert (after["name"], after["case"]) == (before["name"], before["case"])
    # Scaled values, 0..1, are what is degraded; the sample has them normalised.
    mean, std = (torch.tensor(getattr(frames.sensors["rgb"], name)).view(3, 1, 1) for name in ("mean", "std"))
    shown = worse[0]["inputs"]["rgb"] * std + mean
    assert float(shown.max()) == pytest.approx(1)
    assert float((shown > 0.999).float().mean()) > 0.2


def test_absent_modalities_and_frames_without_a_plan_stay(frames: FolderDataset) -> None:
    worse = DegradedFrames(frames, [None, ("lidar", "noise"), ("lidar", "noise"), None])
    changed = [
        [name for name in ("rgb", "lidar") if not torch.equal(frames[n]["inputs"][name], worse[n]["inputs"][name])]
        for n in range(4)
    ]
    assert changed == [[], ["lidar"], [], []]
    assert worse[2]["degraded"].tolist() == [False, False]


def test_a_map_that_its_degradation_leaves_as_it_was_is_not_called_degraded(tmp_path: Path) -> None:
    """An empty scan has no returns to lose."""
    save(tmp_path / "a/train/1.png", np.zeros(SIZE, np.uint8))
    save(tmp_path / "label/train/1.png", image(*SIZE) % 2)
    path = describe(tmp_path, modalities={"a": {"path": "a/{split}/{id}.png", "kind": "lidar"}})
    frames = FolderDataset(path)
    worse = DegradedFrames(frames, one_for_all(frames, "a", "thinned"))
    assert worse[0]["degraded"].tolist() == [False]


def test_swapped_and_frozen_take_another_frame(frames: FolderDataset) -> None:
    for way in ("swapped", "frozen"):
        worse = DegradedFrames(frames, one_for_all(frames, "lidar", way))
        for number in (0, 1, 3):
            found = worse[number]["inputs"]["lidar"]
            others = [other for other in (0, 1, 3) if other != number]
            assert any(torch.equal(found, frames[other]["inputs"]["lidar"]) for other in others)


def test_without_another_frame_nothing_is_swapped(frames: FolderDataset) -> None:
    frames.names = frames.names[:1]
    worse = DegradedFrames(frames, one_for_all(frames, "lidar", "swapped"))
    assert torch.equal(worse[0]["inputs"]["lidar"], frames[0]["inputs"]["lidar"])
    assert worse[0]["degraded"].tolist() == [False, False]


def test_draws_follow_from_seed_and_frame(frames: FolderDataset) -> None:
    plan = one_for_all(frames, "rgb", "noise")
    worse, again, other = (DegradedFrames(frames, plan, seed) for seed in (0, 0, 1))
    last = worse[3]["inputs"]["rgb"]
    assert torch.equal(again[3]["inputs"]["rgb"], last)
    assert torch.equal(pickle.loads(pickle.dumps(again))[3]["inputs"]["rgb"], last)
    assert not torch.equal(other[3]["inputs"]["rgb"], last)


def test_half_at_random() -> None:
    class Many:
        sensors = {"rgb": type("Sensor", (), {"kind": "rgb"}), "lidar": type("Sensor", (), {"kind": "lidar"})}

        def __len__(self) -> int:
            return 2000

    plan = half_at_random(Many(), ["rgb", "lidar"])
    drawn = [one for one in plan if one is not None]
    assert len(drawn) == pytest.approx(1000, abs=100)
    assert sum(name == "rgb" for name, _ in drawn) == pytest.approx(500, abs=80)
    for name in ("rgb", "lidar"):
        assert {way for found, way in drawn if found == name} == set(applicable(name))
    assert half_at_random(Many(), ["rgb", "lidar"]) == plan
    assert half_at_random(Many(), ["rgb", "lidar"], seed=1) != plan
