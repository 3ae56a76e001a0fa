"""FolderDataset on small folders: samples, scaling, missing and broken sensors, sizes, cache, pictures."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from toy_files import RNG, describe, image, save, toy

from egformer_fast.data import Compose, FolderDataset, RandomFlip, RandomMissing, RandomScaleCrop, Resize
from egformer_fast.errors import DataError


def test_sample(tmp_path: Path) -> None:
    rgb, grey, floats, mask = image(4, 6, 3), image(4, 6), RNG.normal(size=(4, 6, 2)), image(4, 6) % 2 * 255
    deep = RNG.integers(0, 65536, (4, 6)).astype(np.uint16)
    for name, array in (("rgb.png", rgb), ("grey.png", grey), ("floats.npy", floats), ("deep.png", deep)):
        save(tmp_path / f"train/7/{name}", array)
    save(tmp_path / "train/7/mask.png", mask)
    path = describe(
        tmp_path,
        modalities={
            "rgb": {"path": "{split}/{id}/rgb.png", "kind": "rgb"},
            "grey": {"path": "{split}/{id}/grey.png", "mean": 0.5, "std": 0.25},
            "floats": {"path": "{split}/{id}/floats.npy", "channels": 2, "scale": 4},
            "deep": {"path": "{split}/{id}/deep.png"},
        },
        label={"path": "{split}/{id}/mask.png", "values": {0: 0, 255: 1}},
    )
    dataset = FolderDataset(path)
    assert dataset.modalities == {"rgb": 3, "grey": 1, "floats": 2, "deep": 1}
    assert (dataset.names, dataset.classes, dataset.ignore_index, len(dataset)) == (["7"], ["x", "y"], 255, 1)
    sample = dataset[0]
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 3, 1, 1)
    wanted = {
        "rgb": (rgb.transpose(2, 0, 1) / 255 - mean) / std,
        "grey": (grey[None] / 255 - 0.5) / 0.25,
        "floats": floats.transpose(2, 0, 1) / 4,
        "deep": deep[None] / 65535,
    }
    for name, value in wanted.items():
        assert sample["inputs"][name].dtype == torch.float32
        np.testing.assert_allclose(sample["inputs"][name], value, rtol=1e-5, atol=1e-6)
    assert sample["label"].dtype == torch.int64
    np.testing.assert_array_equal(sample["label"], mask // 255)
    assert sample["present"].tolist() == [True] * 4
    assert sample["degraded"].tolist() == [False] * 4
    assert (sample["name"], sample["condition"]) == ("7", "")
    assert list(dataset.files(0)) == ["rgb", "grey", "floats", "deep", "label"]
    assert dataset.files(0)["deep"] == tmp_path / "train/7/deep.png"


def test_parts_share_the_channels_evenly(tmp_path: Path) -> None:
    """Two dates of a camera as one sensor: a model compares them from its first layer on."""
    before, after = image(4, 6, 3), image(4, 6, 3)
    for name, array in (("before/a", before), ("after/b", after)):
        save(tmp_path / f"train/{name}_7.png", array)
    save(tmp_path / "label/train/7.png", image(4, 6) % 2)
    pair = {"path": "{split}/{part}_{id}.png", "parts": ["before/a", "after/b"], "channels": 6}
    dataset = FolderDataset(describe(tmp_path, modalities={"s2": pair}))
    wanted = np.concatenate([before, after], axis=2).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(dataset[0]["inputs"]["s2"], wanted, rtol=1e-6)
    save(tmp_path / "train/after/b_7.png", image(4, 5, 3))
    with pytest.raises(DataError, match=r"b_7\.png: 4x5 pixels .height x width., but .*a_7\.png has 4x6"):
        dataset[0]
    with pytest.raises(DataError, match="modalities.s2.parts: wanted as many as share 5 channels evenly"):
        FolderDataset(describe(tmp_path, modalities={"s2": pair | {"channels": 5}}))


def test_batches_of_worker_processes_equal_those_without(tmp_path: Path) -> None:
    dataset = FolderDataset(toy(tmp_path, ("1", "2", "3")), cache=True)
    single, double = (next(iter(DataLoader(dataset, 3, num_workers=workers))) for workers in (0, 1))
    assert single["inputs"]["a"].shape == (3, 1, 4, 6)
    assert single["present"].shape == (3, 1)
    assert single["name"] == ["1", "2", "3"]
    assert single["condition"] == ["", "", ""]
    torch.testing.assert_close(single["inputs"], double["inputs"], rtol=0, atol=0)
    assert len(pickle.loads(pickle.dumps(dataset))) == 3


def test_chosen_modalities_keep_their_order(tmp_path: Path) -> None:
    save(tmp_path / "1.png", image(4, 4))
    save(tmp_path / "label/1.png", image(4, 4) % 2)
    modalities = {name: {"path": "{id}.png"} for name in ("a", "b", "c")}
    path = describe(tmp_path, modalities=modalities, label={"path": "label/{id}.png"})
    assert list(FolderDataset(path, modalities=["c", "a"])[0]["inputs"]) == ["c", "a"]
    with pytest.raises(DataError, match="no modality 'bb'; did you mean 'b'"):
        FolderDataset(path, modalities=["bb"])
    for wrong in ([], ["a", "a"]):
        with pytest.raises(DataError, match="one or more distinct names"):
            FolderDataset(path, modalities=wrong)


def test_missing_sensors(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png", image(4, 4))
    for name in ("1", "2"):
        save(tmp_path / f"b/{name}.png", image(4, 4, 3))
    for name in ("1", "2", "3"):
        save(tmp_path / f"label/{name}.png", image(4, 4) % 2)
    modalities = {
        "a": {"path": "a/{id}.png", "mean": 0.5, "std": 0.5, "optional": True},
        "b": {"path": "b/{id}.png", "kind": "rgb", "optional": True},
    }
    path = describe(tmp_path, modalities=modalities, label={"path": "label/{id}.png"})
    dataset = FolderDataset(path, transform=RandomFlip())
    assert [dataset[i]["present"].tolist() for i in range(3)] == [[True, True], [False, True], [False, False]]
    assert dataset[1]["inputs"]["a"].shape == (1, 4, 4)
    assert not dataset[1]["inputs"]["a"].any()
    assert list(dataset.files(1)) == ["b", "label"]
    with pytest.raises(DataError, match="frame '3' of toy: all sensors are absent or not finite"):
        dataset.sample(2, np.random.default_rng(0))


def test_absent_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = toy(tmp_path)
    (tmp_path / "a/train/2.png").unlink()
    dataset = FolderDataset(path)
    dataset[0]
    with pytest.raises(DataError, match=r"a/train/2\.png: no such file"):
        dataset[1]


def test_size_mismatch_names_both_files(tmp_path: Path) -> None:
    path = toy(tmp_path)
    save(tmp_path / "a/train/2.png", image(6, 4))
    with pytest.raises(DataError, match=r"a/train/2\.png: 6x4 pixels .*label/train/2\.png has 4x6.*modality 'a'"):
        FolderDataset(path)[1]


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_resize_to_the_label(tmp_path: Path, mode: str) -> None:
    small = np.array([[0, 255]], np.uint8)
    save(tmp_path / "a/train/1.png", small)
    save(tmp_path / "label/train/1.png", image(2, 4) % 2)
    path = describe(tmp_path, modalities={"a": {"path": "a/{split}/{id}.png", "resize": mode}})
    row = {"nearest": [0, 0, 1, 1], "bilinear": [0, 0.25, 0.75, 1]}[mode]
    np.testing.assert_allclose(FolderDataset(path)[0]["inputs"]["a"], [[row, row]], atol=1e-6)


def test_not_finite_values_stay(tmp_path: Path) -> None:
    values = np.full((4, 4), 3.0, np.float32)
    values[1, 2], values[0, 0] = np.nan, np.inf
    save(tmp_path / "a/train/1.npy", values)
    save(tmp_path / "b/train/1.npy", np.ones((4, 4), np.float32))
    save(tmp_path / "label/train/1.png", image(4, 4) % 2)
    sensors = {name: {"path": f"{name}/{{split}}/{{id}}.npy", "mean": 1.0, "std": 2.0} for name in ("a", "b")}
    dataset = FolderDataset(describe(tmp_path, modalities=sensors), transform=RandomMissing(1.0))
    sample = dataset[0]
    np.testing.assert_array_equal(sample["inputs"]["a"], ((values - 1) / 2)[None])
    assert sample["present"].tolist() == [True, True]
    # The finite sensor is the last live one, so it is the one that stays.
    assert dataset.sample(0, np.random.default_rng(0))["present"].tolist() == [False, True]
    with pytest.raises(DataError, match="absent or not finite"):
        FolderDataset(dataset.description, modalities=["a"]).sample(0, np.random.default_rng(0))


def test_without_label_all_is_ignored(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png", image(4, 6))
    save(tmp_path / "b/2.png", image(4, 6))
    modalities = {name: {"path": f"{name}/{{id}}.png", "optional": True} for name in "ab"}
    dataset = FolderDataset(describe(tmp_path, modalities=modalities, label=None))
    assert dataset.names == ["1", "2"]
    assert dataset[1]["label"].unique().tolist() == [255]
    assert dataset[1]["label"].shape == (4, 6)
    save(tmp_path / "label/2.png", np.ones((4, 6), np.uint8))
    optional = {"path": "label/{id}.png", "optional": True}
    dataset = FolderDataset(describe(tmp_path, modalities=modalities, label=optional))
    assert [dataset[i]["label"].unique().tolist() for i in range(2)] == [[255], [1]]


def test_cache_reads_once_and_is_not_written_to(tmp_path: Path) -> None:
    path = toy(tmp_path)
    transform = Compose([RandomScaleCrop(4), RandomFlip(True, True)])
    cached, plain = (FolderDataset(path, transform=transform, cache=cache) for cache in (True, False))
    first = cached[0]
    for n in range(20):
        cached.sample(0, np.random.default_rng(n))["inputs"]["a"].zero_()
    torch.testing.assert_close(cached[0]["inputs"], plain[0]["inputs"], rtol=0, atol=0)
    for file in plain.files(0).values():
        file.unlink()
    torch.testing.assert_close(cached[0]["inputs"], first["inputs"], rtol=0, atol=0)
    with pytest.raises(DataError, match="no such file"):
        plain[0]


def test_samples_are_those_of_sample_from_files_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = FolderDataset(toy(tmp_path, size=(16, 16)), transform=Compose([RandomScaleCrop(4), RandomFlip()]))
    alone = [dataset.sample(0, np.random.default_rng(n)) for n in range(5)]
    read, read_map = [], dataset.read_map
    monkeypatch.setattr(dataset, "read_map", lambda name, path: read.append(name) or read_map(name, path))
    together = list(dataset.samples(0, (np.random.default_rng(n) for n in range(5))))
    assert sorted(read) == sorted(dataset.modalities)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one["inputs"], other["inputs"], rtol=0, atol=0)
        assert torch.equal(one["label"], other["label"])


def test_sample_depends_on_the_generator_alone(tmp_path: Path) -> None:
    transform = Compose([RandomScaleCrop(4), RandomFlip()])
    dataset = FolderDataset(toy(tmp_path, size=(16, 16)), transform=transform)
    one, two, other = (dataset.sample(0, np.random.default_rng((0, epoch, 0))) for epoch in (1, 1, 2))
    torch.testing.assert_close(one["inputs"], two["inputs"], rtol=0, atol=0)
    assert not torch.equal(one["inputs"]["a"], other["inputs"]["a"])
    assert dataset[0]["label"].shape == (16, 16)


def test_evaluation_keeps_the_deterministic_transforms(tmp_path: Path) -> None:
    path = toy(tmp_path)
    dataset = FolderDataset(path, transform=Compose([Resize((8, 12)), RandomScaleCrop(4)]))
    assert dataset[0]["label"].shape == (8, 12)
    assert dataset.raw(0)["inputs"]["a"].shape == (8, 12, 3)
    assert dataset.sample(0, np.random.default_rng(0))["label"].shape == (4, 4)


def test_raw_pictures(tmp_path: Path) -> None:
    rgb = image(4, 4, 3)
    save(tmp_path / "rgb/1.png", rgb)
    save(tmp_path / "deep/1.png", (np.arange(16).reshape(4, 4) * 100).astype(np.uint16))
    save(tmp_path / "two/1.npy", np.stack([np.full((4, 4), np.nan), np.eye(4)], -1))
    save(tmp_path / "label/1.png", image(4, 4) % 2)
    modalities = {
        "rgb": {"path": "rgb/{id}.png", "kind": "rgb"},
        "deep": {"path": "deep/{id}.png", "kind": "depth"},
        "two": {"path": "two/{id}.npy", "channels": 2},
        "none": {"path": "none/{id}.png", "optional": True},
    }
    raw = FolderDataset(describe(tmp_path, modalities=modalities, label={"path": "label/{id}.png"})).raw(0)
    for picture in raw["inputs"].values():
        assert (picture.dtype, picture.shape) == (np.uint8, (4, 4, 3))
    np.testing.assert_array_equal(raw["inputs"]["rgb"], rgb)
    deep = raw["inputs"]["deep"]
    assert (deep.min(), deep.max()) == (0, 255)
    assert (deep[..., :1] == deep).all()
    np.testing.assert_array_equal(raw["inputs"]["two"][..., 1], np.eye(4) * 255)
    assert not raw["inputs"]["two"][..., [0, 2]].any()
    assert not raw["inputs"]["none"].any()
    assert raw["label"].shape == (4, 4)
