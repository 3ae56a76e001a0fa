"""A model as a folder: config.json beside model.safetensors (the layout of the Hugging Face hub)."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from egformer_fast.files import write_whole

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
MODEL_TYPE = "egformer"
Model = TypeVar("Model", bound=nn.Module)


def save(folder: str | Path, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Write both files, each under another name first: a kill in mid-write leaves no half file under its own name."""
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
    partial = folder / (WEIGHTS + ".partial")
    save_file(tensors, partial, metadata={"format": "pt"})
    os.replace(partial, folder / WEIGHTS)
    write_whole(folder / CONFIG, (json.dumps({"model_type": MODEL_TYPE, **config}, indent=2) + "\n").encode())


def load(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(constructor arguments, state_dict).

    Raises:
        FileNotFoundError: a file is missing. ValueError: a file is damaged or of another model; both name the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name}: no such file; a model folder holds {CONFIG} and {WEIGHTS}")
    try:
        config = json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: not valid JSON: {error}") from None
    found = config.pop("model_type", None) if isinstance(config, dict) else None
    if found != MODEL_TYPE:
        raise ValueError(f"{folder / CONFIG}: model_type must be {MODEL_TYPE!r}, got {found!r}")
    try:
        return config, load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS}: not a valid safetensors file: {error}") from None


def build(model: Callable[..., Model], config: dict[str, Any], folder: str | Path) -> Model:
    """model(**config), or ValueError: the file's arguments are not those of the model, or one is out of range."""
    file, known = Path(folder) / CONFIG, inspect.signature(model).parameters
    strange = [name for name in config if name not in known]
    absent = [name for name, argument in known.items() if argument.default is argument.empty and name not in config]
    if strange or absent:
        raise ValueError(f"{file}: does not fit the model: unknown {strange}, missing {absent}")
    try:
        return model(**config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def fill(model: nn.Module, weights: dict[str, Tensor], folder: str | Path) -> None:
    """load_state_dict with one line for what does not fit."""
    own = model.state_dict()
    missing = [name for name in own if name not in weights]
    extra = [name for name in weights if name not in own]
    shapes = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or extra or shapes:
        raise ValueError(
            f"{Path(folder) / WEIGHTS}: does not fit {CONFIG}: {len(missing)} missing {missing[:3]},"
            f" {len(extra)} unknown {extra[:3]}, {len(shapes)} of another shape {shapes[:3]}"
        )
    model.load_state_dict(weights)
