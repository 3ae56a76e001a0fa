"""egformer-fast train: a configuration in, a run folder out (egformer_fast/train/run_folder.py lists what is in it)."""

from __future__ import annotations

import argparse
from pathlib import Path


class _Keys(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from egformer_fast.train.config_file import describe

        print(describe())
        parser.exit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument("--check", action="store_true", help="read every frame of both splits first, report all faults")
    parser.add_argument("--keys", action=_Keys, nargs=0, help="list all configuration keys and exit")


def run(arguments: argparse.Namespace) -> int:
    """Check everything that can be checked, then train; 0 when the run is complete or a signal stopped it."""
    import torch

    from egformer_fast.errors import ConfigError
    from egformer_fast.train.build import make_datasets, make_model, refuse_faults
    from egformer_fast.train.config_file import load_config
    from egformer_fast.train.distributed import processes
    from egformer_fast.train.engine import Trainer
    from egformer_fast.train.run_folder import check_folder, holds_run, prepare_folder

    if arguments.config is None and arguments.output is None:
        raise ConfigError("--config: not given, wanted a configuration file, or --resume with --output")
    output = arguments.output or Path("runs") / arguments.config.stem
    source = arguments.config
    if source is None:
        if not (arguments.resume and holds_run(output)):
            raise ConfigError(f"--config: not given, and there is no run to --resume in {output}")
        source = output / "config.yaml"
    config = load_config(source, arguments.set)
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    with processes(config.train.device) as place:
        if place.main:
            check_folder(output, config, arguments.resume)
        train_set, val_set = make_datasets(config)
        if arguments.check and place.main:
            for dataset in (train_set, val_set):
                refuse_faults(dataset)
        model = make_model(config, train_set)
        trainer = Trainer(config, output, model, train_set, val_set, place)
        if place.main:
            prepare_folder(output, config, train_set.root)
        # The others read the folder after rank 0 has prepared it.
        place.largest([0.0])
        trainer.resume()
        if place.main:
            weights = sum(parameter.numel() for parameter in model.parameters()) / 1e6
            print(f"{config.model.name}: {weights:.2f} M parameters, keeps {model.keep} of {list(model.modalities)}")
            print(f"{len(train_set)} frames to train on, {len(val_set)} to choose the best checkpoint by")
            steps = f"step {trainer.step} of {trainer.total_steps}"
            print(f"{steps} on {place.world} x {place.device} -> {output}", flush=True)
        finished = trainer.fit()
        if place.main:
            how = "finished" if finished else "stopped by a signal and saved; --resume goes on from here"
            best = "no evaluation yet" if trainer.best is None else f"best {config.eval.metric} {trainer.best:.4f}"
            print(f"{output}: {how} after {trainer.step} steps, {trainer.seconds() / 60:.1f} min; {best}")
    return 0
