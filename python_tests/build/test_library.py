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
        ({"EGFORMER_CUDA": "1", "CUDA_HOME": "/no-such-toolkit"}, "EGFORMER_CUDA=1, but there is no nvcc"),
    ],
)
def test_a_build_that_cannot_be_says_why_in_one_sentence(
    tmp_path: Path, environment: dict[str, str], message: str
) -> None:
    result = build(tmp_path, environment, "build_ext")
    assert result.returncode != 0
    assert f"egformer_fast: {message}" in result.stderr
    assert "Traceback" not in result.stderr


def build(folder: Path, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """setup.py in a copy of the sources."""
    for name in ("setup.py", "pyproject.toml", "README.md", "CMakeLists.txt"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(PACKAGE, folder / "egformer_fast", ignore=shutil.ignore_patterns("_C.so", "_build.json"))
    (folder / "egformer_fast/_C.so").write_bytes(b"of an editable install")
    call = [sys.executable, "setup.py", *command]
    return subprocess.run(call, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("known", "taken"),
    [
        (("70", "80", "86", "89", "90"), "-DEGFORMER_CUDA_ARCHS=80-real;86-real;89-real;90-real;90-virtual "),
        (("50", "70"), None),
    ],
)
def test_an_old_toolkit_compiles_for_what_it_knows(tmp_path: Path, known: tuple[str, ...], taken: str | None) -> None:
    """A toolkit that only lists architectures, and a CMake that only says what it was asked for."""
    tools = {"nvcc": "\n".join(f"echo compute_{arch}" for arch in known), "cmake": 'echo "$@" ; exit 1'}
    (tmp_path / "bin").mkdir()
    for name, script in tools.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    places = {"CUDA_HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "EGFORMER_CUDA_ARCHS": ""}
    result = build(tmp_path, places, "build_ext")
    if taken is None:
        assert "knows none of the architectures 80-real;" in result.stderr
    else:
        assert taken in result.stdout
        assert "does not know 100-real, 120-real; CUDA kernels for 80-real" in result.stdout


def test_an_install_without_the_library_takes_none_along(tmp_path: Path) -> None:
    result = build(tmp_path, {"EGFORMER_BUILD": "0"}, "build_py", "--build-lib", "built")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "built/egformer_fast/data/sets/deliver.yaml").is_file()
    assert not (tmp_path / "built/egformer_fast/_C.so").exists()
