"""The configs of the field's data sets load, name a description that comes with the package, and say the published
figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from egformer_fast.data import load_description
from egformer_fast.errors import ConfigError
from egformer_fast.train.build import make_transform
from egformer_fast.train.config import Config
from egformer_fast.train.config_file import load_config
from egformer_fast.train.run_folder import check_folder, prepare_folder

CONFIGS = Path(__file__).parents[2] / "configs"
PUBLISHED = {
    "deliver": {
        "epochs": 200,
        "batch_size": 2,
        "lr": 6e-5,
        "size": [1024, 1024],
        "warmup": 10 / 200,
        "scale": [0.5, 2],
    },
    # A short side of 1024 pixels is resized to half to twice of 512.
    "mcubes": {"epochs": 500, "batch_size": 4, "lr": 6e-5, "size": [512, 512], "warmup": 10 / 500, "scale": [0.25, 1]},
    "muses": {"epochs": 200, "batch_size": 4, "lr": 1.2e-4, "size": [1024] * 2, "warmup": 10 / 200, "scale": [0.5, 2]},
}


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv(f"{name.upper()}_ROOT", f"/data/{name}")
    return load_config(CONFIGS / f"{name}.yaml")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, published = loaded(name, monkeypatch), PUBLISHED[name]
    train = config.train
    assert (train.epochs, train.batch_size, train.lr) == (published["epochs"], published["batch_size"], published["lr"])
    assert config.data.crop == published["size"]
    assert train.warmup == pytest.approx(published["warmup"])
    assert (train.weight_decay, train.schedule, train.autocast, train.seed) == (0.01, "poly", "none", 3407)
    assert (train.loss, train.ohem_threshold, train.ohem_min_share) == ("ohem", 0.7, 1 / 16)
    assert config.data.scale == published["scale"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_data_set_of_the_config(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = loaded(name, monkeypatch)
    assert config.data.root == f"/data/{name}"
    description = load_description(config.data.description)
    assert description.name == name
    assert set(config.data.modalities or []) <= set(description.modalities)
    assert {config.data.split, config.eval.split} <= set(description.splits)
    make_transform(config.data)


def test_names_in_a_config(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("data: {description: delivr}\n")
    with pytest.raises(ConfigError, match=r"^data\.description: no data set 'delivr' .*or deliver, deliver19"):
        load_config(tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_text("data: {description: deliver}\n")
    config = load_config(tmp_path / "run.yaml")
    assert load_description(config.data.description).name == "deliver"


def test_without_the_variable_the_root_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DELIVER_ROOT", raising=False)
    with pytest.raises(ConfigError, match=r"data\.root: found '\$\{DELIVER_ROOT\}', but the environment variable"):
        load_config(CONFIGS / "deliver.yaml")


def test_a_run_folder_holds_a_description_that_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: deliver\nmodalities: {event: null}\n")
    (tmp_path / "run.yaml").write_text("data: {description: mine.yaml}\n")
    config, folder = load_config(tmp_path / "run.yaml"), tmp_path / "run"
    prepare_folder(folder, config, {"data": tmp_path})
    check_folder(folder, config, resume=True)
    assert "extends" not in (folder / "dataset.yaml").read_text()
    resumed = load_config(folder / "config.yaml")
    assert list(load_description(resumed.data.description).modalities) == ["rgb", "depth", "lidar"]
    check_folder(folder, resumed, resume=True)
    (tmp_path / "mine.yaml").write_text("extends: deliver\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml is not the one that .* was started with"):
        check_folder(folder, config, resume=True)
