"""The commands eval and predict, on files and a small model: what they write, what they say, what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import DESCRIPTION, SIZE, write_data, write_run

from egformer_fast.cli import main
from egformer_fast.data import FolderDataset, load_description
from egformer_fast.errors import ConfigError
from egformer_fast.train.config import Config
from egformer_fast.train.config_file import save_config
from egformer_fast.train.evaluate import evaluate
from egformer_fast.train.input_files import InputFrames
from egformer_fast.train.loading import load_run, pick_device


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def run_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), data)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    return (status, *capsys.readouterr())


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_eval_writes_the_report_that_evaluate_gives(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--split", "test", "--batch-size", 2, "--device", "cpu")
    status, out, _ = call(capsys, "eval", "--checkpoint", run_folder, *options)
    path = run_folder / "checkpoints" / "best" / "eval-test.json"
    assert status == 0
    assert "tiny, split test: 4 frame(s)" in out
    assert "1 frame(s) without a usable sensor" in out
    assert f"report: {path}" in out
    report = json.loads(path.read_text())
    loaded = load_run(run_folder)
    assert report.pop("checkpoint") == str(run_folder)
    assert report == evaluate(loaded.model, loaded.dataset("test"), batch_size=2)
    assert report["blind_frames"] == {"count": 1, "names": ["f2"]}
    assert report["present"] == {"rgb": 0.5, "depth": 0.75}


def test_eval_options_reach_the_report(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--split", "test", "--missing", "rgb", "--keep", "1,0,0,0", "--tta", "flip", "--subsets", "depth")
    status, _, _ = call(capsys, "eval", "--checkpoint", run_folder, *options, "--json", tmp_path / "r.json")
    assert status == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["settings"] == {"keep": [1, 0, 0, 0], "missing": ["rgb"], "tta": "flip"}
    assert list(report["subsets"]) == ["depth"]
    assert report["subsets"]["depth"]["miou"] == report["miou"]
    call(capsys, "eval", "--checkpoint", run_folder, *options)
    name = "eval-test-without_rgb-keep_1_0_0_0-tta_flip-subsets_depth.json"
    assert (run_folder / "checkpoints" / "best" / name).is_file()


def test_eval_of_all_subsets(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--split", "test", "--subsets", "all", "--json", tmp_path / "r.json")
    status, out, _ = call(capsys, "eval", "--checkpoint", run_folder, *arguments)
    assert status == 0
    assert list(json.loads((tmp_path / "r.json").read_text())["subsets"]) == ["rgb+depth", "rgb", "depth"]
    assert "mean over subsets" in out


def test_predict_a_split(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "predict", "--checkpoint", run_folder, "--split", "test", "--out", tmp_path / "out")
    assert status == 0
    names = {f"f{number}.png" for number in range(4)}
    for folder in ("labels", "overlays", "figures"):
        assert {path.name for path in (tmp_path / "out" / folder).iterdir()} == names
    assert (tmp_path / "out" / "overview.png").is_file()
    assert "no usable sensor, the label is all ignore (255), in 1 of 4 frame(s)" in out
    assert "rgb is missing or broken in 1 of 4 frame(s)" in out
    assert (read(tmp_path / "out" / "labels" / "f2.png") == 255).all()
    loaded = load_run(run_folder)
    sample = loaded.dataset("test")[0]
    logits = loaded.model({name: image[None] for name, image in sample["inputs"].items()}, sample["present"][None])
    assert np.array_equal(read(tmp_path / "out" / "labels" / "f0.png"), logits.argmax(1)[0].numpy())
    assert read(tmp_path / "out" / "overlays" / "f0.png").shape == (*SIZE, 3)


def test_predict_folders_like_the_split_they_are(
    run_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Inputs are scaled and normalised as in training, and paired by {id} although their file names differ."""
    common = ("predict", "--checkpoint", run_folder, "--labels-only")
    call(capsys, *common, "--split", "test", "--out", tmp_path / "split")
    inputs = ("--input", f"rgb={data / 'test' / 'rgb'}", "--input", f"depth={data / 'test' / 'depth'}")
    status, out, _ = call(capsys, *common, *inputs, "--out", tmp_path / "folders")
    assert status == 0
    assert out == (
        f"3 frame(s) of tiny, input: labels in {tmp_path / 'folders'}\nrgb is missing or broken in 1 of 3 frame(s)\n"
    )
    written = sorted(path.name for path in (tmp_path / "folders" / "labels").iterdir())
    assert written == ["f0.png", "f1.png", "f3.png"]
    for name in written:
        assert np.array_equal(read(tmp_path / "folders/labels" / name), read(tmp_path / "split/labels" / name))
    assert sorted(path.name for path in (tmp_path / "folders").iterdir()) == ["labels"]


