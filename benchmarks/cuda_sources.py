"""The sources of the CUDA kernels, as the reports on them need them; what compiles and runs them without a GPU lives
with its tests (python_tests/cuda)."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "python_tests" / "cuda"))

import cuda_on_cpu  # noqa: E402
import simt_build  # noqa: E402

__all__ = ["KERNELS", "architectures", "cuda_on_cpu", "digest", "simt_build"]

KERNELS = tuple(sorted((simt_build.CSRC / "cuda").glob("*.cu")))


def architectures() -> list[str]:
    """sm_80 and so on: those that a build has machine code for, by CMakeLists.txt's list."""
    found = re.search(r'EGFORMER_CUDA_ARCHS "([^"]+)"', (ROOT / "CMakeLists.txt").read_text())
    assert found is not None
    return [f"sm_{arch.removesuffix('-real')}" for arch in found[1].split(";") if arch.endswith("-real")]


def digest() -> str:
    """Of the kernels and their headers without comments: a report with another one is out of date."""
    headers = {header for kernel in KERNELS for header in simt_build.headers(kernel)}
    files = sorted(file for file in {*KERNELS, *headers} if file.parent.name != "testing")
    texts = [re.sub(r"\s*//.*", "", file.read_text()) for file in files]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
