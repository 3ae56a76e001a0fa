"""NYU Depth V2, MFNet and PST900 through their shipped descriptions."""

from __future__ import annotations

from pathlib import Path

import miniature_rgbx as miniature
import numpy as np
import pytest
from miniature_rgbx import MFNET
from toy_files import image, save

from egformer_fast.data import FolderDataset
from egformer_fast.data.check import check_dataset
from egformer_fast.errors import DataError


@pytest.mark.parametrize("with_paths", [False, True])
def test_nyuv2(tmp_path: Path, with_paths: bool) -> None:
    content = miniature.write_nyuv2(tmp_path, with_paths)
    test = FolderDataset("nyuv2", tmp_path, "test")
    assert (test.names, test.modalities, len(test.classes)) == (["0007", "0008"], {"rgb": 3, "depth": 1}, 40)
    sample = test[0]
    np.testing.assert_allclose(sample["inputs"]["depth"], content["Depth", "0007"][None] / 255, rtol=1e-6)
    np.testing.assert_allclose(test.frame(0).maps["rgb"][:, 0, 0] * 255, [200, 100, 50], atol=3)
    stored = content["Label", "0007"].astype(int)
    np.testing.assert_array_equal(sample["label"], np.where(stored == 0, 255, stored - 1))
    everything, val, train = (FolderDataset("nyuv2", tmp_path, split).names for split in ("train_all", "val", "train"))
    assert len(val) == 1
    assert sorted(val + train) == everything == [f"{number:04}" for number in range(7)]


def test_nyuv2_hha(tmp_path: Path) -> None:
    miniature.write_nyuv2(tmp_path, False)
    frame = FolderDataset("nyuv2_hha", tmp_path, "test").frame(0)
    np.testing.assert_allclose(frame.maps["depth"][:, 0, 0] * 255, [30, 60, 90], atol=3)


def test_nyuv2_depth_of_16_bits(tmp_path: Path) -> None:
    """Another copy's depth in millimetres: three lines."""
    miniature.write_nyuv2(tmp_path, False)
    save(tmp_path / "Depth/0007.png", np.full((6, 8), 2500, np.uint16))
    (tmp_path / "mine.yaml").write_text("extends: nyuv2\nmodalities: {depth: {scale: 1000}}\n")
    found = FolderDataset(tmp_path / "mine.yaml", tmp_path, "test")[0]["inputs"]["depth"]
    assert found.unique().tolist() == [2.5]


def test_mfnet(tmp_path: Path) -> None:
    """Thermal lies where other files have transparency."""
    content = miniature.write_mfnet(tmp_path)
    train = FolderDataset("mfnet", tmp_path)
    assert (train.modalities, len(train.classes)) == ({"rgb": 3, "thermal": 1}, 9)
    stored = content["images", "00002N"].transpose(2, 0, 1) / 255
    frame = train.frame(1)
    np.testing.assert_allclose(frame.maps["rgb"], stored[:3], rtol=1e-6)
    np.testing.assert_allclose(frame.maps["thermal"], stored[3:], rtol=1e-6)
    np.testing.assert_array_equal(frame.label, content["labels", "00002N"])
    assert [train[i]["case"] for i in range(2)] == ["day", "night"]
    assert {split: FolderDataset("mfnet", tmp_path, split).names for split in MFNET} == MFNET
    assert check_dataset(train, progress=False).problems == ["split 'train' has 2 frames here, the published one 784"]


def test_two_sensors_of_one_file_are_cached_apart(tmp_path: Path) -> None:
    miniature.write_mfnet(tmp_path)
    plain, cached = (FolderDataset("mfnet", tmp_path, cache=cache) for cache in (False, True))
    for _ in range(2):
        for name, found in cached.frame(0).maps.items():
            np.testing.assert_array_equal(found, plain.frame(0).maps[name])


def test_mfnet_without_the_fourth_channel(tmp_path: Path) -> None:
    miniature.write_mfnet(tmp_path)
    save(tmp_path / "images/00001D.png", image(6, 8, 3))
    with pytest.raises(DataError, match=r"00001D\.png: wanted channels \[3\] \(from 0\), found 3 channel"):
        FolderDataset("mfnet", tmp_path)[0]


def test_mfnet_in_folders(tmp_path: Path) -> None:
    content = miniature.write_mfnet(tmp_path, folders=True)
    frame = FolderDataset("mfnet_folders", tmp_path, "val").frame(0)
    np.testing.assert_allclose(frame.maps["thermal"] * 255, np.full((3, 6, 8), 80), atol=2)
    np.testing.assert_array_equal(frame.label, content["labels", "00003N"])


def test_pst900(tmp_path: Path) -> None:
    content = miniature.write_pst900(tmp_path)
    test = FolderDataset("pst900", tmp_path, "test")
    assert (len(test), test.modalities, len(test.classes)) == (2, {"rgb": 3, "thermal": 1}, 5)
    name = test.names[1]
    frame = test.frame(1)
    np.testing.assert_allclose(frame.maps["rgb"], content["rgb", name].transpose(2, 0, 1) / 255, rtol=1e-6)
    np.testing.assert_allclose(frame.maps["thermal"], content["thermal", name][None] / 255, rtol=1e-6)
    np.testing.assert_array_equal(frame.label, content["labels", name])
    parts = [FolderDataset("pst900", tmp_path, split).names for split in ("train_all", "val", "train")]
    assert [len(names) for names in parts] == [7, 1, 6]


def test_pst900_with_all_sensors(tmp_path: Path) -> None:
    content = miniature.write_pst900(tmp_path)
    test = FolderDataset("pst900_all", tmp_path, "test")
    maps, name = test.frame(0).maps, test.names[0]
    assert list(maps) == ["rgb", "thermal", "thermal_raw", "depth"]
    np.testing.assert_allclose(maps["thermal_raw"], content["thermal_raw", name][None] / 65535, rtol=1e-6)
    np.testing.assert_allclose(maps["depth"], content["depth", name][None] / 2560, rtol=1e-6)


def test_a_picture_of_another_size_is_named(tmp_path: Path) -> None:
    miniature.write_pst900(tmp_path)
    test = FolderDataset("pst900", tmp_path, "test")
    save(test.files(0)["thermal"], image(3, 8))
    with pytest.raises(DataError, match=rf"thermal/{test.names[0]}\.png: 3x8 pixels .*labels/{test.names[0]}"):
        test[0]
