"""Checkpoint folders that appear whole or not at all.

    write   everything into NAME.partial, flushed to the disk
    swap    NAME -> NAME.previous, then NAME.partial -> NAME, then NAME.previous is deleted
    read    NAME, or NAME.previous where a kill fell between the two renames

Renaming is atomic and the new folder is complete before the old one moves, so a kill or a full disk at any moment
leaves a loadable checkpoint. (One rename cannot do it: a folder that is not empty is never replaced; a symbolic link
could be, but breaks when users copy the folder.)
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

STATE = "state.pt"
FRAMES = "frames.json"


class CheckpointError(OSError):
    """A checkpoint could not be written or read; the message names the folder and the cause."""


def write_checkpoint(folder: Path, write: Callable[[Path], None]) -> None:
    """Replace `folder` by a new one that `write` fills.

    Raises:
        CheckpointError: writing failed, on a full disk for instance; the checkpoint that was there is still there.
    """
    partial, previous = _beside(folder, "partial"), _beside(folder, "previous")
    _repair(folder)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        write(partial)
        for file in partial.iterdir():
            _flush(file)
        _flush(partial)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(_failure(folder, error)) from error
    if folder.exists():
        folder.rename(previous)
    partial.rename(folder)
    _flush(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def find_checkpoint(path: str | Path, name: str = "best") -> Path:
    """The checkpoint folder that `path` means: a run folder (its checkpoint `name`) or a checkpoint folder itself.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path)
    inside = path / "checkpoints" / name
    folder = inside if inside.parent.is_dir() else path
    if not folder.exists() and _beside(folder, "previous").exists():
        # Nothing is repaired here: a training may be between its two renames.
        folder = _beside(folder, "previous")
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"{path}: no checkpoint there; wanted a run folder with checkpoints/{name}, or a folder"
            " with model.safetensors"
        )
    return folder


def holds_checkpoint(path: Path, name: str) -> bool:
    """Whether find_checkpoint finds one."""
    try:
        find_checkpoint(path, name)
    except FileNotFoundError:
        return False
    return True


def save_size(size: Sequence[int] | None, folder: Path) -> None:
    """Write the height and width that frames are resized to as frames.json; no file where they are not."""
    if size is not None:
        (folder / FRAMES).write_text(json.dumps({"size": list(size)}) + "\n", encoding="utf-8")


def load_size(folder: Path) -> tuple[int, int] | None:
    """What save_size wrote.

    Raises:
        CheckpointError: the file is damaged.
    """
    if not (folder / FRAMES).is_file():
        return None
    try:
        height, width = json.loads((folder / FRAMES).read_text(encoding="utf-8"))["size"]
        return int(height), int(width)
    except (ValueError, TypeError, KeyError) as error:
        wanted = '{"size": [height, width]}'
        raise CheckpointError(f"{folder / FRAMES}: cannot be read, wanted {wanted}: {error}") from error


def save_state(state: dict[str, Any], folder: Path) -> None:
    """Write tensors and plain values as state.pt."""
    torch.save(state, folder / STATE)


def load_state(folder: Path) -> dict[str, Any]:
    """Read state.pt onto the CPU; it holds nothing but tensors and plain values, and nothing else is unpickled.

    Raises:
        CheckpointError: it is absent or damaged.
    """
    try:
        state: dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{folder / STATE}: cannot be read: {_first_line(error)}") from error
    return state


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f"{folder.name}.{suffix}")


def _repair(folder: Path) -> None:
    """Finish what a kill between the two renames left undone."""
    previous = _beside(folder, "previous")
    if previous.exists() and not folder.exists():
        previous.rename(folder)
    elif previous.exists():
        shutil.rmtree(previous, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have the file's content, or the folder's list of names, on the disk before what comes next."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failure(folder: Path, error: Exception) -> str:
    parent = next(path for path in folder.absolute().parents if path.exists())
    free = shutil.disk_usage(parent).free / 2**20
    kept = "the previous one is kept" if folder.exists() else "nothing was saved there before"
    return f"{folder}: checkpoint not written ({_first_line(error)}; {free:.0f} MiB free on that disk); {kept}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
