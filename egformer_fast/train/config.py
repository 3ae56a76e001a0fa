"""The configuration of a training run: four dataclasses, read from YAML, overridden by `--set key=value`.

Every key is one field below; its default, meaning, range and type stand in that one place, and everything else
(reading, checking, error messages, `describe`) is derived from it. A key is written section.name, as in `train.lr`.
Paths may hold `${VARIABLE}` and `~`; in a file they are relative to the file, in `--set` to the working directory.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egformer_fast.data.sources import find_description, is_name
from egformer_fast.errors import ConfigError
from egformer_fast.train.keys import keys_of, option

METRICS = [f"{where}{name}" for where in ("", "frame_mean.") for name in ("miou", "pixel_accuracy", "fwiou")]


@dataclass
class DataConfig:
    description: str = option(
        "", "dataset.yaml that describes the data set, or the name of one that comes with the package", path=True
    )
    root: str | None = option(None, "folder of the data; null: as the description says", path=True)
    modalities: list[str] | None = option(None, "sensors to use, in this order; null: all of the description")
    split: str = option("train", "split to train on")
    resize: list[int] | None = option(
        None, "height and width that all frames are resized to first, labels and evaluation too", length=2, low=32
    )
    crop: list[int] | None = option(
        None, "height and width of training crops, in pixels; null: whole frames", length=2, low=32
    )
    scale: list[float] = option([1.0, 1.0], "range of the random resize before the crop", length=2, above=0)
    flip_horizontal: bool = option(True, "mirror left and right with probability 1/2")
    flip_vertical: bool = option(False, "mirror top and bottom with probability 1/2 (views from above)")
    quarter_turns: bool = option(False, "turn by a random multiple of 90 degrees (views from above)")
    photometric: float = option(
        0.0, "probability of brightness, contrast, colour and blur changes, RGB only", low=0, high=1
    )
    missing: float = option(0.0, "probability that a sensor is declared missing; one always stays", low=0, high=1)
    zeroed: float = option(
        0.0, "probability that a sensor reads all zeros unannounced; one always lives", low=0, high=1
    )
    cache: bool = option(False, "keep decoded frames in memory")
    workers: int = option(0, "data loading processes; 0: load in the training process", low=0)


@dataclass
class ModelConfig:
    """None leaves the choice to the model (see egformer_fast.models.create_model)."""

    name: str = option("egformer_b0", "egformer_b0 to egformer_b5")
    keep: list[int] | None = option(None, "sensors that survive each of the 4 stages", length=4, low=1)
    threshold: float | None = option(
        None, "also drop sensors that score below this share of the best one", low=0, high=1
    )
    rank: str | None = option(None, "choose sensors per sample or per batch", choices=["sample", "batch"])
    head_dim: int | None = option(None, "channels of the segmentation head", low=1)
    drop_path: float | None = option(None, "stochastic depth at the last block", low=0, high=0.99)
    dropout: float | None = option(None, "dropout before the classifier", low=0, high=0.99)
    gumbel: float | None = option(None, "scale of the Gumbel noise on the ranking while training", low=0)
    early_fusion: bool | None = option(None, "baseline: all channels into one encoder, nothing to drop")
    weights: str | None = option(None, "file of weights to start from, of a SegFormer or an EGFormer", path=True)


@dataclass
class TrainConfig:
    epochs: int = option(100, "passes over the split", low=1)
    max_minutes: float | None = option(
        None,
        "wall-clock budget, evaluations included: the schedule runs over it and "
        "the run ends with it, or with `epochs` if that comes first",
        above=0,
    )
    batch_size: int = option(8, "frames of one forward pass, per process", low=1)
    accumulate: int = option(1, "forward passes of one optimizer step", low=1)
    lr: float = option(6e-5, "peak learning rate of AdamW", above=0)
    head_lr_factor: float = option(1.0, "learning rate outside the encoder, as a multiple of lr", above=0)
    weight_decay: float = option(0.01, "weight decay of matrices and filters (biases, norms, embeddings: 0)", low=0)
    schedule: str = option("poly", "learning rate over the run", choices=["poly", "one_cycle", "constant"])
    warmup: float = option(0.05, "share of the run spent warming up", low=0, high=0.99)
    clip: float | None = option(None, "largest gradient norm; null: not clipped", above=0)
    ema: float | None = option(
        None, "decay of the averaged weights that are evaluated; null: off", low=0, high=0.999999
    )
    autocast: str = option("none", "lower-precision arithmetic", choices=["none", "bfloat16", "float16"])
    loss: str = option("cross_entropy", "loss of a pixel", choices=["cross_entropy", "ohem"])
    ohem_threshold: float = option(
        0.7, "OHEM learns from pixels whose true class has less probability", above=0, high=1
    )
    ohem_min_share: float = option(0.0625, "OHEM learns from at least this share of the pixels", above=0, high=1)
    jaccard: float = option(0.0, "weight of a soft intersection-over-union loss beside the loss of a pixel", low=0)
    label_smoothing: float = option(0.0, "share of the target spread over all classes", low=0, high=0.99)
    class_weights: list[float] | None = option(None, "weight of each class in the loss", low=0)
    wider_keep: float = option(0.5, "probability that a step trains with a random wider keep", low=0, high=1)
    seed: int = option(0, "every random draw of the run follows from it", low=0)
    device: str = option("auto", "auto takes a GPU when there is one", choices=["auto", "cpu", "cuda"])
    threads: int | None = option(None, "CPU threads of the arithmetic; null: torch decides", low=1)
    log_every: int = option(20, "steps between log rows", low=1)
    save_minutes: float = option(10.0, "minutes between checkpoints (one more at each evaluation)", above=0)
    tensorboard: bool = option(True, "write TensorBoard logs too, where it is installed")


@dataclass
class EvalConfig:
    split: str = option("val", "split that chooses the best checkpoint")
    every: int = option(1, "epochs between evaluations (one more at the end)", low=1)
    metric: str = option("miou", "what the best checkpoint is best in", choices=METRICS)
    batch_size: int = option(8, "frames evaluated together", low=1)
    pictures: int = option(4, "frames drawn at each evaluation; 0: none", low=0)


@dataclass
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)


KEYS = keys_of(Config)


def load_config(path: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """Defaults, then the YAML file, then each `section.name=value`; raises ConfigError or FileNotFoundError."""
    config = Config()
    if path is not None:
        path = Path(path)
        for name, value in _read_yaml(path).items():
            _assign(config, name, value, path.resolve().parent)
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set: found {text!r}, wanted key=value")
        _assign(config, name.strip(), _parse_yaml(value, f"--set {name}"), Path.cwd())
    _check(config)
    return config


def save_config(config: Config, path: Path) -> None:
    import yaml

    path.write_text(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False), encoding="utf-8")


def flatten(config: Config) -> dict[str, Any]:
    """All values by key: {"data.description": ..., ...}."""
    return {name: getattr(getattr(config, name.split(".")[0]), name.split(".")[1]) for name in KEYS}


def describe() -> str:
    """One line a key: name, default, allowed values, meaning."""
    defaults = flatten(Config())
    return "\n".join(f"{name} = {defaults[name]!r}: {key.limits['doc']} ({key.wanted()})" for name, key in KEYS.items())


def _assign(config: Config, name: str, value: Any, base: Path) -> None:
    if name not in KEYS:
        raise ConfigError(f"{name}: no such key, the nearest valid one is {_nearest(name)}")
    key = KEYS[name]
    value = key.convert(value)
    if key.limits.get("path") and value:
        path = _expand(name, value)
        value = _shipped(path) if name == "data.description" and is_name(path) else str(base / path)
    section, leaf = name.split(".")
    setattr(getattr(config, section), leaf, value)


def _shipped(name: Path) -> str:
    """The file of a shipped description, or ConfigError with the known names."""
    try:
        return str(find_description(name))
    except ValueError as error:
        raise ConfigError(f"data.description: {error}") from None


def _nearest(name: str) -> str:
    leaf = name.rpartition(".")[2]
    same_leaf = [key for key in KEYS if key.partition(".")[2] == leaf]
    return (same_leaf or difflib.get_close_matches(name, KEYS, n=1, cutoff=0.0))[0]


def _expand(name: str, text: str) -> Path:
    def variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(f"{name}: found {text!r}, but the environment variable {match[1]} is not set")
        return os.environ[match[1]]

    return Path(re.sub(r"\$\{(\w+)\}", variable, text)).expanduser()


def _check(config: Config) -> None:
    """What no key can tell alone."""
    low, high = config.data.scale
    if low > high:
        raise ConfigError(f"data.scale: found {config.data.scale}, wanted the smaller number first")
    if not config.data.description:
        raise ConfigError("data.description: not given, wanted the path of a dataset.yaml")
    keep = config.model.keep
    if keep and sorted(keep, reverse=True) != keep:
        raise ConfigError(f"model.keep: found {keep}, wanted no stage to keep more than the one before")
    if config.train.autocast == "float16" and config.train.device == "cpu":
        raise ConfigError("train.autocast: found 'float16' with train.device 'cpu', wanted bfloat16 or none on the CPU")


def _parse_yaml(text: str, where: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """safe_load that refuses a key given twice instead of silently taking the last."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ConfigError(f"{where}: key {twice[0]} is given twice")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    """The file's sections, flattened to section.name -> value."""
    if not path.is_file():
        raise FileNotFoundError(f"configuration file {path} does not exist")
    tree = _parse_yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: found {tree!r}, wanted the sections data, model, train, eval")
    flat = {}
    for section, entries in tree.items():
        if isinstance(entries, dict):
            flat.update({f"{section}.{name}": value for name, value in entries.items()})
        elif entries is not None or section not in Config.__dataclass_fields__:
            flat[str(section)] = entries
    return flat
