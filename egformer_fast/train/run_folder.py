"""The folder of a run: made, or found again on resuming, before anything is computed.

config.yaml      the whole configuration; its data.description is the copy beside it, so the folder can be moved
dataset.yaml     the description of the data set
log.csv, tensorboard/, pictures/, checkpoints/{last,best}/
"""

from __future__ import annotations

import copy
from pathlib import Path

from egformer_fast.data.sources import self_contained
from egformer_fast.errors import ConfigError
from egformer_fast.train.config import Config
from egformer_fast.train.config_file import flatten, load_config, save_config

# Other keys would make a resumed run one that no configuration describes, or its best score one of two kinds.
FREE_TO_CHANGE = {
    "data.description", "data.root", "data.cache", "data.workers",
    "train.epochs", "train.max_minutes", "train.device", "train.threads", "train.log_every", "train.save_minutes",
    "train.tensorboard", "eval.every", "eval.batch_size", "eval.pictures",
}  # fmt: skip


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
    if self_contained(config.data.description) != (folder / "dataset.yaml").read_text(encoding="utf-8"):
        raise ConfigError(f"data.description: {config.data.description} is not the one that {folder} was started with")


def prepare_folder(folder: Path, config: Config, root: Path) -> None:
    """Write config.yaml and dataset.yaml; raises OSError where the folder cannot be written to.

    root: where the data were found.
    """
    folder.mkdir(parents=True, exist_ok=True)
    description = folder / "dataset.yaml"
    if Path(config.data.description).resolve() != description.resolve():
        description.write_text(self_contained(config.data.description), encoding="utf-8")
    resolved = copy.deepcopy(config)
    resolved.data.description, resolved.data.root = description.name, str(root.resolve())
    # Written last, and in one piece: a folder with config.yaml is a run.
    partial = folder / "config.yaml.partial"
    save_config(resolved, partial)
    partial.replace(folder / "config.yaml")
