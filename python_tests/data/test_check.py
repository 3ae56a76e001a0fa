"""check-data finds every kind of problem in one walk, and its statistics are right."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from toy_files import RNG, describe, image, save, toy

from egformer_fast.data import FolderDataset
from egformer_fast.data.check import Moments, add_arguments, check_dataset, run


def command(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(argument) for argument in arguments]))


def test_statistics_of_a_good_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [image(4, 6, 3), image(8, 2, 3)]
    labels = [image(4, 6) % 2, np.full((8, 2), 255, np.uint8)]
    for n in range(2):
        save(tmp_path / f"a/train/{n}.png", images[n])
        save(tmp_path / f"label/train/{n}.png", labels[n])
    sensors = {"a": {"path": "a/{split}/{id}.png", "kind": "rgb"}, "b": {"path": "b/{id}.png", "optional": True}}
    path = describe(tmp_path, modalities=sensors)
    report = check_dataset(FolderDataset(path), progress=False)
    assert report.ok
    assert report.frames == 2
    assert report.presence == {"a": 2, "b": 0}
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in images]) / 255
    np.testing.assert_allclose(report.moments["a"].mean, pixels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(report.moments["a"].std, pixels.std(0), rtol=1e-6)
    np.testing.assert_allclose(report.moments["a"].low, pixels.min(0), rtol=1e-6)
    ones = int(labels[0].sum())
    assert report.pixels.tolist() == [24 - ones, ones, 16]
    assert report.class_shares() == {"x": (24 - ones) / 24, "y": ones / 24}
    assert command("--data", path) == 0
    printed = capsys.readouterr().out
    assert "toy, split 'train': 2 frames" in printed
    assert "mean: [" + ", ".join(f"{value:.4f}" for value in pixels.mean(0)) + "]" in printed
    assert f"x {100 * (24 - ones) / 24:.2f} %" in printed
    assert "ignored: 40.00 % of all" in printed
    assert "b: in 0 of 2 frames" in printed
    assert "no problem(s)" in printed


def test_every_problem_is_found_in_one_walk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(7):
        save(tmp_path / f"a/{n}.png", image(4, 4))
        save(tmp_path / f"b/{n}.npy", np.ones((4, 4), np.float32))
        save(tmp_path / f"label/{n}.png", image(4, 4) % 2)
    (tmp_path / "a/1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    save(tmp_path / "label/1.png", np.full((4, 4), 9, np.uint8))
    save(tmp_path / "a/2.png", image(4, 5))
    values = np.ones((4, 4), np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    save(tmp_path / "b/3.npy", values)
    (tmp_path / "a/4.png").unlink()
    (tmp_path / "b/4.npy").unlink()
    (tmp_path / "label/5.png").unlink()
    modalities = {"a": {"path": "a/{id}.png"}, "b": {"path": "b/{id}.npy", "optional": True}}
    path = describe(tmp_path, modalities=modalities, label={"path": "label/{id}.png"})
    report = check_dataset(FolderDataset(path), progress=False)
    wanted = [
        "modality 'a' has 1 file(s) without a label file, the first of frame '5'",
        "modality 'b' has 1 file(s) without a label file, the first of frame '5'",
        f"{tmp_path}/a/1.png: cannot be decoded",
        f"{tmp_path}/label/1.png: label value(s) 9 in 16 pixel(s)",
        f"{tmp_path}/a/2.png: 4x5 pixels",
        f"{tmp_path}/b/3.npy: 3 of 16 values are NaN or infinite",
        f"{tmp_path}/a/4.png: no such file",
        "frame '4' has no usable sensor",
    ]
    assert len(report.problems) == len(wanted)
    for found, start in zip(report.problems, wanted, strict=True):
        assert found.startswith(start)
    assert not report.ok
    assert report.presence == {"a": 4, "b": 5}
    np.testing.assert_array_equal(report.moments["b"].mean, [1])
    assert command("--data", path) == 2
    assert "problem: modality 'a' has 1" in capsys.readouterr().out


def test_which_splits_are_walked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy(tmp_path, ("1", "2", "3", "4"))
    splits = {"all": "train", "val": {"of": "all", "share": 0.5}, "test": None}
    path = describe(tmp_path, splits=splits)
    assert command("--data", path) == 2
    printed = capsys.readouterr().out
    assert "split 'all': 4 frames" in printed
    assert "split 'test' of data set 'toy' is empty" in printed
    assert "split 'val'" not in printed
    assert command("--data", path, "--split", "val") == 0
    assert "split 'val': 2 frames" in capsys.readouterr().out


def test_root_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy(tmp_path / "data")
    path = describe(tmp_path)
    assert command("--data", path) == 2
    assert command("--data", path, "--root", tmp_path / "data") == 0
    assert "2 frames" in capsys.readouterr().out


def test_moments_merge_to_those_of_the_whole() -> None:
    """Far from zero, where sums of squares lose their digits."""
    whole = 300 + RNG.normal(size=(2, 6, 50))
    merged = Moments.none(2)
    for part in np.split(whole, [1, 20, 37], axis=2):
        merged = merged.merged(Moments.of(part))
    flat = whole.reshape(2, -1)
    np.testing.assert_allclose(merged.mean, flat.mean(1), rtol=1e-12)
    np.testing.assert_allclose(merged.std, flat.std(1), rtol=1e-12)
    np.testing.assert_array_equal(merged.low, flat.min(1))
    np.testing.assert_array_equal(merged.high, flat.max(1))
