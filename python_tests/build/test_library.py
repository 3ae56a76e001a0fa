"""The compiled library and life without it: one set of schemas, clear reasons, the same results."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import egformer_fast
from egformer_fast.ops import _register

PACKAGE = Path(egformer_fast.__file__).parent
ROOT = PACKAGE.parent


def python(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=path, capture_output=True, text=True)


@pytest.fixture
def unbuilt(tmp_path: Path) -> Path:
    """A copy of the package without its library, as an install with EGFORMER_BUILD=0 leaves it."""
    shutil.copytree(PACKAGE, tmp_path / "egformer_fast", ignore=shutil.ignore_patterns("_C.so", "_build.json"))
    return tmp_path


def test_cpp_and_python_write_the_same_schemas() -> None:
    """Whoever defines an op (the library where it is there), torch holds what the Python side says."""
    for op in _register._ops.values():
        for kernel in (op.forward, op.backward):
            wanted = torch._C.parse_schema(f"egformer_fast::{kernel.name}{kernel.schema}")
            for suffix in _register.suffixes():
                held = getattr(torch.ops.egformer_fast, kernel.name + suffix).default._schema
                assert str(held).replace(kernel.name + suffix, kernel.name, 1) == str(wanted)


def test_everything_works_without_the_library(unbuilt: Path) -> None:
    code = """
import torch, egformer_fast
from egformer_fast import info
from egformer_fast.models import egformer_b0
model = egformer_b0(3, ["a", "b"])
model({"a": torch.randn(2, 3, 64, 64), "b": torch.randn(2, 3, 64, 64)}).sum().backward()
print(info.report())
"""
    result = python(code, unbuilt)
    assert result.returncode == 0, result.stderr
    assert "modality_drop      on cpu  -> reference" in result.stdout
    assert "not cpu: the C++ library is not built; `pip install .`" in result.stdout


def test_a_library_that_does_not_load_is_a_reason_not_an_error(unbuilt: Path) -> None:
    (unbuilt / "egformer_fast" / "_C.so").write_bytes(b"no library")
    result = python("import egformer_fast; from egformer_fast import _ext; print(_ext.absence)", unbuilt)
    assert result.returncode == 0, result.stderr
    assert f"the C++ library does not load under torch {torch.__version__}" in result.stdout


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CXX": "no-such-compiler"}, "there is no C++ compiler (no-such-compiler); install g++"),
        ({"EGFORMER_CUDA": "yes"}, "EGFORMER_CUDA must be auto, 1 or 0, got 'yes'"),
        ({"EGFORMER_CUDA": "1"}, "EGFORMER_CUDA=1, but"),
    ],
)
def test_a_build_that_cannot_be_says_why_in_one_sentence(
    tmp_path: Path, environment: dict[str, str], message: str
) -> None:
    for name in ("setup.py", "pyproject.toml", "README.md", "CMakeLists.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(PACKAGE, tmp_path / "egformer_fast", ignore=shutil.ignore_patterns("_C.so", "_build.json"))
    result = subprocess.run(
        [sys.executable, "setup.py", "build_ext"],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert f"egformer_fast: {message}" in result.stderr
    assert "Traceback" not in result.stderr
