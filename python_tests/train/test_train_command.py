"""egformer-fast train: real files, the real model, the run folder, mistakes, SIGTERM, resuming."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from egformer_fast import cli
from egformer_fast.data import (
    Photometric,
    RandomDegraded,
    RandomFlip,
    RandomMissing,
    RandomQuarterTurn,
    RandomScaleCrop,
    RandomZeroed,
    Resize,
)
from egformer_fast.models import EGFormer, create_model
from egformer_fast.train.build import make_datasets, make_model, make_transform
from egformer_fast.train.checkpoint import find_checkpoint, load_state
from egformer_fast.train.config import KEYS, DataConfig
from egformer_fast.train.config_file import load_config
from egformer_fast.train.engine import Trainer
from egformer_fast.train.run_folder import FREE_TO_CHANGE

DESCRIPTION = """
name: blocks
modalities:
  rgb: {path: "{split}/rgb/{id}.png", kind: rgb}
  depth: {path: "{split}/depth/{id}.png", kind: depth}
label: {path: "{split}/label/{id}.png"}
classes: [left, right]
splits: {train: train, val: val}
"""
CONFIG = """
data: {description: blocks.yaml, crop: [32, 32], photometric: 0.5, missing: 0.2, zeroed: 0.2, cache: true}
train: {epochs: 2, batch_size: 2, lr: 1e-3, device: cpu, threads: 1, tensorboard: false, log_every: 1, ema: 0.5}
eval: {every: 2, pictures: 1}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A data set of 4 + 2 frames, 40 x 48 pixels, and a configuration for it."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for index in range(count):
            label = np.zeros((40, 48), np.uint8)
            label[:, 24:] = 1
            rgb = rng.integers(0, 256, (40, 48, 3), np.uint8)
            for name, image in (("rgb", rgb), ("depth", 200 * label), ("label", label)):
                path = tmp_path / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
    (tmp_path / "blocks.yaml").write_text(DESCRIPTION)
    (tmp_path / "blocks_run.yaml").write_text(CONFIG)
    return tmp_path / "blocks_run.yaml"


def train(*arguments: object) -> int:
    return cli.main(["train", *map(str, arguments)])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that `train` stops with."""
    capsys.readouterr()
    assert train(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_whole_run_its_folder_and_what_resuming_allows(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = config.parent / "run"
    assert train("--config", config, "--output", run) == 0
    assert "finished after 4 steps" in capsys.readouterr().out
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    model = {"config.json", "model.safetensors", "dataset.yaml"}
    assert names == {
        "config.yaml", "dataset.yaml", "log.csv", "pictures/step_000004.png",
        *(f"checkpoints/last/{name}" for name in model | {"state.pt"}),
        *(f"checkpoints/best/{name}" for name in model | {"evaluation.json"}),
    }  # fmt: skip
    best = EGFormer.from_pretrained(run / "checkpoints/best")
    assert best.modalities == {"rgb": 3, "depth": 1}
    resolved = load_config(run / "config.yaml")
    assert resolved.data.description == str(run / "dataset.yaml")
    assert resolved.data.root == str(config.parent)

    assert "run holds a run already, wanted another folder, or --resume" in refusal(
        capsys, "--config", config, "--output", run
    )
    again = ["--config", config, "--output", run, "--resume"]
    assert "train.lr: found 0.002, but the run in" in refusal(capsys, *again, "--set", "train.lr=0.002")
    (run / "checkpoints/best").rename(run / "checkpoints/set_aside")
    assert train(*again) == 0
    assert not (run / "checkpoints/best").exists(), "a finished run has nothing left to do"
    assert train("--output", run, "--resume", "--set", "train.epochs=3", "--set", "data.workers=1") == 0
    assert "finished after 6 steps" in capsys.readouterr().out
    (config.parent / "blocks.yaml").write_text(DESCRIPTION.replace("left", "west"))
    assert "blocks.yaml is not the one that" in refusal(capsys, *again)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.epoch=3"], "train.epoch: no such key, the nearest valid one is train.epochs"),
        (["data.root=nowhere"], "does not exist"),
        (["data.split=trian"], "no split 'trian'"),
        (["eval.split=test"], "no split 'test'"),
        (["data.modalities=[rgb, radar]"], "no modality 'radar'"),
        (["train.batch_size=5"], "train.batch_size: found 5"),
        (["model.name=egformer_b9"], "model: unknown model 'egformer_b9'"),
        (["data.crop=null", "data.scale=[0.5, 2]"], "data.scale: found [0.5, 2.0] without data.crop"),
        (["train.autocast=float16", "train.device=auto"], "train.autocast: found 'float16', but there is no GPU"),
    ],
)
def test_mistakes_are_one_line_before_any_folder_is_made(
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = config.parent / "run"
    sets = [part for override in overrides for part in ("--set", override)]
    assert message in refusal(capsys, "--config", config, "--output", run, *sets)
    assert not run.exists()


def test_folders_that_are_no_place_for_a_run(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is not a run folder, wanted a new or an empty folder" in refusal(
        capsys, "--config", config, "--output", config.parent
    )
    file = config.parent / "file"
    file.touch()
    assert "Not a directory" in refusal(capsys, "--config", config, "--output", file / "run")
    assert "--config: not given, and there is no run to --resume" in refusal(
        capsys, "--output", config.parent, "--resume"
    )
    monkeypatch.chdir(config.parent)
    assert "--config: not given" in refusal(capsys)


def test_a_damaged_frame_stops_the_start(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "val/depth/0.png").write_bytes(b"no picture")
    assert "val/depth/0.png" in refusal(capsys, "--config", config, "--output", config.parent / "run")
    assert not (config.parent / "run").exists()


def test_check_finds_every_damaged_frame_before_training(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Frame 0 is read at the start anyway; --check also finds the others."""
    for name in ("train/depth/2.png", "train/label/3.png"):
        (config.parent / name).write_bytes(b"no image")
    assert cli.main(["train", "--config", str(config), "--output", str(config.parent / "run"), "--check"]) == 2
    error = capsys.readouterr().err
    assert "split 'train': 2 problem(s)" in error
    assert "depth/2.png" in error
    assert "label/3.png" in error
    assert not (config.parent / "run" / "checkpoints").exists()


