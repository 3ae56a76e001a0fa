"""From a configuration to the data sets and the model of an adaptation."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from egformer_fast.data import FolderDataset
from egformer_fast.errors import ConfigError
from egformer_fast.train.build import make_transform
from egformer_fast.train.config import Config


def check_adaptation(config: Config) -> None:
    """What the sections target and adapt cannot tell alone.

    Raises:
        ConfigError: names the key, what was found and what is wanted.
    """
    if not config.adapts:
        raise ConfigError("target.description: not given, wanted the dataset.yaml of the target domain")
    if config.adapt.method == "mean_teacher" and config.train.ema is None:
        raise ConfigError("train.ema: found null, wanted the decay of the teacher's average, such as 0.999")


def make_domains(config: Config, world: int = 1) -> tuple[FolderDataset, FolderDataset, FolderDataset]:
    """(source, target, frames to score); one frame of each is read, so that a wrong root shows at once.

    world: number of processes that share a step.

    Raises:
        ConfigError: the two domains have no sensor in common, other classes, or frames of another size; the target has
            fewer frames than a step takes; a split to score has no labels.
        DataError, FileNotFoundError: a description, a root, a split or a first frame is wrong.
    """
    data, target = config.data, config.target
    source_set = FolderDataset(
        data.description, data.root, data.split, data.modalities, make_transform(data), data.cache
    )
    weak = dataclasses.replace(
        data,
        resize=config.size,
        scale=target.scale or data.scale,
        photometric=0.0,
        missing=0.0,
        zeroed=0.0,
    )
    transform = make_transform(weak, "target.scale" if target.scale else "data.scale")

    def of_target(split: str, labels: bool) -> FolderDataset:
        return FolderDataset(target.description, target.root, split, target.modalities, transform, data.cache, labels)

    target_set = of_target(target.split, labels=False)
    if target.eval_split is None:
        val_set = FolderDataset(
            data.description, data.root, config.eval.split, data.modalities, make_transform(data), data.cache
        )
    else:
        val_set = of_target(target.eval_split, labels=True)
        if not val_set.labelled:
            raise ConfigError(
                f"target.eval_split: split {target.eval_split!r} of data set {val_set.name!r} has no labels, wanted "
                "null, or a split that has"
            )
    check_domains(config, source_set, target_set, world)
    val_set[0]
    one, other = (frames.sample(0, np.random.default_rng(0))["label"].shape[-2:] for frames in (source_set, target_set))
    if config.adapt.mix and config.adapt.method == "mean_teacher" and one != other:
        raise ConfigError(
            f"adapt.mix: frames of the source have {tuple(one)} pixels, of the target {tuple(other)}; wanted one size "
            "(data.crop, or data.resize and target.resize)"
        )
    return source_set, target_set, val_set


def check_domains(config: Config, source: Any, target: Any, world: int) -> None:
    """Refuse a pair that cannot be adapted; see make_domains."""
    shared = [name for name in source.modalities if name in target.modalities]
    if not shared:
        raise ConfigError(
            f"target.modalities: found {list(target.modalities)}, wanted at least one of the source's, "
            f"{list(source.modalities)}"
        )
    for name in shared:
        if source.modalities[name] != target.modalities[name]:
            raise ConfigError(
                f"modality {name!r}: found {target.modalities[name]} channel(s) in the target, wanted "
                f"{source.modalities[name]} as in the source"
            )
    strangers = set(config.adapt.features_classes or []) - set(source.classes)
    if strangers:
        raise ConfigError(f"adapt.features_classes: found {sorted(strangers)}, wanted some of {source.classes}")
    if source.classes != target.classes:
        apart = sorted(set(source.classes) ^ set(target.classes)) or "their order"
        raise ConfigError(
            f"the domains differ in their classes ({apart}); wanted one label space: `label.map_to` in a description, "
            "as the shipped deliver19 has it"
        )
    if len(target) < config.train.batch_size * world:
        processes = f" in each of {world} processes" if world > 1 else ""
        raise ConfigError(
            f"train.batch_size: found {config.train.batch_size}{processes}, wanted no more together than the "
            f"{len(target)} frames of target split {target.split!r}"
        )


def all_modalities(source: Any, target: Any) -> dict[str, int]:
    """Name -> channels of the source's sensors, then of those that only the target has."""
    return {**source.modalities, **{n: c for n, c in target.modalities.items() if n not in source.modalities}}


def describe_domains(source: Any, target: Any, scored: Any) -> list[str]:
    """Lines for the start of a run: frames, sensors that one domain lacks, classes that the label space leaves out."""
    lines = [
        f"source {source.name} {source.split}: {len(source)} labelled frames; "
        f"target {target.name} {target.split}: {len(target)} frames, labels not read",
        f"scored: {scored.name} {scored.split}, {len(scored)} frames; nothing is chosen by the scores",
    ]
    for one, other in ((source, target), (target, source)):
        lacking = [name for name in other.modalities if name not in one.modalities]
        if lacking:
            lines.append(f"{one.name} has no {', '.join(lacking)}: missing there")
    for frames in (source, target):
        mapped = frames.description.mapped
        if mapped is not None and mapped.ignored:
            lines.append(f"{frames.name}: ignored, not in {mapped.space.name} or void: {', '.join(mapped.ignored)}")
        if mapped is not None and mapped.empty:
            lines.append(f"{frames.name}: nothing becomes {', '.join(mapped.empty)}")
    return lines
