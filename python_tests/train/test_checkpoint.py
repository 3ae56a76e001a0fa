"""A checkpoint survives a kill at every single file operation, and a disk that is full."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from egformer_fast.train import checkpoint
from egformer_fast.train.checkpoint import CheckpointError, find_checkpoint, load_state, save_state, write_checkpoint


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test may catch it and go on."""


def writer(version: int, size: int = 10) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_text(str(version))
        save_state({"version": version, "tensor": torch.full((size,), version)}, folder)

    return write


def versions(run: Path) -> tuple[int, int]:
    folder = find_checkpoint(run, "last")
    return int((folder / "model.safetensors").read_text()), load_state(folder)["version"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "checkpoints" / "last", writer(1))
    return tmp_path


def kill_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raise Killed instead of doing the number-th of the operations that change or flush files."""
    count = iter(range(10**6))

    def guard(operation: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if next(count) == number:
                raise Killed
            return operation(*args, **kwargs)

        return guarded

    for owner, name in [
        (os, "rename"), (os, "mkdir"), (os, "rmdir"), (os, "unlink"), (os, "fsync"), (torch, "save"),
        (Path, "rename"), (Path, "write_text"),
    ]:  # fmt: skip
        monkeypatch.setattr(owner, name, guard(getattr(owner, name)))


def test_a_kill_at_any_operation_leaves_the_old_or_the_new_checkpoint(tmp_path: Path) -> None:
    outcomes = []
    for number in range(100):
        run = tmp_path / str(number)
        write_checkpoint(run / "checkpoints" / "last", writer(1))
        with pytest.MonkeyPatch.context() as monkeypatch:
            kill_at(number, monkeypatch)
            try:
                write_checkpoint(run / "checkpoints" / "last", writer(2))
                finished = True
            except Killed:
                finished = False
        outcomes.append(versions(run))
        write_checkpoint(run / "checkpoints" / "last", writer(3))
        assert versions(run) == (3, 3)
        assert [folder.name for folder in (run / "checkpoints").iterdir()] == ["last"]
        if finished:
            break
    assert outcomes[-1] == (2, 2)
    assert set(outcomes) == {(1, 1), (2, 2)}
    assert len(outcomes) > 10


def test_a_reader_between_the_two_renames_disturbs_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last, seen, rename = run / "checkpoints" / "last", [], Path.rename

    def read_before(path: Path, target: Path) -> Path:
        seen.append(versions(run))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", read_before)
    write_checkpoint(last, writer(2))
    assert seen == [(1, 1), (1, 1)]
    assert versions(run) == (2, 2)


def test_a_kill_during_the_first_checkpoint_leaves_none(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_at(4, monkeypatch)
        with pytest.raises(Killed):
            write_checkpoint(tmp_path / "checkpoints" / "last", writer(1))
    with pytest.raises(FileNotFoundError, match="no checkpoint there"):
        find_checkpoint(tmp_path, "last")


def test_a_full_disk_is_one_error_and_keeps_the_old_checkpoint(run: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(
            CheckpointError, match=r"last: checkpoint not written .* MiB free .*; the previous one is kept"
        ):
            write_checkpoint(run / "checkpoints" / "last", writer(2, size=100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert versions(run) == (1, 1)
    assert [folder.name for folder in (run / "checkpoints").iterdir()] == ["last"]


def test_find_takes_run_folders_and_checkpoint_folders(run: Path) -> None:
    last = run / "checkpoints" / "last"
    assert find_checkpoint(run, "last") == find_checkpoint(last) == last
    with pytest.raises(FileNotFoundError, match="checkpoints/best"):
        find_checkpoint(run)


def test_state_is_read_without_running_pickles(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"evil": Evil()}, tmp_path / checkpoint.STATE)
    with pytest.raises(CheckpointError, match="state.pt: cannot be read"):
        load_state(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_damaged_and_absent_state(run: Path) -> None:
    state = run / "checkpoints" / "last" / checkpoint.STATE
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="state.pt: cannot be read"):
        load_state(state.parent)
    state.unlink()
    with pytest.raises(CheckpointError, match="state.pt: cannot be read"):
        load_state(state.parent)
