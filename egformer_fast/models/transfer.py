"""Start a model from another EGFormer: of other modalities, classes or keep, but the same backbone."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from egformer_fast.models import saving
from egformer_fast.models.egformer import EGFormer

EMBEDDING = "inputs.sensor_embedding"


def load_egformer(model: EGFormer, source: str | Path) -> list[str]:
    """Copy what fits from a saved EGFormer, in place, and start the rest as it is.

    A modality's embedding is found by its name; a classifier for another number of classes is left out.

    Args:
        source: a folder that save_pretrained wrote, such as runs/RUN/checkpoints/best.

    Returns:
        Names of the model's tensors that keep their own start.

    Raises:
        FileNotFoundError, ValueError: a file is missing, damaged, or of another backbone, width of head, or kind of
            fusion; the message names it.
    """
    config, weights = saving.load(source)
    for name in ("backbone", "head_dim", "early_fusion"):
        if config[name] != model.config[name]:
            raise ValueError(f"{source}: found {name} {config[name]!r}, wanted {model.config[name]!r}")
    if config.get("fused"):
        raise ValueError(f"{source}: its head was fused for inference and cannot be trained; wanted one that was not")
    own = model.state_dict()
    theirs = {**weights, EMBEDDING: _embedding(own[EMBEDDING], weights[EMBEDDING], model, config["modalities"])}
    fitting = {name: theirs[name] for name in own if name in theirs and theirs[name].shape == own[name].shape}
    model.load_state_dict(fitting, strict=False)
    strangers = [f"{EMBEDDING} of {name}" for name in model.modalities if name not in config["modalities"]]
    return [name for name in own if name not in fitting] + ([] if model.config["early_fusion"] else strangers)


def _embedding(own: Tensor, theirs: Tensor, model: EGFormer, names: dict[str, int]) -> Tensor:
    """(M, C): rows of `theirs` by name, else of `own`."""
    if model.config["early_fusion"]:
        return theirs
    rows = [theirs[list(names).index(name)] if name in names else own[row] for row, name in enumerate(model.modalities)]
    return torch.stack(rows)
