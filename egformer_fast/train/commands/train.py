"""egformer-fast train: a configuration in, a run folder out (egformer_fast/train/run_folder.py lists what is in it)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from egformer_fast.train.commands.runs import add_run_options as add_arguments
from egformer_fast.train.commands.runs import carry_out, read_run

if TYPE_CHECKING:
    from egformer_fast.train.distributed import Processes
    from egformer_fast.train.engine import Trainer

__all__ = ["add_arguments", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Train; 0 when the run is complete or a signal stopped it."""
    from egformer_fast.errors import ConfigError
    from egformer_fast.train.build import make_datasets, make_model
    from egformer_fast.train.engine import Trainer

    config, output = read_run(arguments)
    if config.adapts:
        raise ConfigError(f"target.description: found {config.target.description!r}; wanted `egformer-fast adapt`")

    def build(place: Processes, begins: bool) -> tuple[Trainer, dict[str, Any], list[str]]:
        train_set, val_set = make_datasets(config)
        model = make_model(config, train_set, train_set.modalities, begins)
        lines = [f"{len(train_set)} frames to train on, {len(val_set)} to choose the best checkpoint by"]
        return Trainer(config, output, model, train_set, val_set, place), {"data": train_set}, lines

    carry_out(config, output, arguments, build)
    return 0
