"""What the training loop does on the validation split: one score that ranks checkpoints, and a grid of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from egformer_fast.errors import DataError
from egformer_fast.train.config import EvalConfig


def validate(
    model: Any, dataset: Any, options: EvalConfig, missing: Sequence[str] = ()
) -> tuple[float, dict[str, float], dict[str, Any]]:
    """Evaluate, with the sensors `missing` withheld.

    Returns: the score that `options.metric` names, the flat scores for the log, the full report.

    Raises:
        DataError: the split has no labelled pixel.
    """
    from egformer_fast.train.evaluate import evaluate

    report = evaluate(model, dataset, batch_size=options.batch_size, missing=missing)
    scores = {**report, **{f"frame_mean.{name}": value for name, value in report["frame_mean"].items()}}
    if scores[options.metric] is None:
        raise DataError(f"split {dataset.split!r} has no labelled pixel, so no checkpoint can be chosen on it")
    return scores[options.metric], {k: v for k, v in scores.items() if isinstance(v, float)}, report


def draw_pictures(model: Any, dataset: Any, count: int, path: Path, missing: Sequence[str] = ()) -> str | None:
    """Write a grid of `count` frames spread over the split; None, or what is missing for it."""
    count = min(count, len(dataset))
    if count == 0:
        return None
    try:
        from egformer_fast.train.pictures import pictures_grid

        path.parent.mkdir(exist_ok=True)
        frames = [number * len(dataset) // count for number in range(count)]
        pictures_grid(model, dataset, frames, path, missing=missing)
    except ImportError as error:
        return f"no pictures: {error}"
    return None
