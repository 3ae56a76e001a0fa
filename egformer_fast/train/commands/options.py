"""Options that `eval` and `predict` share."""

from __future__ import annotations

import argparse

from egformer_fast.errors import ConfigError
from egformer_fast.train.inference import TTA_VIEWS
from egformer_fast.train.loading import LoadedRun


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The checkpoint and how to run it."""
    parser.add_argument("--checkpoint", required=True, help="run folder (its best checkpoint), or a checkpoint folder")
    parser.add_argument("--missing", type=names, default=[], help="sensors to withhold: s2_before,s2_after")
    parser.add_argument("--keep", type=numbers, help="sensors to keep at each of the 4 stages: 2,1,1,1 or 2,0,0,0")
    parser.add_argument("--tta", choices=list(TTA_VIEWS), default="none", help="average over mirrored or turned views")
    parser.add_argument("--batch-size", type=positive, default=8, help="frames at a time (default 8)")
    parser.add_argument("--workers", type=int, default=0, help="processes that load frames (default 0)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Which frames of a described data set."""
    parser.add_argument("--data", help="another dataset.yaml than the checkpoint's, or a shipped one's name")
    parser.add_argument("--root", help="folder of the data, in place of the one in the run's config or description")


def check_keep(run: LoadedRun, keep: list[int] | None) -> None:
    """Raise ConfigError where `keep` is not a number for each stage that the model can keep there."""
    most = run.model.widest
    least = [0 if stage > 0 and run.model.flow == "merged" else 1 for stage in range(len(most))]
    bounds = zip(least, most, strict=True)
    if keep is None:
        return
    if len(keep) != len(most) or not all(low <= k <= high for k, (low, high) in zip(keep, bounds, strict=True)):
        low, found, high = (",".join(map(str, some)) for some in (least, keep, most))
        raise ConfigError(f"--keep: found {found}, wanted {len(most)} numbers, from {low} to {high}")


def names(text: str) -> list[str]:
    """ "a,b" -> ["a", "b"]"""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str) -> list[int]:
    """ "2,1,1,1" -> [2, 1, 1, 1]"""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted numbers such as 2,1,1,1") from None


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted a whole number of at least 1")
    return int(text)