def test_sigterm_saves_and_exits_0(config: Path) -> None:
    run = config.parent / "run"
    options = [
        "--config",
        str(config),
        "--output",
        str(run),
        "--set",
        "train.epochs=100000",
        "--set",
        "eval.every=100000",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "egformer_fast.cli", "train", *options], stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 100
    while not (run / "log.csv").is_file() or len((run / "log.csv").read_text().splitlines()) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    assert "stopped by a signal and saved; --resume goes on from here" in out
    with (run / "log.csv").open(newline="") as file:
        assert load_state(find_checkpoint(run, "last"))["step"] == int(list(csv.DictReader(file))[-1]["step"]) >= 2


def test_the_real_model_resumes_to_the_same_bits_in_mid_epoch(
    config: Path, monkeypatch: pytest.MonkeyPatch, any_device: str
) -> None:
    whole, parts = config.parent / "whole", config.parent / "parts"
    options = ["--config", config, "--set", "eval.pictures=0", "--set", "model.gumbel=1", "--set", "train.epochs=3"]
    options += ["--set", f"train.device={any_device}", "--set", "train.deterministic=true"]
    assert train(*options, "--output", whole) == 0
    with monkeypatch.context() as patch:
        usual = Trainer._train_step

        def step_and_signal(self: Trainer, frames: Any) -> None:
            usual(self, frames)
            if self.step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

        patch.setattr(Trainer, "_train_step", step_and_signal)
        assert train(*options, "--output", parts) == 0
    assert load_state(parts / "checkpoints/last")["step"] == 3
    assert train("--output", parts, "--resume") == 0
    for name in ("best", "last"):
        one, other = (load_file(run / "checkpoints" / name / "model.safetensors") for run in (whole, parts))
        assert all(torch.equal(one[key], other[key]) for key in one)
    raw, other_raw = (load_state(run / "checkpoints/last")["model"] for run in (whole, parts))
    assert all(torch.equal(raw[key], other_raw[key]) for key in raw)
    assert any(not torch.equal(raw[key], one[key]) for key in raw), "averaged weights are others than the last ones"


def test_a_run_is_deterministic_where_that_is_asked_for(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.use_deterministic_algorithms(False)
    seen = []
    monkeypatch.setattr(Trainer, "fit", lambda self: seen.append(torch.are_deterministic_algorithms_enabled()) or True)
    for wanted in ("false", "true"):
        run = config.parent / wanted
        assert train("--config", config, "--output", run, "--set", f"train.deterministic={wanted}") == 0
    assert seen == [False, True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_weights_to_start_from(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(7)
    create_model("egformer_b0", 2, ["rgb"]).save_pretrained(config.parent / "start")
    weights = config.parent / "start/model.safetensors"
    settings = load_config(config, [f"model.weights={weights}"])
    frames = make_datasets(settings)[0]
    model = make_model(settings, frames, frames.modalities)
    wanted = load_file(weights)
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, wanted[f"encoder.{name}"]), name
    fresh = "inputs.stems.depth.proj.weight, inputs.stems.depth.proj.bias"
    assert f"model.safetensors: loaded, but for {fresh}" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="none.pth"):
        make_model(load_config(config, ["model.weights=/none.pth"]), frames, frames.modalities)


def test_keys_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train("--keys")
    assert stop.value.code == 0
    assert "data.missing = 0.0: probability" in capsys.readouterr().out


def test_all_transforms_in_order() -> None:
    data = DataConfig(
        resize=[64, 64], crop=[32, 48], scale=[0.5, 2.0], flip_vertical=True, quarter_turns=True, photometric=0.2,
        missing=0.1, zeroed=0.3,
    )  # fmt: skip
    assert make_transform(data).transforms == [
        Resize([64, 64]), RandomScaleCrop([32, 48], [0.5, 2.0]), RandomFlip(True, True), RandomQuarterTurn(),
        Photometric(p=0.2, blur=0.2), RandomMissing(0.1), RandomZeroed(0.3),
    ]  # fmt: skip
    assert make_transform(DataConfig(flip_horizontal=False)).transforms == []
    aside = make_transform(DataConfig(flip_horizontal=False, zeroed=0.3), degraded=0.5).transforms
    assert aside == [RandomZeroed(0.3), RandomDegraded(0.5, aside=True)]


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [("", True), ("train.score_loss=0", False), ("model.early_fusion=true", False), ("model.flow=separate", False)],
)
def test_degradations_are_drawn_where_scores_are_taught(config: Path, setting: str, wanted: bool) -> None:
    asked = load_config(config, ["data.degraded=0.5", "train.score_loss=1", *filter(None, [setting])])
    frames = make_datasets(asked)[0]
    assert ("worse" in frames.sample(0, np.random.default_rng(0))) == wanted


def test_keys_that_resuming_may_change_exist() -> None:
    assert set(KEYS) >= FREE_TO_CHANGE


def test_the_configurations_of_the_project_are_valid() -> None:
    for name in ("drawn.yaml", "ombria.yaml"):
        config = load_config(Path(__file__).parents[2] / "configs" / name)
        # make-data writes the description of the drawn scenes; the other one is part of the project.
        assert Path(config.data.description).is_file() or name == "drawn.yaml"
        make_transform(config.data)
