"""Shared by every test: fixed seeds, NaN in uninitialised memory, and the list of backends that can run here.

TRITON_INTERPRET=1 adds the Triton kernels on the CPU (`-k triton-cpu` picks them). The interpreter needs milliseconds
for a tile, so there hypothesis draws fewer examples and gradcheck takes its fast mode, unless EGFORMER_TEST_FULL=1.
`--hypothesis-profile=brief` draws as few anywhere: on a GPU Triton compiles for every new kind of shape.
"""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

from egformer_fast import use_backend
from egformer_fast.ops import _backend

SLOW = _backend.INTERPRETED and os.environ.get("EGFORMER_TEST_FULL") != "1"

# Examples are drawn from a fixed seed: a failure is a finding to mend, never a flake.
# The fixture that forces a backend is the same for all examples of a test, as it should be.
settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    max_examples=12 if SLOW else 60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.register_profile("brief", settings.get_profile("repeatable"), max_examples=12)
settings.load_profile("repeatable")

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
BACKENDS = [
    (backend, device)
    for device in DEVICES
    for backend in reversed(_backend.BACKENDS)
    if _backend.refusal(backend, device) is None
]


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    """Seeds, and torch.empty filled with NaN: an element that a kernel forgets to write shows up."""
    random.seed(0)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def gradcheck() -> Callable[..., bool]:
    return functools.partial(torch.autograd.gradcheck, fast_mode=SLOW)


@pytest.fixture(params=DEVICES)
def any_device(request: pytest.FixtureRequest) -> str:
    """A device of which there is one here; the backend is the one that a user gets there."""
    return str(request.param)


@pytest.fixture(params=BACKENDS, ids=lambda pair: "-".join(pair))
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device of the backend under test; the backend is forced while the test runs."""
    backend, device_type = request.param
    with use_backend(backend):
        yield device_type
