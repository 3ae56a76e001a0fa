"""What the tests of the benchmarks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


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
