"""Configuration files: what is read, where paths point, and the one line that each mistake gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from egformer_fast.errors import ConfigError
from egformer_fast.train.config import KEYS, Config
from egformer_fast.train.config_file import describe, flatten, load_config, save_config


def config_file(folder: Path, text: str = "") -> Path:
    path = folder / "run.yaml"
    path.write_text("data:\n  description: sets/dots.yaml\n" + text)
    return path


def test_values_of_every_kind(tmp_path: Path) -> None:
    text = """  crop: [64, 96]
  missing: 1
model: {keep: [2, 1, 1, 1], early_fusion: true}
train:
  lr: 1e-3
  max_minutes: 2.5
  ema: null
eval:
"""
    config = load_config(config_file(tmp_path, text))
    assert config.data.crop == [64, 96]
    assert (config.data.missing, type(config.data.missing)) == (1.0, float)
    assert config.model.keep == [2, 1, 1, 1] and config.model.early_fusion is True
    assert (config.train.lr, config.train.max_minutes, config.train.ema) == (1e-3, 2.5, None)
    assert config.eval == Config().eval


def test_set_comes_after_the_file_and_the_last_one_counts(tmp_path: Path) -> None:
    path = config_file(tmp_path, "train: {lr: 0.1}\n")
    config = load_config(path, ["train.lr=0.2", "train.lr=3e-4", "model.keep=[2,2,1,1]", "data.root=null"])
    assert (config.train.lr, config.model.keep, config.data.root) == (3e-4, [2, 2, 1, 1], None)


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOTS", "/somewhere/dots")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    path = config_file(tmp_path / "configs", "  root: ${DOTS}/v2\n")
    config = load_config(path, ["model.weights=mit_b0.pth"])
    assert config.data.description == str(tmp_path / "configs/sets/dots.yaml")
    assert config.data.root == "/somewhere/dots/v2"
    assert config.model.weights == str(tmp_path / "mit_b0.pth")


def test_a_file_extends_another(tmp_path: Path) -> None:
    """Each file's paths are its own; what the later one says counts, a list as a whole."""
    folder = tmp_path / "base"
    folder.mkdir()
    config_file(folder, "  crop: [64, 96]\nmodel: {keep: [2, 1, 1, 1]}\ntrain: {lr: 0.1, epochs: 3}\n")
    path, last = tmp_path / "mine.yaml", tmp_path / "last.yaml"
    path.write_text("train: {lr: 0.2}\nextends: base/run.yaml\nmodel: {keep: null, weights: w.pth}\n")
    last.write_text("extends: mine.yaml\ndata: {crop: [32, 32]}\n")
    config = load_config(last, ["train.epochs=4"])
    assert config.data.description == str(folder / "sets/dots.yaml")
    assert config.model.weights == str(tmp_path / "w.pth")
    assert (config.data.crop, config.model.keep) == ([32, 32], None)
    assert (config.train.lr, config.train.epochs) == (0.2, 4)


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ("3", ConfigError, "run.yaml: extends: found 3, wanted the configuration file that it"),
        ("null", ConfigError, "run.yaml: extends: found null, wanted the configuration file that it"),
        ("run.yaml", ConfigError, "run.yaml: extends: run.yaml leads back to itself"),
        ("loop.yaml", ConfigError, "loop.yaml: extends: run.yaml leads back to itself"),
        ("none.yaml", FileNotFoundError, "configuration file .*none.yaml does not exist"),
    ],
)
def test_a_file_that_cannot_be_extended(tmp_path: Path, said: str, error: type[Exception], message: str) -> None:
    (tmp_path / "loop.yaml").write_text("extends: run.yaml\n")
    with pytest.raises(error, match=message):
        load_config(config_file(tmp_path, f"extends: {said}\n"))


def test_an_unset_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOTS", raising=False)
    with pytest.raises(
        ConfigError, match=r"^data.root: found '\$\{DOTS\}', but the environment variable DOTS is not set"
    ):
        load_config(config_file(tmp_path, "  root: ${DOTS}\n"))


