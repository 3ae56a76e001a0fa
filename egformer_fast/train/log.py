"""What a run writes down as it goes: log.csv, TensorBoard, and a progress bar with throughput and time left.

log.csv has a row every few steps (`kind` train) and one per evaluation (`kind` eval); cells that do
not apply are empty.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

COLUMNS = [
    "kind",
    "step",
    "epoch",
    "progress",
    "minutes",
    "loss",
    "source_loss",
    "target_loss",
    "pseudo_share",
    "pseudo_confidence",
    "pseudo_top_share",
    "reliability",
    "lr",
    "grad_norm",
    "frames_per_s",
    "miou",
    "pixel_accuracy",
    "fwiou",
    "frame_mean.miou",
    "frame_mean.pixel_accuracy",
    "frame_mean.fwiou",
]
# What a row of training has as a mean over the steps since the row before; the adaptation has all.
AVERAGED = ["loss", "source_loss", "target_loss", "pseudo_share", "pseudo_confidence", "reliability"]
BAR_SECONDS, QUIET_SECONDS = 0.2, 30.0


class RunLog:
    """The log of one run; on resuming at `step`, rows written after that step are cut away, for they come again.

    every: steps between rows, which hold means over these steps.

    enabled=False (ranks other than 0) writes nothing.
    """

    def __init__(self, folder: Path, step: int, every: int, tensorboard: bool, enabled: bool = True) -> None:
        self.enabled, self.every = enabled, every
        self.restart_averages()
        self._board: Any = None
        self._spoke = time.monotonic()
        if not enabled:
            return
        from tqdm import tqdm

        self._file = _open_csv(folder / "log.csv", step)
        self._csv = csv.DictWriter(self._file, COLUMNS, extrasaction="ignore")
        self._bar = tqdm(total=1.0, bar_format="{percentage:3.0f}%|{bar:30}| {desc}", disable=None, leave=False)
        if tensorboard:
            self._board = _tensorboard(folder / "tensorboard", step)

    def restart_averages(self) -> None:
        """Begin a new mean of loss and throughput; call it after a pause in training."""
        self._sums: dict[str, float] = {}
        self._steps = 0
        self._frames, self._since = 0, time.monotonic()

    def step(self, values: dict[str, float], frames: int, seconds_left: float) -> None:
        """Report one optimizer step on `frames` frames; values: step, epoch, progress, loss, and more of COLUMNS."""
        if not self.enabled:
            return
        for name in values.keys() & set(AVERAGED):
            self._sums[name] = self._sums.get(name, 0.0) + values[name]
        self._steps += 1
        self._frames += frames
        means = {name: total / self._steps for name, total in self._sums.items()}
        speed = self._frames / (time.monotonic() - self._since)
        step, epoch = values["step"], values["epoch"]
        text = f"step {step}, epoch {epoch:.1f}, {_losses(means)}, {speed:.1f} frames/s, {_clock(seconds_left)} left"
        self._show(values["progress"], text)
        if step % self.every == 0:
            self.row("train", {**values, **means, "frames_per_s": speed})
            self.restart_averages()

    def row(self, kind: str, values: dict[str, float]) -> None:
        """Write one row; `values` has step and any of COLUMNS."""
        if not self.enabled:
            return
        self._csv.writerow({"kind": kind, **{name: _cell(value) for name, value in values.items()}})
        self._file.flush()
        if self._board is not None:
            for name in values.keys() & set(COLUMNS[4:]):
                self._board.add_scalar(f"{kind}/{name}", values[name], int(values["step"]))

    def _show(self, progress: float, text: str) -> None:
        """Move the bar; where stderr is no terminal, print a line now and then."""
        self._bar.n = progress
        self._bar.set_description_str(text, refresh=False)
        pause = time.monotonic() - self._spoke
        if not self._bar.disable and pause > BAR_SECONDS:
            self._spoke = time.monotonic()
            self._bar.refresh()
        elif self._bar.disable and pause > QUIET_SECONDS:
            self.say(f"{100 * progress:3.0f}% {text}")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self.enabled:
            self._spoke = time.monotonic()
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        if self.enabled:
            self._bar.close()
            self._file.close()
            if self._board is not None:
                self._board.close()


def _open_csv(path: Path, step: int) -> Any:
    kept: list[dict[str, str]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            kept = [row for row in csv.DictReader(file) if (row["step"] or "").isdigit() and int(row["step"]) <= step]
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
    partial.replace(path)
    return path.open("a", newline="", encoding="utf-8")


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("no TensorBoard logs: pip install egformer_fast[log]", file=sys.stderr)
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


def _losses(means: dict[str, float]) -> str:
    """The loss, or in an adaptation those of both domains and how far a teacher is sure of the target."""
    if "target_loss" not in means:
        return f"loss {means['loss']:.3f}"
    both = f"loss source {means['source_loss']:.3f} target {means['target_loss']:.3f}"
    if "pseudo_share" not in means:
        return both
    return f"{both} ({100 * means['pseudo_share']:.0f} % sure at {means['pseudo_confidence']:.2f})"


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
