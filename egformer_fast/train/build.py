"""From a configuration to the parts of a run: data sets, model, optimizer, loss."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from egformer_fast.data import FolderDataset, check_dataset
from egformer_fast.data import transforms as tf
from egformer_fast.data.random_degraded import RandomDegraded
from egformer_fast.errors import ConfigError, DataError
from egformer_fast.models import EGFormer, create_model
from egformer_fast.train.config import Config, DataConfig
from egformer_fast.train.losses import SegmentationLoss


def make_datasets(config: Config) -> tuple[FolderDataset, FolderDataset]:
    """The training and the validation split; one frame of each is read, so that a wrong root shows at once.

    Raises:
        DataError, FileNotFoundError: the description, the root, a split or the first frame is wrong.
    """
    data = config.data
    transform = make_transform(data, degraded=data.degraded if config.teaches_scores else 0.0)
    train_set, val_set = (
        FolderDataset(data.description, data.root, split, data.modalities, transform, data.cache)
        for split in (data.split, config.eval.split)
    )
    for dataset in (train_set, val_set):
        dataset[0]
    return train_set, val_set


def refuse_faults(dataset: FolderDataset) -> None:
    """Read every frame of a split.

    Raises:
        DataError: names all files that are missing, damaged or not as described.
    """
    problems = check_dataset(dataset).problems
    if problems:
        raise DataError(f"split {dataset.split!r}: {len(problems)} problem(s)\n  " + "\n  ".join(problems))


def make_transform(data: DataConfig, scale_key: str = "data.scale", degraded: float = 0.0) -> tf.Compose:
    """The random changes of a training frame, and the resize that evaluation shares. scale_key: where data.scale is
    from. degraded: probability of a degradation that is drawn aside, for the scores.

    Raises:
        ConfigError: a range of scales without a crop size.
    """
    if data.crop is None and data.scale != [1.0, 1.0]:
        raise ConfigError(f"{scale_key}: found {data.scale} without data.crop, wanted both or neither")
    steps: list[tf.Transform] = []
    if data.resize is not None:
        steps.append(tf.Resize(data.resize))
    if data.crop is not None:
        steps.append(tf.RandomScaleCrop(data.crop, data.scale))
    if data.flip_horizontal or data.flip_vertical:
        steps.append(tf.RandomFlip(data.flip_horizontal, data.flip_vertical))
    if data.quarter_turns:
        steps.append(tf.RandomQuarterTurn())
    if data.photometric:
        steps.append(tf.Photometric(p=data.photometric, blur=data.photometric))
    if data.missing:
        steps.append(tf.RandomMissing(data.missing))
    if data.zeroed:
        steps.append(tf.RandomZeroed(data.zeroed))
    if degraded:
        steps.append(RandomDegraded(degraded, aside=True))
    return tf.Compose(steps)


def make_model(config: Config, dataset: FolderDataset, modalities: dict[str, int], begins: bool = True) -> EGFormer:
    """The configured model for the data set's classes, with new weights that follow from the seed.

    modalities: name -> channels. begins: False where a checkpoint's weights will take the place of these: the starting
    weights are not read, which need not be there any more.

    Raises:
        ConfigError: the model refuses an option, or its starting weights. FileNotFoundError: these are not there.
    """
    options = {name: value for name, value in dataclasses.asdict(config.model).items() if value is not None}
    name, weights = options.pop("name"), options.pop("weights", None)
    torch.manual_seed(config.train.seed)
    try:
        model = create_model(name, len(dataset.classes), modalities, **options)
        if weights is not None and begins:
            print(f"{weights}: {_start_from(model, Path(weights))}")
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    return model


def _start_from(model: EGFormer, weights: Path) -> str:
    """Load a checkpoint folder of an EGFormer, or a file of a SegFormer; what was loaded, in words."""
    from egformer_fast.models.saving import CONFIG
    from egformer_fast.models.transfer import load_egformer
    from egformer_fast.models.weights import load_segformer_weights

    if not weights.exists():
        wanted = "a checkpoint folder, or a .safetensors or .pth file"
        raise FileNotFoundError(f"model.weights: {weights}: no such file or folder; wanted {wanted}")
    folder = weights if weights.is_dir() else weights.parent
    if not (folder / CONFIG).is_file() and not weights.is_dir():
        return str(load_segformer_weights(model, weights))
    fresh = load_egformer(model, folder)
    return "all weights loaded" if not fresh else f"loaded, but for {', '.join(fresh)}"


def make_optimizer(model: Any, objective: torch.nn.Module, config: Config) -> torch.optim.AdamW:
    """AdamW over model.parameter_groups and what the objective learns with; the peak learning rate of a group is its
    `peak_lr`."""
    options = config.train
    groups = model.parameter_groups(options.weight_decay)
    if own := list(objective.parameters()):
        groups.append({"name": "score", "params": own, "weight_decay": options.weight_decay})
    factors = {"encoder": 1.0, "head": options.head_lr_factor, "score": options.score_lr_factor}
    for group in groups:
        group["peak_lr"] = options.lr * factors[group["name"]]
    return torch.optim.AdamW(groups, lr=options.lr, fused=True)


def make_loss(config: Config, num_classes: int, ignore_index: int) -> SegmentationLoss:
    """The configured loss.

    Raises:
        ConfigError: not one class weight a class.
    """
    options = config.train
    if options.class_weights is not None and len(options.class_weights) != num_classes:
        raise ConfigError(
            f"train.class_weights: found {len(options.class_weights)} numbers, wanted one for each of the "
            f"{num_classes} classes"
        )
    return SegmentationLoss(
        options.loss == "ohem",
        options.ohem_threshold,
        options.ohem_min_share,
        options.label_smoothing,
        options.class_weights,
        ignore_index,
        options.jaccard,
    )