def test_predict_single_files_with_a_sensor_missing(
    run_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = data / "test" / "depth" / "depth_f1.npy"
    common = ("predict", "--checkpoint", run_folder)
    status, _, _ = call(capsys, *common, "--input", f"depth={file}", "--out", tmp_path / "one")
    call(capsys, *common, "--split", "test", "--out", tmp_path / "split", "--labels-only")
    assert status == 0
    assert np.array_equal(read(tmp_path / "one/labels/depth_f1.png"), read(tmp_path / "split/labels/f1.png"))
    assert (tmp_path / "one" / "figures" / "depth_f1.png").is_file()


def test_limit_spreads_over_the_split(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--limit", 2, "--labels-only")
    call(capsys, "predict", "--checkpoint", run_folder, "--split", "test", "--out", tmp_path, *options)
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["f0.png", "f2.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "--split", "tset"], "has no split 'tset'; did you mean 'test'?"),
        (
            ["eval", "--split", "test", "--missing", "radar"],
            "missing: found modality 'radar', wanted some of ['rgb', 'd",
        ),
        (["eval", "--split", "test", "--keep", "1,2"], "--keep: found 1,2, wanted 4 numbers, from 1,0,0,0 to 2,0,0"),
        (["eval", "--split", "test", "--keep", "0,0,0,0"], "--keep: found 0,0,0,0, wanted 4 numbers, from 1,0,0,0"),
        (["eval", "--split", "test", "--keep", "2,1,0,0"], "--keep: found 2,1,0,0, wanted 4 numbers, from 1,0,0,0"),
        (
            ["eval", "--split", "test", "--protocol", "emm,emn"],
            "--protocol: found 'emn', wanted some of subsets, emm",
        ),
        (["eval", "--split", "test", "--subsets", "rgb+ir"], "subsets: found modality 'ir'"),
        (["eval", "--split", "test", "--root", "/nowhere"], "root folder /nowhere of data set 'tiny' does not exist"),
        (["predict", "--out", "OUT"], "found neither or both, wanted either --split, or --input"),
        (["predict", "--out", "OUT", "--split", "test", "--input", "rgb=x"], "found neither or both"),
        (
            ["predict", "--out", "OUT", "--input", "ir=x"],
            "--input: found 'ir=x', wanted SENSOR=PATH once for sensors am",
        ),
        (["predict", "--out", "OUT", "--input", "rgb"], "--input: found 'rgb', wanted SENSOR=PATH"),
        (["predict", "--out", "OUT", "--input", "rgb=/none"], "input rgb=/none: no such file or folder"),
        (
            ["predict", "--out", "OUT", "--input", "rgb=/none", "--root", "/"],
            "--root: goes with --split, not with --inp",
        ),
    ],
)
def test_mistakes_are_one_line(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    command, *rest = [str(tmp_path) if argument == "OUT" else argument for argument in arguments]
    status, out, err = call(capsys, command, "--checkpoint", run_folder, *rest)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_input_folders_that_do_not_fit(data: Path, tmp_path: Path) -> None:
    description = load_description(data / "dataset.yaml")

    def frames(**paths: Path) -> InputFrames:
        return InputFrames(description, ["rgb", "depth"], paths)

    rgb, depth = data / "test" / "rgb", data / "test" / "depth"
    with pytest.raises(ValueError, match=r"inputs: depth is a file and rgb a folder; wanted all files or all folders"):
        frames(rgb=rgb, depth=depth / "depth_f0.npy")
    with pytest.raises(ValueError, match=r"input rgb=.*: no image there; wanted files ending in \.png"):
        frames(rgb=data)
    other = tmp_path / "other"
    shutil.copytree(depth, other)
    for path in list(other.iterdir()):
        path.rename(other / path.name.replace("_f", "_g"))
    with pytest.raises(ValueError, match=r"no frame is in more than one folder \(rgb has 'f0', depth has 'g0'\)"):
        frames(rgb=rgb, depth=other)
    twice = tmp_path / "twice"
    twice.mkdir()
    for name in ("a.png", "a.jpg"):
        shutil.copy(rgb / "f0.png", twice / name)
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png are both frame 'a'"):
        frames(rgb=twice)


def test_folder_that_is_not_named_like_the_template_goes_by_file_names(data: Path, tmp_path: Path) -> None:
    for number in (0, 3):
        shutil.copy(data / "test" / "depth" / f"depth_f{number}.npy", tmp_path / f"f{number}.npy")
    description = load_description(data / "dataset.yaml")
    frames = InputFrames(description, ["rgb", "depth"], {"rgb": data / "test" / "rgb", "depth": tmp_path})
    assert frames.names == ["f0", "f3"]
    assert frames[0]["present"].tolist() == [True, True]
    assert (frames[0]["label"] == 255).all()
    split = FolderDataset(data / "dataset.yaml", split="test")
    assert torch.equal(frames[1]["inputs"]["depth"], split[3]["inputs"]["depth"])


def test_inputs_have_no_condition(data: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text(DESCRIPTION.replace('"{split}/', '"{condition}/{split}/'))
    frames = InputFrames(load_description(tmp_path / "dataset.yaml"), ["rgb"], {"rgb": data / "test" / "rgb"})
    assert (frames[0]["name"], frames[0]["condition"]) == ("f0", "")


def test_lone_checkpoint_folder(run_folder: Path, data: Path, tmp_path: Path) -> None:
    """Copied elsewhere it is enough, with the root of the data given."""
    shutil.copytree(run_folder / "checkpoints" / "best", tmp_path / "copy")
    loaded = load_run(tmp_path / "copy")
    assert loaded.config is None
    assert len(loaded.dataset("test", root=data)) == 4
    with pytest.raises(ValueError, match=r"split 'test' of data set 'tiny' is empty"):
        loaded.dataset("test")


def test_run_whose_data_moved_falls_back_on_the_description(
    run_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run_folder, tmp_path / "moved")
    config = Config()
    config.data.description, config.data.root = "dataset.yaml", str(tmp_path / "gone")
    save_config(config, tmp_path / "moved" / "config.yaml")
    described = tmp_path / "moved" / "checkpoints" / "best" / "dataset.yaml"
    described.write_text(DESCRIPTION + "root_env: TINY_ROOT\n")
    monkeypatch.setenv("TINY_ROOT", str(data))
    assert load_run(tmp_path / "moved").dataset("test").root == data


def test_another_description(run_folder: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(DESCRIPTION.replace("name: tiny", "name: other") + f"root: {data}\n")
    assert load_run(run_folder).dataset("test", tmp_path / "other.yaml").name == "other"


def test_what_is_not_a_checkpoint(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder; wanted a run folder or a checkpoint folder"):
        load_run(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no checkpoint there"):
        load_run(tmp_path)
    shutil.copytree(run_folder / "checkpoints" / "best", tmp_path / "bare")
    (tmp_path / "bare" / "dataset.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"no dataset\.yaml beside the weights"):
        load_run(tmp_path / "bare")


def test_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="device: found 'cuda', but torch sees no GPU here"):
        pick_device("cuda")
