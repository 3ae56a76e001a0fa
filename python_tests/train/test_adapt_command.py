"""egformer-fast adapt on miniatures of the field's sets and on described folders."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from egformer_fast.cli import main
from egformer_fast.errors import ConfigError
from egformer_fast.train.adapt.build import make_domains
from egformer_fast.train.config_file import load_config
from egformer_fast.train.loading import load_run

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import miniature_deliver
import miniature_muses

CONFIGS = Path(__file__).parents[2] / "configs" / "adapt"
SMALL = (
    "data.workers=0", "train.batch_size=2", "train.epochs=1", "train.device=cpu", "train.tensorboard=false",
    "train.log_every=1", "eval.pictures=2", "adapt.mask_block=8", "train.threads=1",
)  # fmt: skip


def call(command: str, *arguments: object, changes: tuple[str, ...] = ()) -> int:
    sets = [part for change in changes for part in ("--set", change)]
    return main([command, *map(str, arguments), *sets])


def test_deliver_to_muses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    miniature_deliver.write(tmp_path / "deliver")
    miniature_muses.write_projected(tmp_path / "muses", "png")
    monkeypatch.setenv("DELIVER_ROOT", str(tmp_path / "deliver"))
    monkeypatch.setenv("MUSES_ROOT", str(tmp_path / "muses"))
    sizes = ("data.resize=[32,32]", "data.crop=[32,32]", "data.scale=[1,1]", "adapt.features=0.005")
    run = tmp_path / "run"
    config = CONFIGS / "deliver_to_muses.yaml"
    assert call("adapt", "--config", config, "--output", run, changes=(*SMALL, *sizes)) == 0
    said = capsys.readouterr().out
    assert "ignored, not in cityscapes19 or void: Other" in said
    assert "nothing becomes rider, train, motorcycle" in said
    assert "2 labelled frames" in said
    assert (run / "pictures").is_dir()
    # The checkpoint is for the target: it says how MUSES is read.
    for folder in (run, run / "checkpoints/last"):
        assert (folder / "dataset.yaml").is_file()
    assert yaml.safe_load((run / "checkpoints/last/dataset.yaml").read_text())["name"] == "muses"
    assert call("eval", "--checkpoint", run, "--split", "val", "--json", tmp_path / "report.json") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["dataset"], report["frames"], len(report["classes"])) == ("muses", 1, 19)


def write_set(
    folder: Path, modalities: tuple[str, ...], shift: float, classes: tuple[str, ...] = ("low", "high")
) -> Path:
    """Four training and two validation frames of 32 x 32 pixels; returns the description."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            height = rng.random((32, 32))
            for name in (*modalities, "label"):
                image = (height > 0.5) if name == "label" else np.clip(height + shift, 0, 1) * 255
                path = folder / name / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.astype(np.uint8)).save(path)
    content = {
        "name": folder.name,
        "modalities": {name: {"path": f"{name}/{{split}}/{{id}}.png", "kind": "depth"} for name in modalities},
        "label": {"path": "label/{split}/{id}.png", "values": {0: 0, 1: 1}},
        "classes": list(classes),
        "splits": {"train": None, "val": None, "hidden": {"folder": "val", "unlabelled": True}},
    }
    (folder / "dataset.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "dataset.yaml"


@pytest.fixture
def domains(tmp_path: Path) -> dict[str, Path]:
    return {
        "source": write_set(tmp_path / "source", ("depth", "lidar"), 0.0),
        "target": write_set(tmp_path / "target", ("depth", "thermal"), 0.2),
    }


def config(domains: dict[str, Path], **target: Any) -> Path:
    content = {
        "data": {"description": str(domains["source"])},
        "target": {"description": str(domains["target"]), "eval_split": "val", **target},
        "train": {"ema": 0.9, "lr": 0.01},
    }
    path = domains["source"].parent.parent / "adapt.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_domains_with_other_sensors(
    domains: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained with LiDAR, deployed without; a sensor that only the target has learns from pseudo-labels."""
    run = tmp_path / "run"
    assert call("adapt", "--config", config(domains), "--output", run, changes=SMALL) == 0
    said = capsys.readouterr().out
    assert "source has no thermal: missing there" in said
    assert "target has no lidar: missing there" in said
    loaded = load_run(run)
    assert list(loaded.model.modalities) == ["depth", "lidar", "thermal"]
    assert call("eval", "--checkpoint", run, "--split", "val", "--missing", "lidar") == 0
    assert "target, split val: 2 frame(s)" in capsys.readouterr().out
    depth = domains["target"].parent / "depth/val"
    predict = ("predict", "--checkpoint", run, "--out", tmp_path / "labels", "--labels-only", "--input")
    assert call(*predict, f"depth={depth}") == 0
    assert len(list((tmp_path / "labels/labels").iterdir())) == 2
    capsys.readouterr()
    assert call(*predict, f"lidar={depth}") == 2
    assert "wanted SENSOR=PATH once for sensors among depth, thermal" in capsys.readouterr().err


def test_frames_without_a_label_are_target_frames_too(
    domains: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of four training frames are labelled; with --check, which would miss labels that are read."""
    label = domains["target"].parent / "label/train"
    for number in (1, 3):
        (label / f"{number}.png").unlink()
    arguments = ("--config", config(domains), "--check", "--output")
    assert call("adapt", *arguments, tmp_path / "some", changes=SMALL) == 0
    assert "target target train: 4 frames, labels not read" in capsys.readouterr().out
    shutil.rmtree(label)
    assert call("adapt", *arguments, tmp_path / "none", changes=SMALL) == 0


def test_no_label_of_the_target_is_opened(domains: dict[str, Path], tmp_path: Path) -> None:
    """Nor needed to see what becomes of it: without a labelled split the pictures still show the target."""
    for path in (domains["target"].parent / "label" / "train").iterdir():
        path.write_bytes(b"not a picture")
    run = tmp_path / "run"
    assert call("adapt", "--config", config(domains, eval_split=None), "--output", run, changes=SMALL) == 0
    assert list((run / "pictures").iterdir())


def test_a_run_repeats_itself_resumes_and_refuses_another_target(
    domains: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], any_device: str
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    given = config(domains)
    changes = (*SMALL, "train.epochs=2", f"train.device={any_device}", "train.deterministic=true")
    assert call("adapt", "--config", given, "--output", whole, changes=changes) == 0
    assert call("adapt", "--config", given, "--output", parts, changes=changes) == 0
    weights = [load_file(run / "checkpoints/last/model.safetensors") for run in (whole, parts)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert call("adapt", "--output", parts, "--resume") == 0
    domains["target"].write_text(domains["target"].read_text().replace("name: target", "name: other"))
    assert call("adapt", "--config", given, "--output", parts, "--resume", changes=changes) == 2
    assert "target.description: " in capsys.readouterr().err
    assert load_config(parts / "config.yaml").target.description == str(parts / "target.yaml")


def test_a_run_goes_on_without_what_it_started_from(domains: dict[str, Path], tmp_path: Path) -> None:
    start, run = tmp_path / "start", tmp_path / "run"
    assert call("adapt", "--config", config(domains), "--output", start, changes=SMALL) == 0
    changes = (*SMALL, f"model.weights={start}/checkpoints/last", "adapt.features=0.005")
    assert call("adapt", "--config", config(domains), "--output", run, changes=changes) == 0
    shutil.rmtree(start)
    assert call("adapt", "--output", run, "--resume", changes=("train.epochs=2",)) == 0


def test_processes_share_the_frames_of_the_target(domains: dict[str, Path]) -> None:
    settings = load_config(config(domains), ["train.batch_size=2"])
    make_domains(settings, 2)
    with pytest.raises(ConfigError, match="found 2 in each of 3 processes, wanted no more together than the 4 frames"):
        make_domains(settings, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("target.modalities=[thermal]",), "target.modalities: found ['thermal'], wanted at least one of the source's"),
        (("train.ema=null",), "train.ema: found null, wanted the decay of the teacher's average"),
        (
            ("train.batch_size=4", "target.split=val"),
            "train.batch_size: found 4, wanted no more together than the 2 frames",
        ),
        (("target.scale=[1.0,1.6]",), "target.scale: found [1.0, 1.6] without data.crop"),
        (("target.eval_split=hidden",), "target.eval_split: split 'hidden' of data set 'target' has no labels"),
        (("model.weights=none/last",), "none/last: no such file or folder; wanted a checkpoint folder"),
        (("target.resize=[64,64]",), "adapt.mix: frames of the source have (32, 32) pixels, of the target (64, 64)"),
        (("adapt.features_classes=[road]",), "adapt.features_classes: found ['road'], wanted some of ['low', 'high']"),
        (("target.eval_split=tset",), "tset"),
        (("adapt.method=magic",), "adapt.method: found 'magic', wanted one of mean_teacher"),
    ],
)
def test_what_cannot_be_adapted_is_refused_before_any_work(
    domains: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: tuple[str, ...],
    message: str,
) -> None:
    assert call("adapt", "--config", config(domains), "--output", tmp_path / "run", changes=(*SMALL, *changes)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_other_classes_are_refused(
    domains: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(domains["target"].parent, ("depth",), 0.2, ("low", "peak"))
    assert call("adapt", "--config", config(domains), "--output", tmp_path / "run", changes=SMALL) == 2
    assert "the domains differ in their classes (['high', 'peak'])" in capsys.readouterr().err


def test_each_command_refuses_the_other_ones_configuration(
    domains: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("train", "--config", config(domains), "--output", tmp_path / "run") == 2
    assert "wanted `egformer-fast adapt`" in capsys.readouterr().err
    source = f"data.description={domains['source']}"
    assert call("adapt", "--output", tmp_path / "run", "--resume") == 2
    plain = tmp_path / "plain.yaml"
    plain.write_text("{}")
    assert call("adapt", "--config", plain, "--output", tmp_path / "run", changes=(source,)) == 2
    assert "target.description: not given" in capsys.readouterr().err
