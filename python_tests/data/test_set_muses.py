"""MUSES as its authors' tools project it: coding, channel order, void, weathers, day and night, hidden labels."""

from __future__ import annotations

from pathlib import Path

import miniature_muses as miniature
import numpy as np
import pytest
from miniature_muses import FRAMES, path_of

from egformer_fast.data import FolderDataset, load_description
from egformer_fast.data.check import check_dataset
from egformer_fast.data.label_space import load_space
from egformer_fast.errors import DataError

STD = {"lidar": [100, 255, 10], "radar": [100, 255, 1], "event": [10, 10, 10]}


@pytest.mark.parametrize(("description", "ending"), [("muses", "png"), ("muses_npz", "npz")])
def test_values(tmp_path: Path, description: str, ending: str) -> None:
    content = miniature.write_projected(tmp_path, ending)
    dataset = FolderDataset(description, tmp_path, "train")
    assert dataset.modalities == {"rgb": 3, "event": 3, "lidar": 3, "radar": 3}
    frame, sample, name = dataset.frame(0), dataset[0], FRAMES[0][3]
    np.testing.assert_allclose(frame.maps["rgb"], content["rgb", name].transpose(2, 0, 1) / 255, rtol=1e-6)
    for sensor, std in STD.items():
        wanted = content[sensor, name].transpose(2, 0, 1)
        np.testing.assert_allclose(frame.maps[sensor], wanted, atol=2e-5)
        np.testing.assert_allclose(sample["inputs"][sensor], wanted / np.reshape(std, (3, 1, 1)), atol=2e-5)
    np.testing.assert_array_equal(frame.label, content["label", name])
    assert (frame.label == 255).any()


def test_weather_and_time_of_day(tmp_path: Path) -> None:
    miniature.write_projected(tmp_path, "png")
    dataset = FolderDataset("muses", tmp_path, "train")
    tags = [(sample["name"], sample["condition"], sample["case"]) for sample in (dataset[0], dataset[1])]
    assert tags == [
        ("clear/day/REC0006_frame_042692", "clear", "day"),
        ("rain/night/REC0007_frame_000001", "rain", "night"),
    ]


def test_labels_of_the_test_split_are_hidden(tmp_path: Path) -> None:
    miniature.write_projected(tmp_path, "png")
    test = FolderDataset("muses", tmp_path, "test")
    assert test.names == ["snow/night/REC0009_frame_000003"]
    assert test[0]["label"].unique().tolist() == [255]
    assert check_dataset(test, progress=False).problems == ["split 'test' has 1 frames here, the published one 750"]


def test_classes_are_those_of_the_label_space() -> None:
    description, space = load_description("muses"), load_space("cityscapes19")
    assert description.classes == space.classes
    np.testing.assert_array_equal(description.palette, space.palette)


def test_what_was_not_projected_is_named(tmp_path: Path) -> None:
    miniature.write_frames(tmp_path)
    lacking = path_of(tmp_path, "projected_to_rgb/lidar", FRAMES[2], "lidar.png")
    with pytest.raises(DataError, match=rf"{lacking}: no such file"):
        FolderDataset("muses", tmp_path, "val", ["rgb", "lidar"])[0]


def test_npz_of_two_arrays(tmp_path: Path) -> None:
    miniature.write_projected(tmp_path, "npz")
    np.savez(path_of(tmp_path, "projected_to_rgb/lidar", FRAMES[2], "lidar.npz"), a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(DataError, match=r"lidar\.npz: wanted one array in the file, found \['a', 'b'\]"):
        FolderDataset("muses_npz", tmp_path, "val")[0]
