"""What the tests of the benchmarks share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.frontier.runs import scenes
from egformer_fast.cli import main as egformer_fast


@pytest.fixture
def as_users_run_it() -> None:
    """The benchmarks run without what the tests switch on."""
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Without AVX-512 a step in bfloat16 has thousands of short parallel loops: beside other work it takes a minute,
    since all threads wait for the one that was put off."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 small frames where the frontier's runs look for them: as many as it takes for a failure in a test frame."""
    runs = tmp_path_factory.mktemp("frontier")
    options = ("--frames", "16", "--size", "32", "--splits", "train=4,val=1,test=11", "--workers", "1")
    assert egformer_fast(("make-data", "--out", str(scenes(runs)), *options)) == 0
    return runs
