"""What the tests of the benchmarks share."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def as_users_run_it() -> None:
    """The benchmarks run without what the tests switch on."""
    torch.use_deterministic_algorithms(False)
