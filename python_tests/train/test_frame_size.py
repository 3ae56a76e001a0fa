"""The size that a run resizes frames to goes with its checkpoint: evaluation and prediction see frames of that size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from egformer_fast.cli import main
from egformer_fast.train.checkpoint import CheckpointError, load_size
from egformer_fast.train.loading import load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A step of training on frames of 48 x 96 pixels, resized to 64 x 64."""
    folder, rng = tmp_path_factory.mktemp("sizes"), np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("rgb", "label"):
            (folder / "data" / name / split).mkdir(parents=True)
            shape = (48, 96, 3) if name == "rgb" else (48, 96)
            for number in range(2):
                image = rng.integers(0, 256 if name == "rgb" else 2, shape, dtype=np.uint8)
                Image.fromarray(image).save(folder / "data" / name / split / f"{number}.png")
    content = {
        "name": "wide",
        "modalities": {"rgb": {"path": "rgb/{split}/{id}.png", "kind": "rgb"}},
        "label": {"path": "label/{split}/{id}.png"},
        "classes": ["low", "high"],
        "splits": {"train": None, "val": None},
    }
    (folder / "data/dataset.yaml").write_text(yaml.safe_dump(content))
    settings = ("data.resize=[64,64]", "train.batch_size=2", "train.epochs=1", "train.device=cpu", "train.threads=1")
    settings += (f"data.description={folder}/data/dataset.yaml", "train.tensorboard=false", "data.workers=0")
    assert main(["train", "--output", str(folder / "run"), "--config", _empty(folder), *_sets(settings)]) == 0
    return folder


def _empty(folder: Path) -> str:
    (folder / "config.yaml").write_text("{}\n")
    return str(folder / "config.yaml")


def _sets(settings: tuple[str, ...]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


@pytest.mark.parametrize("lone", [False, True])
def test_a_copied_checkpoint_scores_what_the_run_does(run: Path, tmp_path: Path, lone: bool) -> None:
    checkpoint = run / "run"
    if lone:
        shutil.copytree(run / "run/checkpoints/best", tmp_path / "copy")
        checkpoint = tmp_path / "copy"
    report = tmp_path / "report.json"
    arguments = ["--checkpoint", str(checkpoint), "--root", str(run / "data"), "--split", "val", "--json", str(report)]
    assert main(["eval", *arguments]) == 0
    assert sum(json.loads(report.read_text())["pixels"].values()) == 2 * 64 * 64


def test_predict_labels_inputs_at_the_size_of_the_run(run: Path, tmp_path: Path) -> None:
    sizes = []
    for number, source in enumerate((["--split", "val"], ["--input", f"rgb={run}/data/rgb/val"])):
        out = tmp_path / str(number)
        arguments = ["--checkpoint", str(run / "run"), "--out", str(out), "--labels-only", *source]
        assert main(["predict", *arguments]) == 0
        with Image.open(out / "labels/0.png") as image:
            sizes.append(np.array(image))
    assert sizes[0].shape == (64, 64)
    np.testing.assert_array_equal(*sizes)


def test_a_run_of_before_the_size_went_along_has_it_in_its_configuration(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "run", tmp_path / "run")
    (tmp_path / "run/checkpoints/best/frames.json").unlink()
    assert load_run(tmp_path / "run").size == (64, 64)


def test_a_damaged_size_is_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "run/checkpoints/best", tmp_path / "copy")
    assert load_size(tmp_path / "copy") == (64, 64)
    (tmp_path / "copy/frames.json").write_text('{"size": 64}')
    with pytest.raises(CheckpointError, match=r"frames\.json: cannot be read, wanted"):
        load_run(tmp_path / "copy")
