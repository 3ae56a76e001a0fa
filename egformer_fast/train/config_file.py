"""Reading and writing a configuration: YAML files, and `--set key=value` on top.

Paths may hold `${VARIABLE}` and `~`; in a file they are relative to the file, in `--set` to the working directory. A
file with `extends: other.yaml` starts from the values of that one; a list is taken over or replaced as a whole.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from egformer_fast.data.sources import find_description, is_name
from egformer_fast.errors import ConfigError, as_yaml
from egformer_fast.files import write_whole
from egformer_fast.train.config import KEYS, Config
from egformer_fast.yaml_file import parse_yaml, read_layers


def load_config(path: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """Defaults, then the YAML file and before it what it extends, then each `section.name=value`.

    Raises:
        ConfigError, FileNotFoundError: in one line, with the file or the key.
    """
    # Key -> its last value and what that is relative to. What is replaced is not looked at: a file's ${VARIABLE} need
    # not be set where --set names another place.
    found: dict[str, tuple[Any, Path]] = {}
    if path is not None:
        for file, tree in read_layers(Path(path), "configuration file", ConfigError, _extended):
            found |= {name: (value, file.resolve().parent) for name, value in _flat(tree, file).items()}
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set: found {text!r}, wanted key=value")
        found[name.strip()] = (parse_yaml(value, f"--set {name}", ConfigError), Path.cwd())
    config = Config()
    for name, (value, base) in found.items():
        _assign(config, name, value, base)
    _check(config)
    return config


def save_config(config: Config, path: Path) -> None:
    """Write every key; the file appears whole or not at all."""
    import yaml

    write_whole(path, yaml.safe_dump(dataclasses.asdict(config), sort_keys=False).encode())


def flatten(config: Config) -> dict[str, Any]:
    """All values by key: {"data.description": ..., ...}."""
    return {name: getattr(getattr(config, name.split(".")[0]), name.split(".")[1]) for name in KEYS}


def describe() -> str:
    """One line a key: name, default, allowed values, meaning."""
    defaults = flatten(Config())
    return "\n".join(
        f"{name} = {as_yaml(defaults[name])}: {key.limits['doc']} ({key.wanted()})" for name, key in KEYS.items()
    )


def _assign(config: Config, name: str, value: Any, base: Path) -> None:
    if name not in KEYS:
        raise ConfigError(f"{name}: no such key, the nearest valid one is {_nearest(name)}")
    key = KEYS[name]
    value = key.convert(value)
    if key.limits.get("path") and value:
        path = _expand(name, value)
        value = _shipped(name, path) if name.endswith(".description") and is_name(path) else str(base / path)
    section, leaf = name.split(".")
    setattr(getattr(config, section), leaf, value)


def _shipped(key: str, name: Path) -> str:
    """The file of a shipped description, or ConfigError with the known names."""
    try:
        return str(find_description(name))
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None


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
    for key, scale in (("data.scale", config.data.scale), ("target.scale", config.target.scale)):
        if scale and scale[0] > scale[1]:
            raise ConfigError(f"{key}: found {scale}, wanted the smaller number first")
    if not config.data.description:
        raise ConfigError("data.description: not given, wanted the path of a dataset.yaml")
    keep = config.model.keep
    if keep and sorted(keep, reverse=True) != keep:
        raise ConfigError(f"model.keep: found {keep}, wanted no stage to keep more than the one before")
    if config.train.autocast == "float16" and config.train.device == "cpu":
        raise ConfigError("train.autocast: found 'float16' with train.device 'cpu', wanted bfloat16 or none on the CPU")


def _extended(_: Path, named: str) -> Path:
    return _expand("extends", named)


def _flat(tree: Any, file: Path) -> dict[str, Any]:
    """section.name -> value, of a file's sections."""
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: found {as_yaml(tree)}, wanted the sections data, model, train, eval")
    flat = {}
    for section, entries in tree.items():
        if isinstance(entries, dict):
            flat.update({f"{section}.{name}": value for name, value in entries.items()})
        elif entries is not None or section not in Config.__dataclass_fields__:
            flat[str(section)] = entries
    return flat
