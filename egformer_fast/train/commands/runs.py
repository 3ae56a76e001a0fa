"""What `train` and `adapt` share: their options, the configuration, and the course of a run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from egformer_fast.train.config import Config
    from egformer_fast.train.distributed import Processes
    from egformer_fast.train.engine import Trainer


class _Keys(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from egformer_fast.train.config_file import describe

        print(describe())
        parser.exit()


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """--config, --set, --output, --resume, --check and --keys."""
    parser.add_argument("--config", type=Path, help="YAML file; not needed with --resume")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="overrides one key, such as train.lr=1e-4; repeat",
    )
    parser.add_argument("--output", type=Path, help="run folder (default: runs/<name of the configuration file>)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --output, or start it where there is none yet"
    )
    parser.add_argument("--check", action="store_true", help="read every frame of all splits first, report all faults")
    parser.add_argument("--keys", action=_Keys, nargs=0, help="list all configuration keys and exit")


def read_run(arguments: argparse.Namespace) -> tuple[Config, Path]:
    """(configuration, run folder). Raises ConfigError, FileNotFoundError."""
    from egformer_fast.errors import ConfigError
    from egformer_fast.train.config_file import load_config
    from egformer_fast.train.run_folder import holds_run

    if arguments.config is None and arguments.output is None:
        raise ConfigError("--config: not given, wanted a configuration file, or --resume with --output")
    output = arguments.output or Path("runs") / arguments.config.stem
    source = arguments.config
    if source is None:
        if not (arguments.resume and holds_run(output)):
            raise ConfigError(f"--config: not given, and there is no run to --resume in {output}")
        source = output / "config.yaml"
    return load_config(source, arguments.set), output


def carry_out(
    config: Config,
    output: Path,
    arguments: argparse.Namespace,
    build: Callable[[Processes, bool], tuple[Trainer, dict[str, Any], list[str]]],
) -> None:
    """Check everything that can be checked, then train to the end or to a signal.

    build: from this process's place, and whether the run begins, to (trainer, section of the configuration -> its data
    set, lines to print).
    """
    import torch

    from egformer_fast.train.build import refuse_faults
    from egformer_fast.train.checkpoint import holds_checkpoint
    from egformer_fast.train.determinism import determinism
    from egformer_fast.train.distributed import processes
    from egformer_fast.train.run_folder import check_folder, prepare_folder

    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    with determinism(config.train.deterministic), processes(config.train.device) as place:
        if place.main:
            check_folder(output, config, arguments.resume)
        trainer, frames, lines = build(place, not holds_checkpoint(output, "last"))
        if arguments.check and place.main:
            for dataset in [*frames.values(), trainer.val_set]:
                refuse_faults(dataset)
        if place.main:
            prepare_folder(output, config, {section: dataset.root for section, dataset in frames.items()})
        # The others read the folder after rank 0 has prepared it.
        place.largest([0.0])
        trainer.resume()
        if place.main:
            model = trainer.model
            weights = sum(parameter.numel() for parameter in model.parameters()) / 1e6
            print(f"{config.model.name}: {weights:.2f} M parameters, keeps {model.keep} of {list(model.modalities)}")
            print("\n".join(lines))
            steps = f"step {trainer.step} of {trainer.total_steps}"
            print(f"{steps} on {place.world} x {place.device} -> {output}", flush=True)
        finished = trainer.fit()
        if place.main:
            how = "finished" if finished else "stopped by a signal and saved; --resume goes on from here"
            print(f"{output}: {how} after {trainer.step} steps, {trainer.seconds() / 60:.1f} min; {trainer.outcome()}")
