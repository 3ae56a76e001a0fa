"""Adapter: the training loop with a target domain beside the source. One batch of each a pass; see __init__.py.

    source   forward and backward of the loss of `egformer-fast train` (and of the feature distance)
    target   teacher -> pseudo-labels -> mixed frames: forward, backward; masked frames: forward, backward

Everything random follows from (seed, number of the batch, rank), so an adaptation in one process resumes to the same
bits; of several each has running statistics of its own, of which rank 0's are saved. No label of the target is read for
training, and no checkpoint is chosen by a score: `last`, the teacher at the end, is the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egformer_fast.data.description import SPARSE_KINDS
from egformer_fast.train.adapt.features import StartingFeatures, last_fused
from egformer_fast.train.adapt.light import jittered, no_return, restyled, thinned
from egformer_fast.train.adapt.pseudo_labels import (
    ClassBalance,
    ClassConfidence,
    CollapseWatch,
    pseudo_label_loss,
    pseudo_labels,
    reliability,
)
from egformer_fast.train.adapt.rare_classes import RareClassFrames, RareClassStream, count_pixels, few_frames, pixels_of
from egformer_fast.train.adapt.running_mean import RunningMean
from egformer_fast.train.adapt.score_statistics import ScoreStatistics
from egformer_fast.train.adapt.views import View, as_view, class_mix, drop_sensors, masked, with_holes_of
from egformer_fast.train.config import Config
from egformer_fast.train.distributed import Processes
from egformer_fast.train.diverged import NamedFrames
from egformer_fast.train.engine import Trainer
from egformer_fast.train.inference import Sensors
from egformer_fast.train.objective import PARTS
from egformer_fast.train.sampling import BatchStream, Labelled, TrainingFrames, batch_rng

SCANNERS = ("lidar", "radar")
# Above any frame number and the numbers of sampling.py and rare_classes.py.
TARGET_ORDER, SOURCE_VIEWS, VIEWS = 5 << 40, 6 << 40, 7 << 40


class Adapter(Trainer):
    """One adaptation of `model` in the folder `output`.

    Args:
        model: an EGFormer for the modalities of both domains, on the CPU.
        source_set: labelled frames. target_set: frames whose labels are not read.
        val_set: frames to score; of the target, where it has a labelled split, and drawn then.
        place: this process among those of the run.

    Raises:
        ConfigError: as Trainer.
    """

    description = "target.yaml"

    def __init__(
        self,
        config: Config,
        output: Path,
        model: Any,
        source_set: Any,
        val_set: Any,
        target_set: Any,
        place: Processes,
    ) -> None:
        super().__init__(config, output, model, source_set, val_set, place)
        options, self.target_set = config.adapt, target_set
        self.names = list(model.modalities)
        self.withheld = _lacking(self.names, val_set)
        pictured = val_set if config.target.eval_split else target_set
        self.pictured = (pictured, _lacking(self.names, pictured))
        self.sensors = [Sensors(model, frames, _lacking(self.names, frames)) for frames in (source_set, target_set)]
        both = (source_set.sensors, target_set.sensors)
        self.coloured = [[n for n, sensor in s.items() if options.hue and _is_colour(sensor)] for s in both]
        # What stands for no return depends on how a data set normalises.
        self.absent = [{n: no_return(sensor) for n, sensor in s.items() if sensor.kind in SPARSE_KINDS} for s in both]
        self.scanners = {n: absent for n, absent in self.absent[0].items() if both[0][n].kind in SCANNERS}
        self.trust, self.scores = RunningMean(), ScoreStatistics(model.stages, model.widest[0])
        self.watch = CollapseWatch(list(source_set.classes), options.collapse_share)
        self.confidence = ClassConfidence(model.num_classes)
        self.balance = ClassBalance(model.num_classes, options.balance)
        self.start: StartingFeatures | None = None
        if options.features:
            held = [source_set.classes.index(name) for name in options.features_classes or []]
            self.start = StartingFeatures(self.model, held)
        self._counts = count_pixels(source_set, place.main) if options.rare_temperature is not None else None

    def _loader(self) -> Iterator[dict[str, Any]]:
        first = self.step * self.config.train.accumulate
        source = super()._loader() if self._counts is None else self._rare_batches(first)
        return source if self.config.adapt.method == "source_only" else self._with_target(source, first)

    def _with_target(self, source: Iterator[dict[str, Any]], first: int) -> Iterator[dict[str, Any]]:
        """Batches of the source from number `first` on, each with one of the target as "target"."""
        for batch, target in zip(source, self._target_batches(first), strict=True):
            yield {**batch, "target": target}

    def _target_batches(self, first: int) -> Iterator[dict[str, Any]]:
        options, place = self.config.train, self.place
        seed = int(np.random.SeedSequence((options.seed, TARGET_ORDER)).generate_state(1)[0])
        order = BatchStream(len(self.target_set), options.batch_size, seed, first, place.rank, place.world)
        return self.batches(TrainingFrames(self.target_set, seed), order)

    def _rare_batches(self, first: int) -> Iterator[dict[str, Any]]:
        adapt, options = self.config.adapt, self.config.train
        assert self._counts is not None and adapt.rare_temperature is not None
        pixels = adapt.rare_pixels or pixels_of(adapt.rare_share, self._counts, self.config.data.crop)
        if few := few_frames(self._counts, pixels, self.train_set.classes):
            self.log.say(few)
        stream = RareClassStream(
            self._counts, pixels, adapt.rare_temperature, options.batch_size, options.seed, first, self.place.rank
        )
        return self.batches(RareClassFrames(self.train_set, options.seed, adapt.rare_share), stream)

    def _backward(self, batch: dict[str, Any], keep: tuple[int, ...], number: int) -> dict[str, float]:
        last = number == self.config.train.accumulate - 1
        target = as_view(batch["target"], self.sensors[1], self.place.device) if "target" in batch else None
        source = self.source_view(batch, target, number)
        with self.arithmetic.exchange(last and target is None):
            values = self._source_pass(source, keep, super().frames_of(batch), self.rng(number, PARTS))
        if target is not None:
            seen = self.frames_of(batch)
            if self.config.adapt.method == "entropy":
                with self.arithmetic.exchange(last):
                    values |= self._entropy_pass(source, target, keep, seen)
            else:
                values |= self._target_passes(source, target, keep, seen, number)
        return {"loss": values["source_loss"] + values.get("target_loss", 0.0), **values}

    def frames_of(self, batch: dict[str, Any]) -> list[NamedFrames]:
        target = [(self.target_set, batch["target"]["name"])] if "target" in batch else []
        return [*super().frames_of(batch), *target]

    def rng(self, number: int, purpose: int) -> np.random.Generator:
        """For batch `number` of this step."""
        count = self.step * self.config.train.accumulate + number
        return batch_rng(self.config.train.seed, count, purpose + self.place.rank)

    def source_view(self, batch: dict[str, Any], target: View | None, number: int) -> View:
        options = self.config.adapt
        source = as_view(batch, self.sensors[0], self.place.device)
        light, style, scan = self.rng(number, SOURCE_VIEWS).spawn(3)
        if target is not None and options.style:
            source = restyled(source, target, self.absent[0], self.names, options.style, style)
        p = options.jitter_probability
        source = thinned(source, self.scanners, options.source_thinning, p, scan)
        return jittered(source, self.absent[0], self.coloured[0], options.source_jitter, p, light)

    def _source_pass(
        self, source: View, keep: tuple[int, ...], seen: list[NamedFrames], rng: np.random.Generator
    ) -> dict[str, float]:
        frames = Labelled(source.inputs, source.present, source.label)
        with last_fused(self.model, self.start is not None) as fused:
            loss, trace, values = self.arithmetic.loss(frames, keep, rng)
        if keep == tuple(self.model.keep):
            # As the teacher keeps; with a wider keep sensors of lower score would count.
            self.trust.update(reliability(trace).mean())
        self.scores.update(_score_tables(trace))
        if self.start is not None:
            with torch.no_grad(), last_fused(self.start.model) as start:
                self.arithmetic.predict(source.inputs, source.present, net=self.start.model, keep=keep)
            distance = self.start.distance(fused[0][: len(source.label)], start[0], source.label)
            loss = loss + self.config.adapt.features * distance
        return {"source_loss": self.descend(loss, seen), **values}

    def _entropy_pass(
        self, source: View, target: View, keep: tuple[int, ...], seen: list[NamedFrames]
    ) -> dict[str, float]:
        """MinEnt: the target's predictions made more certain, in units of the largest entropy."""
        logits = self.arithmetic.predict(target.inputs, target.present, keep=keep).float()
        entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1)[target.inside].mean()
        loss = self.descend(self.config.adapt.entropy * entropy / np.log(self.model.num_classes), seen)
        self._watch(torch.where(target.inside, logits.argmax(1), self.train_set.ignore_index), source)
        return {"target_loss": loss, "pseudo_top_share": self.watch.top()}

    def _watch(self, label: Tensor, source: View) -> None:
        """Say when the labels that the model gives the target collapse."""
        report = self.watch.update(label, source.label, self.step + 1)
        if report:
            self.log.say(report)

    def _target_passes(
        self, source: View, target: View, keep: tuple[int, ...], seen: list[NamedFrames], number: int
    ) -> dict[str, float]:
        """The mixed and the masked pass, with pseudo-labels of the teacher."""
        options, ignore = self.config.adapt, self.train_set.ignore_index
        last = number == self.config.train.accumulate - 1
        # A stream for each, so that a run without one of them draws the same for the others.
        mixing, light, losing, hiding = self.rng(number, VIEWS).spawn(4)
        target, values = self._labelled(target, source)
        if options.mix:
            pasted = with_holes_of(source, *self.absent)
            mixed = class_mix(pasted, target, ignore, self.names, mixing)
        else:
            mixed = target
        mixed = jittered(mixed, self.absent[1], self.coloured[1], options.jitter, options.jitter_probability, light)
        mixed = drop_sensors(mixed, options.drop_sensors, self.names, losing)
        views = [(options.weight, mixed)]
        if options.masked:
            hidden = masked(target, options.mask_block, options.mask_ratio, hiding)
            views += [(options.masked, drop_sensors(hidden, options.drop_sensors, self.names, losing))]
        loss = 0.0
        for weight, view in views:
            final = view is views[-1][1]
            with self.arithmetic.exchange(last and final):
                loss += self._target_pass(view, weight, keep, seen, align=final)
        return {**values, "target_loss": loss}

    def _target_pass(
        self, view: View, weight: float, keep: tuple[int, ...], seen: list[NamedFrames], align: bool
    ) -> float:
        """align: pull the sensors' scores on these frames to those of the source; once a step, in its last pass."""
        options = self.config.adapt
        logits, trace = self.arithmetic.predict(view.inputs, view.present, keep=keep, trace=True)
        loss = weight * pseudo_label_loss(logits, view, self.train_set.ignore_index, options.jaccard)
        if align and options.score_alignment:
            loss = loss + options.score_alignment * self.scores.distance(_score_tables(trace))
        return self.descend(loss, seen)

    @torch.no_grad()
    def _labelled(self, target: View, source: View) -> tuple[View, dict[str, float]]:
        """The target frames with the teacher's labels and their weights; and values for the log."""
        assert self.ema is not None
        options = self.config.adapt
        logits, trace = self.arithmetic.predict(target.inputs, target.present, net=self.ema.model, trace=True)
        probability = logits.float().softmax(1)
        if options.balance:
            self.balance.update(source.label, probability, target.inside)
            probability = self.balance.apply(probability)
        by_class = self.confidence if options.by_class else None
        ignore = self.train_set.ignore_index
        labels = pseudo_labels(probability, target.inside, ignore, options.threshold, by_class)
        trust = reliability(trace)
        weight = labels.weight
        usual = float(self.trust.value)
        if options.score_confidence and usual > 0:
            weight = weight * (trust / usual).clamp(max=1)[:, None, None]
        self._watch(labels.label, source)
        values = {
            "pseudo_share": float(weight[target.inside].mean()),
            "pseudo_confidence": float(labels.confidence),
            "pseudo_top_share": self.watch.top(),
            "reliability": float(trust.mean()),
        }
        return replace(target, label=labels.label, weight=weight), values

    def _take_scores(self, score: float, scores: dict[str, float], report: dict[str, Any]) -> None:
        """Log them; nothing is chosen by them, and `self.best` is the newest score."""
        self.best = score
        self.log.row("eval", {**self._where(), **scores})
        where = f"epoch {self.epoch(self.step):.1f}, {self.seconds() / 60:.1f} min"
        self.log.say(f"{where}: {report['dataset']} {report['split']} {self.config.eval.metric} {score:.4f}")

    def outcome(self) -> str:
        scored = "nothing scored yet" if self.best is None else f"last {self.config.eval.metric} {self.best:.4f}"
        return "; ".join(filter(None, [scored, self.watch.report()]))

    def state_dict(self) -> dict[str, Any]:
        own = {
            "trust": self.trust.state_dict(),
            "scores": self.scores.state_dict(),
            "watch": self.watch.state_dict(),
            "confidence": self.confidence.state_dict(),
            "balance": self.balance.state_dict(),
            "start": None if self.start is None else self.start.state_dict(),
        }
        return {**super().state_dict(), "adapt": own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        own = state["adapt"]
        self.trust.load_state_dict(own["trust"])
        self.scores.load_state_dict(own["scores"])
        self.watch.load_state_dict(own["watch"])
        self.confidence.load_state_dict(own["confidence"])
        self.balance.load_state_dict(own["balance"])
        if self.start is not None:
            self.start.load_state_dict(own["start"])


def _score_tables(trace: Any) -> Tensor:
    """(stages, B, sensors)"""
    return torch.stack([trace.score_table(stage) for stage in range(len(trace.stages))])


def _lacking(names: list[str], frames: Any) -> list[str]:
    return [name for name in names if name not in frames.modalities]


def _is_colour(sensor: Any) -> bool:
    return bool(sensor.kind == "rgb" and len(sensor.mean) == 3)