def test_an_unset_variable_of_a_value_that_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOTS", raising=False)
    config = load_config(config_file(tmp_path, "  root: ${DOTS}\n"), ["data.root=/elsewhere"])
    assert config.data.root == "/elsewhere"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rate=1", "train.learning_rate: no such key, the nearest valid one is"),
        ("train.epoch=1", "train.epoch: no such key, the nearest valid one is train.epochs"),
        ("train.crop=[64, 64]", "train.crop: no such key, the nearest valid one is data.crop"),
        ("batch_size=1", "batch_size: no such key, the nearest valid one is train.batch_size"),
        ("trian.lr=1", "trian.lr: no such key, the nearest valid one is train.lr"),
        ("train.epochs=ten", "train.epochs: found 'ten', wanted a whole number >= 1"),
        ("train.epochs=1.0", "train.epochs: found 1.0, wanted a whole number >= 1"),
        ("train.epochs=0", "train.epochs: found 0, wanted a whole number >= 1"),
        ("train.epochs=true", "train.epochs: found true, wanted a whole number >= 1"),
        ("train.epochs=", "train.epochs: found null, wanted a whole number >= 1"),
        ("train.lr=0", "train.lr: found 0, wanted a number > 0"),
        ("train.lr=true", "train.lr: found true, wanted a number > 0"),
        ("train.lr=.inf", "train.lr: found inf, wanted a number > 0"),
        ("train.lr=fast", "train.lr: found 'fast', wanted a number > 0"),
        ("data.missing=1.5", "data.missing: found 1.5, wanted a number >= 0 and <= 1"),
        ("data.cache=1", "data.cache: found 1, wanted true or false"),
        ("data.split=3", "data.split: found 3, wanted a string"),
        ("train.schedule=cosine", "train.schedule: found 'cosine', wanted one of poly, one_cycle, constant"),
        ("model.keep=[3, 2, 1]", r"model.keep: found [3, 2, 1], wanted a list of 4 whole numbers >= 0, or null"),
        ("model.keep=2", "model.keep: found 2, wanted a list of 4 whole numbers >= 0, or null"),
        ("model.keep=[1, 2, 1, 1]", "model.keep: found [1, 2, 1, 1], wanted no stage to keep more than the one before"),
        ("data.modalities=[]", "data.modalities: found [], wanted a list of strings, or null"),
        ("data.scale=[2, 0.5]", "data.scale: found [2.0, 0.5], wanted the smaller number first"),
        ("eval.metric=mIoU", "eval.metric: found 'mIoU', wanted one of miou, pixel_accuracy, fwiou, frame_mean.miou"),
        ("train.lr", "--set: found 'train.lr', wanted key=value"),
        ("train.lr=[1", "--set train.lr: not valid YAML"),
    ],
)
def test_one_line_for_each_mistake(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(config_file(tmp_path), [override])
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_float16_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train.autocast: found 'float16' with train.device 'cpu'"):
        load_config(config_file(tmp_path), ["train.autocast=float16", "train.device=cpu"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {lr: 1\n", "not valid YAML"),
        ("train: {lr: 1, lr: 2}\n", "key lr is given twice"),
        ("train: {}\ntrain: {}\n", "key train is given twice"),
        ("optimizer: {lr: 1}\n", "optimizer.lr: no such key, the nearest valid one is train.lr"),
        ("optimizer:\n", "optimizer: no such key"),
        ("train: 5\n", "train: no such key"),
        ("model: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_mistakes_of_a_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(config_file(tmp_path, text))


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none.yaml does not exist"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]\n")
    with pytest.raises(ConfigError, match=r"wanted the sections data, model, train, eval"):
        load_config(tmp_path / "list.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"model: {name: caf\xe9}\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml: not a text file in UTF-8"):
        load_config(tmp_path / "latin.yaml")
    (tmp_path / "empty.yaml").write_text("data: {}\n")
    with pytest.raises(ConfigError, match="data.description: not given"):
        load_config(tmp_path / "empty.yaml")


def test_a_saved_configuration_reads_back_equal(tmp_path: Path) -> None:
    config = load_config(
        config_file(tmp_path), ["train.lr=1e-7", "model.keep=[4,3,2,1]", "train.class_weights=[1,2.5]"]
    )
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


def test_every_key_is_documented_and_every_default_allowed() -> None:
    lines = describe().splitlines()
    assert len(lines) == len(KEYS) == sum(len(dataclasses.fields(part)) for part in vars(Config()).values())
    for name, value in flatten(Config()).items():
        assert KEYS[name].limits["doc"]
        assert KEYS[name].convert(value) == value
    assert "train.lr = 6e-05: peak learning rate of AdamW (a number > 0)" in lines
