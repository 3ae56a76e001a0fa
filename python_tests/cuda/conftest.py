"""The CUDA kernels on the CPU, for tests: on Linux always, with the toolkit's headers or those of requirements.txt."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import simt_build

sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))  # op_cases


@pytest.fixture(scope="session")
def simt() -> ModuleType:
    if sys.platform != "linux":
        pytest.skip("the layer that executes CUDA kernels on the CPU, and NVIDIA's header packages, are for Linux")
    return simt_build.module()
