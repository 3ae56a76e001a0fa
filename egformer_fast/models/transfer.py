"""Start a model from another EGFormer: of other modalities, classes or keep, but the same backbone."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from egformer_fast.models import saving
from egformer_fast.models.egformer import EGFormer

EMBEDDING = "inputs.sensor_embedding"
SHARED = ("backbone", "head_dim", "early_fusion", "flow")  # what both models must have alike


def load_egformer(model: EGFormer, source: str | Path) -> list[str]:
    """Copy what fits from a saved EGFormer, in place, and start the rest as it is.

    A modality's embedding or own patch embedding is found by its name; a classifier for another number of classes is
    left out; a modality's own patch embedding that the source lacks starts from the encoder's, as always.

    Args:
        source: a folder that save_pretrained wrote, such as runs/RUN/checkpoints/best.

    Returns:
        Names of the model's tensors that keep their own start.

    Raises:
        FileNotFoundError, ValueError: a file is missing, damaged, or of another backbone, width of head, flow or kind
            of fusion; the message names it.
    """
    config, weights = saving.load(source)
    config.setdefault("flow", "separate")  # checkpoints older than the choice
    own = model.state_dict()
    absent = [name for name in (*SHARED, "modalities") if name not in config]
    if absent:
        raise ValueError(f"{source}: not a saved EGFormer: {absent} is missing in it")
    for name in SHARED:
        if config[name] != model.config[name]:
            raise ValueError(f"{source}: found {name} {config[name]!r}, wanted {model.config[name]!r}")
    if config.get("fused"):
        raise ValueError(f"{source}: its head was fused for inference and cannot be trained; wanted one that was not")
    theirs = {**weights}
    if EMBEDDING in own:
        if EMBEDDING not in weights:
            raise ValueError(f"{source}: not a saved EGFormer: {EMBEDDING} is missing in it")
        theirs[EMBEDDING] = _embedding(own[EMBEDDING], weights[EMBEDDING], model, config["modalities"])
    fitting = {name: theirs[name] for name in own if name in theirs and theirs[name].shape == own[name].shape}
    strange = [stem for stem in model.inputs.stems if f"inputs.stems.{stem}.proj.weight" not in fitting]
    prefixes = tuple(f"inputs.stems.{stem}." for stem in strange)
    fitting = {name: tensor for name, tensor in fitting.items() if not name.startswith(prefixes)}
    model.load_state_dict(fitting, strict=False)
    model.inputs.restart_stems(strange)
    fresh = [name for name in own if name not in fitting]
    if EMBEDDING in own and not model.config["early_fusion"]:
        fresh += [f"{EMBEDDING} of {name}" for name in model.modalities if name not in config["modalities"]]
    return fresh


def _embedding(own: Tensor, theirs: Tensor, model: EGFormer, names: dict[str, int]) -> Tensor:
    """(M, C): rows of `theirs` by name, else of `own`."""
    if model.config["early_fusion"]:
        return theirs
    rows = [theirs[list(names).index(name)] if name in names else own[row] for row, name in enumerate(model.modalities)]
    return torch.stack(rows)
