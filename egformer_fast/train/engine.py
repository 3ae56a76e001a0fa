"""The training loop. In outline, what `Trainer.fit` does:

    while progress < 1 and no signal came:
        after every `eval.every` epochs: evaluate, draw pictures, save checkpoints best (if it is) and last
        one optimizer step: draw keep; `accumulate` forward and backward passes; clip; AdamW; EMA
        every `save_minutes`: save checkpoint last

All a step draws follows from (seed, step), see sampling.py, so the state to restore is: step, weights, averaged
weights, optimizer, time spent and the best score. A run whose schedule counts steps resumes to the same bits; one that
counts minutes (`max_minutes`) cannot.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from egformer_fast.errors import ConfigError
from egformer_fast.models import saving
from egformer_fast.train import checkpoint
from egformer_fast.train.arithmetic import Arithmetic
from egformer_fast.train.build import make_loss
from egformer_fast.train.config import Config
from egformer_fast.train.distributed import Processes
from egformer_fast.train.diverged import DivergedError, NamedFrames
from egformer_fast.train.ema import Ema
from egformer_fast.train.log import RunLog
from egformer_fast.train.objective import PARTS, Objective
from egformer_fast.train.sampling import (
    BatchStream,
    TrainingFrames,
    batch_rng,
    draw_keep,
    keep_rng,
    load_batches,
    step_seed,
    to_device,
)
from egformer_fast.train.schedule import lr_factor
from egformer_fast.train.signals import Interrupted, StopSignals
from egformer_fast.train.validation import draw_pictures, validate


class Trainer:
    """One training run of `model` in the folder `output`.

    Args:
        model: an EGFormer, on the CPU.
        train_set, val_set: FolderDatasets; the model's modalities are theirs, in their order.
        place: this process among those of the run.

    Attributes:
        withheld: modalities of the model that the validation set does not have.
        pictured: the frames of the pictures and the modalities that they lack.
        description: file in `output` that says how the model's inputs are read; every checkpoint holds a copy.

    Raises:
        ConfigError: fewer frames than a batch, class weights that do not match the classes, float16 without a GPU.
    """

    withheld: list[str] = []
    description = "dataset.yaml"

    def __init__(
        self, config: Config, output: Path, model: Any, train_set: Any, val_set: Any, place: Processes
    ) -> None:
        options = config.train
        self.config, self.output, self.place = config, output, place
        self.train_set, self.val_set = train_set, val_set
        self.pictured: tuple[Any, list[str]] = (val_set, [])
        self.model = model.to(place.device)
        self.ema = None if options.ema is None else Ema(self.model, options.ema, options.ema_ramp)
        self.evaluated_model: Any = self.model if self.ema is None else self.ema.model
        loss = make_loss(config, model.num_classes, train_set.ignore_index)
        self.objective = Objective(options, loss, self.model, train_set.ignore_index).placed(place)
        self.arithmetic = Arithmetic(self.model, self.objective, config, place)
        self.batches_per_epoch = len(train_set) // (options.batch_size * place.world)
        if self.batches_per_epoch == 0:
            raise ConfigError(
                f"train.batch_size: found {options.batch_size} on {place.world} processes, wanted no more "
                f"than the {len(train_set)} frames of split {config.data.split!r}"
            )
        self.total_steps = max(1, options.epochs * self.batches_per_epoch // options.accumulate)
        self.step = self.evaluated_step = 0
        self.best: float | None = None
        self.progress = self._earlier_seconds = 0.0
        self._began = time.monotonic()

    def fit(self) -> bool:
        """Train to the end (True), or until SIGTERM or Ctrl-C (False); either way checkpoint `last` is saved.

        Raises DivergedError, CheckpointError: see there.
        """
        self._began = self._saved = time.monotonic()
        options = self.config.train
        self.log = RunLog(self.output, self.step, options.log_every, options.tensorboard, self.place.main)
        try:
            with StopSignals() as signals:
                frames = self._loader()
                while not self._is_over(signals):
                    if self._evaluation_is_due():
                        self._evaluate(signals)
                        continue
                    self._train_step(frames)
                    if time.monotonic() - self._saved > 60 * options.save_minutes:
                        self.save("last")
                self.save("last")
        finally:
            self.log.close()
        return not signals.received

    def seconds(self) -> float:
        """Wall-clock time of the run so far, from its first start and without pauses between stop and resume."""
        return self._earlier_seconds + time.monotonic() - self._began

    def outcome(self) -> str:
        return "no evaluation yet" if self.best is None else f"best {self.config.eval.metric} {self.best:.4f}"

    def epoch(self, step: int) -> float:
        return step * self.config.train.accumulate / self.batches_per_epoch

    def _is_over(self, signals: StopSignals) -> bool:
        """Whether to leave the loop; all processes answer alike."""
        seconds, stop = self.place.largest([self.seconds(), float(signals.received)])
        self.progress = self._progress_after(seconds)
        signals.received = signals.received or bool(stop)
        return signals.received or (self.progress >= 1 and not self._evaluation_is_due())

    def _progress_after(self, seconds: float) -> float:
        minutes = self.config.train.max_minutes
        return min(1.0, max(self.step / self.total_steps, seconds / 60 / minutes if minutes else 0.0))

    def _evaluation_is_due(self) -> bool:
        if self.progress >= 1:
            return self.evaluated_step < self.step
        every = self.config.eval.every
        return self.epoch(self.step) // every > self.epoch(self.evaluated_step) // every

    def _loader(self) -> Iterator[dict[str, Any]]:
        options, place = self.config.train, self.place
        order = len(self.train_set), options.batch_size, options.seed, self.step * options.accumulate
        stream = BatchStream(*order, place.rank, place.world)
        return self.batches(TrainingFrames(self.train_set, options.seed), stream)

    def batches(self, frames: Any, stream: Any) -> Iterator[dict[str, Any]]:
        """Batches of `frames`, whose keys `stream` gives, from the run's loading processes."""
        return load_batches(frames, stream, self.config.data.workers, self.place.device.type == "cuda")

    def _train_step(self, frames: Iterator[dict[str, Any]]) -> None:
        """One optimizer step: `accumulate` batches, each weighing the same."""
        options = self.config.train
        self.model.train()
        torch.manual_seed(step_seed(options.seed, self.step, self.place.rank))
        keep = draw_keep(self.model.keep, self.model.widest, keep_rng(options.seed, self.step), options.wider_keep)
        factor = lr_factor(options.schedule, self.progress, options.warmup)
        self.arithmetic.set_rate(factor)
        seen: list[NamedFrames] = []
        values: dict[str, float] = {}
        for number in range(options.accumulate):
            batch = next(frames)
            seen += self.frames_of(batch)
            for name, value in self._backward(batch, keep, number).items():
                values[name] = values.get(name, 0.0) + value / options.accumulate
        norm = self.arithmetic.gradient_norm()
        if not self.arithmetic.is_step(norm):
            raise self._diverged("gradient norm", norm, seen)
        self.arithmetic.step()
        if self.ema is not None:
            self.ema.update(self.model)
        self.step += 1
        self._report_step({**values, "grad_norm": norm}, factor, options.accumulate * len(batch["name"]))

    def frames_of(self, batch: dict[str, Any]) -> list[NamedFrames]:
        """Which frames a batch is made of, for an error."""
        return [(self.train_set, batch["name"])]

    def _backward(self, batch: dict[str, Any], keep: tuple[int, ...], number: int) -> dict[str, float]:
        """Add the gradients of batch `number` of this step; returns values for the log, "loss" among them."""
        options, frames = self.config.train, to_device(batch, self.place.device)
        rng = batch_rng(options.seed, self.step * options.accumulate + number, PARTS + self.place.rank)
        with self.arithmetic.exchange(number == options.accumulate - 1):
            loss, _, values = self.arithmetic.loss(frames, keep, rng)
            return {"loss": self.descend(loss, self.frames_of(batch)), **values}

    def descend(self, loss: Tensor, seen: list[NamedFrames]) -> float:
        """Add a batch's gradients; returns its loss. seen: the frames that it depends on.

        Raises:
            DivergedError: the loss is not finite.
        """
        value = loss.item()
        if not math.isfinite(value):
            raise self._diverged("loss", value, seen)
        self.arithmetic.backward(loss)
        return value

    def _diverged(self, what: str, value: float, seen: list[NamedFrames]) -> DivergedError:
        return DivergedError.at(f"step {self.step + 1}, epoch {self.epoch(self.step):.2f}", what, value, seen)

    def _report_step(self, values: dict[str, float], factor: float, frames: int) -> None:
        where = {**self._where(), "lr": self.config.train.lr * factor}
        self.log.step({**where, **values}, frames * self.place.world, self.seconds() * (1 / where["progress"] - 1))

    def _where(self) -> dict[str, float]:
        """Where in the run this is, for a log row."""
        seconds, epoch = self.seconds(), self.epoch(self.step)
        return {"step": self.step, "epoch": epoch, "progress": self._progress_after(seconds), "minutes": seconds / 60}

    def _evaluate(self, signals: StopSignals) -> None:
        """Score the evaluated model on the validation split, on rank 0 alone; a signal gives it up."""
        if self.place.main:
            model, frames, options = self.evaluated_model, self.val_set, self.config.eval
            picture = self.output / "pictures" / f"step_{self.step:06}.png"
            try:
                with signals.giving_up():
                    score, scores, report = validate(model, frames, options, self.withheld)
                    lacking = draw_pictures(model, self.pictured[0], options.pictures, picture, self.pictured[1])
            except Interrupted:
                return
            if lacking:
                self.log.say(lacking)
                options.pictures = 0
            self._take_scores(score, scores, report)
        self.evaluated_step = self.step
        self.save("last")
        self.log.restart_averages()

    def _take_scores(self, score: float, scores: dict[str, float], report: dict[str, Any]) -> None:
        """Log an evaluation; the best so far becomes checkpoint `best`."""
        better = self.best is None or score > self.best
        where = self._where()
        self.log.row("eval", {**where, **scores})
        self.log.say(
            f"epoch {where['epoch']:.1f}, {where['minutes']:.1f} min: {self.config.eval.split} "
            f"{self.config.eval.metric} {score:.4f}" + (" (best so far)" if better else f" (best {self.best:.4f})")
        )
        if better:
            self.best = score
            self.save("best", report)

    def save(self, name: str, report: dict[str, Any] | None = None) -> None:
        """Write checkpoint `name`, on rank 0; "last" also holds what `resume` needs."""
        if not self.place.main:
            return

        def write(folder: Path) -> None:
            self.evaluated_model.save_pretrained(folder)
            shutil.copyfile(self.output / self.description, folder / "dataset.yaml")
            checkpoint.save_size(self.config.size, folder)
            if report is not None:
                (folder / "evaluation.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
            if name == "last":
                checkpoint.save_state(self.state_dict(), folder)

        checkpoint.write_checkpoint(self.output / "checkpoints" / name, write)
        self._saved = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """What `resume` needs: tensors and plain values."""
        where = {"step": self.step, "evaluated_step": self.evaluated_step, "best": self.best, "seconds": self.seconds()}
        return {
            **where,
            "world": self.place.world,
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            **self.arithmetic.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
        }

    def resume(self) -> bool:
        """Go on from checkpoint `last` of the output folder; False where there is none yet. Call it before `fit`.

        Raises:
            CheckpointError: it cannot be read. ConfigError: it is of another number of processes.
        """
        if not checkpoint.holds_checkpoint(self.output, "last"):
            return False
        folder = checkpoint.find_checkpoint(self.output, "last")
        self.load_state_dict(checkpoint.load_state(folder))
        return True

    def load_state_dict(self, state: dict[str, Any]) -> None:
        world = state.get("world", self.place.world)  # older checkpoints do not say
        if world != self.place.world:  # steps would be of another size, and the schedule another one
            raise ConfigError(f"--resume: {self.output} was started with {world} process(es), found {self.place.world}")
        saving.fill(self.model, state["model"], self.output / "checkpoints" / "last")
        self.objective.load_state_dict(state.get("objective", {}))
        self.arithmetic.load_state_dict(state)
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.step, self.evaluated_step, self.best = state["step"], state["evaluated_step"], state["best"]
        self._earlier_seconds = state["seconds"]
