"""The CUDA kernels on the CPU, for tests; skipped only where there are no CUDA headers to compile them with."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import simt_build

sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))  # op_cases


@pytest.fixture(scope="session")
def simt() -> ModuleType:
    if simt_build.cuda_include() is None:
        pytest.skip("no CUDA headers (cuda_fp16.h); set CUDA_HOME or install the toolkit")
    return simt_build.module()
