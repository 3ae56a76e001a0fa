"""DELIVER through its shipped description: values, void labels, weathers and failures, and what a copy lacks."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import miniature_deliver as miniature
import numpy as np
import pytest
from miniature_deliver import FRAMES, path_of

from egformer_fast.data import FolderDataset, Resize
from egformer_fast.data.check import add_arguments, check_dataset, run
from egformer_fast.data.synthetic import draw_frame
from egformer_fast.data.synthetic.writer import write_frame
from egformer_fast.errors import DataError
from egformer_fast.models import egformer_b0
from egformer_fast.train.evaluate import evaluate

MEAN, STD = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 3, 1, 1)


def command(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(argument) for argument in arguments]))


def test_values(tmp_path: Path) -> None:
    content = miniature.write(tmp_path)
    dataset = FolderDataset("deliver", tmp_path, "train")
    assert dataset.modalities == {"rgb": 3, "depth": 3, "event": 3, "lidar": 3}
    assert len(dataset.classes) == 25
    sample = dataset[1]
    wanted = {
        "rgb": (content["img", "000020"][..., :3].transpose(2, 0, 1) / 255 - MEAN) / STD,
        "depth": content["hha", "000020"].transpose(2, 0, 1) / 255,
        # The failure's event frame has half the size: every pixel twice along both axes.
        "event": content["event", "000020"].transpose(2, 0, 1).repeat(2, 1).repeat(2, 2) / 255,
        "lidar": content["lidar", "000020"].transpose(2, 0, 1) / 255,
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(sample["inputs"][name], value, rtol=1e-5, atol=1e-6)
    stored = miniature.label().astype(int)
    np.testing.assert_array_equal(sample["label"], np.where((stored == 0) | (stored == 255), 255, stored - 1))


def test_label_in_the_first_of_four_channels(tmp_path: Path) -> None:
    miniature.write(tmp_path)
    plain = FolderDataset("deliver", tmp_path, "test")[0]["label"]
    miniature.colour_label(path_of(tmp_path, "semantic", FRAMES[4]))
    np.testing.assert_array_equal(FolderDataset("deliver", tmp_path, "test")[0]["label"], plain)


def test_weather_and_failure_of_each_frame(tmp_path: Path) -> None:
    """ "rain" is in every path of the split "train"."""
    miniature.write(tmp_path)
    tags = {}
    for split in ("train", "val", "test"):
        dataset = FolderDataset("deliver", tmp_path, split)
        tags |= {
            sample["name"]: (sample["condition"], sample["case"])
            for sample in map(dataset.__getitem__, range(len(dataset)))
        }
    assert tags == {
        "rain/MAP_1_point1/000010": ("rain", ""),
        "sun/MAP_1_point2_eventlowres/000020": ("sun", "eventlowres"),
        "cloud/MAP_2_point3_lidarjitter/000030": ("cloud", "lidarjitter"),
        "rain/MAP_2_point4/000040": ("rain", ""),
        "night/MAP_3_point5_motionblur/000050": ("night", "motionblur"),
    }


def test_scores_come_for_each_weather_and_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    miniature.write(tmp_path)
    dataset = FolderDataset("deliver", tmp_path, "val", transform=Resize(32))
    model = egformer_b0(len(dataset.classes), dataset.modalities)
    report = evaluate(model, dataset)
    assert {name: scores["frames"] for name, scores in report["conditions"].items()} == {"cloud": 1, "rain": 1}
    assert {name: scores["frames"] for name, scores in report["cases"].items()} == {"lidarjitter": 1}
    command("--data", "deliver", "--root", tmp_path, "--split", "val")
    assert "  conditions: cloud 1, rain 1\n  cases: lidarjitter 1\n" in capsys.readouterr().out


def test_plain_depth(tmp_path: Path) -> None:
    content = miniature.write(tmp_path)
    dataset = FolderDataset("deliver_depth", tmp_path, "val", ["depth"])
    assert dataset.name == "deliver_depth"
    np.testing.assert_allclose(
        dataset[0]["inputs"]["depth"], np.stack([content["depth", "000030"] / 255] * 3), rtol=1e-6
    )


def test_drawn_scenes_are_read_by_it(tmp_path: Path) -> None:
    frame = draw_frame(0, "val", 0, (32, 32))
    write_frame(tmp_path, "val", 0, frame)
    sample = FolderDataset("deliver", tmp_path, "val")[0]
    np.testing.assert_array_equal(sample["label"], frame.label)


def test_what_a_copy_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One clear line each: too few frames, a sensor's folder, a split."""
    miniature.write(tmp_path)
    for number in range(60, 64):
        for folder in miniature.KINDS:
            copy = path_of(tmp_path, folder, ("fog", "val", "MAP_2_point9", f"0000{number}"))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path_of(tmp_path, folder, FRAMES[3]), copy)
    shutil.rmtree(tmp_path / "hha")
    report = check_dataset(FolderDataset("deliver", tmp_path, "val"), progress=False)
    assert report.problems == [
        "split 'val' has 6 frames here, the published one 2005",
        f"modality 'depth': none of the 6 frames has a file; folder {tmp_path}/hha does not exist",
    ]
    for frame in range(60, 64):
        path_of(tmp_path, "lidar", ("fog", "val", "MAP_2_point9", f"0000{frame}")).unlink()
    report = check_dataset(FolderDataset("deliver", tmp_path, "val", ["rgb", "lidar"]), progress=False)
    first = path_of(tmp_path, "lidar", ("fog", "val", "MAP_2_point9", "000060"))
    assert report.problems[1:] == [f"modality 'lidar': 4 of 6 frames have no file, the first {first}"]
    shutil.rmtree(tmp_path / "semantic/night")
    assert command("--data", "deliver", "--root", tmp_path, "--split", "test") == 2
    assert "split 'test' of data set 'deliver' is empty" in capsys.readouterr().out


def test_frames_without_any_file_are_one_line(tmp_path: Path) -> None:
    miniature.write(tmp_path)
    for number in range(60, 64):
        copy = path_of(tmp_path, "semantic", ("fog", "val", "MAP_2_point9", f"0000{number}"))
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path_of(tmp_path, "semantic", FRAMES[3]), copy)
    problems = check_dataset(FolderDataset("deliver", tmp_path, "val"), progress=False).problems
    assert len(problems) == 6
    assert problems[-1] == "4 frames have no usable sensor, the first 'fog/MAP_2_point9/000060'"


def test_files_that_are_broken_or_absent_are_named(tmp_path: Path) -> None:
    miniature.write(tmp_path)
    broken = path_of(tmp_path, "lidar", FRAMES[0])
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(DataError, match=rf"{broken}: cannot be decoded"):
        FolderDataset("deliver", tmp_path, "train")[0]
    path_of(tmp_path, "event", FRAMES[1]).unlink()
    with pytest.raises(DataError, match=r"000020_event_front\.png: no such file"):
        FolderDataset("deliver", tmp_path, "train")[1]


def test_where_the_data_lie_must_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DELIVER_ROOT", raising=False)
    with pytest.raises(
        DataError, match=r"'deliver' lies in a folder that is not known: .*--root.* or set DELIVER_ROOT"
    ):
        FolderDataset("deliver")
    miniature.write(tmp_path)
    monkeypatch.setenv("DELIVER_ROOT", str(tmp_path))
    assert len(FolderDataset("deliver")) == 2
