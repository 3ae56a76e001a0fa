"""The folder of a run: made, or found again on resuming, before anything is computed.

config.yaml      the whole configuration; its descriptions are the copies beside it, so the folder can be moved
dataset.yaml     the description of the data set; of an adaptation the source's, and target.yaml the target's
log.csv, tensorboard/, pictures/, checkpoints/{last,best}/
"""

from __future__ import annotations

import copy
from pathlib import Path

from egformer_fast.data.sources import self_contained
from egformer_fast.errors import ConfigError
from egformer_fast.files import write_whole
from egformer_fast.train.config import Config
from egformer_fast.train.config_file import flatten, load_config, save_config

# Other keys would make a resumed run one that no configuration describes, or its best score one of two kinds.
FREE_TO_CHANGE = {
    "data.description", "data.root", "data.cache", "data.workers", "target.description", "target.root",
    "train.epochs", "train.max_minutes", "train.device", "train.threads", "train.log_every", "train.save_minutes",
    "train.tensorboard", "eval.every", "eval.batch_size", "eval.pictures", "adapt.collapse_share",
}  # fmt: skip
DESCRIPTIONS = {"data": "dataset.yaml", "target": "target.yaml"}


def holds_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file()


def check_folder(folder: Path, config: Config, resume: bool) -> None:
    """Refuse a folder that this run must not write to.

    Raises:
        ConfigError: the folder is in use and `resume` is off, or the run in it was started with other settings.
    """
    if not holds_run(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"--output: {folder} exists and is not a run folder, wanted a new or an empty folder")
        return
    if not resume:
        raise ConfigError(
            f"--output: {folder} holds a run already, wanted another folder, or --resume to go on with it"
        )
    before, now = flatten(load_config(folder / "config.yaml")), flatten(config)
    for key, value in now.items():
        if value != before[key] and key not in FREE_TO_CHANGE:
            raise ConfigError(f"{key}: found {value!r}, but the run in {folder} was started with {before[key]!r}")
    for section, file in _descriptions(config).items():
        given = getattr(config, section).description
        if self_contained(given) != (folder / file).read_text(encoding="utf-8"):
            raise ConfigError(f"{section}.description: {given} is not the one that {folder} was started with")


def prepare_folder(folder: Path, config: Config, roots: dict[str, Path]) -> None:
    """Write config.yaml and the descriptions; raises OSError where the folder cannot be written to.

    roots: section of the configuration -> where its data were found.
    """
    folder.mkdir(parents=True, exist_ok=True)
    resolved = copy.deepcopy(config)
    for section, name in _descriptions(config).items():
        given, description = getattr(config, section).description, folder / name
        if Path(given).resolve() != description.resolve():
            write_whole(description, self_contained(given).encode())
        copied = getattr(resolved, section)
        copied.description, copied.root = name, str(roots[section].resolve())
    # Written last: a folder with config.yaml is a run.
    save_config(resolved, folder / "config.yaml")


def _descriptions(config: Config) -> dict[str, str]:
    return {section: file for section, file in DESCRIPTIONS.items() if getattr(config, section).description}
