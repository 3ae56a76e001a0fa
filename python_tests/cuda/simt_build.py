"""Compiles the CUDA kernels with g++ over the SIMT layer (csrc/testing), on demand, into build/simt.

`module()` is the kernels as a Python module; `executable("thread")` and `executable("address")` run them under the
sanitizers. Objects are cached by a hash of their source, its headers and the flags.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
CSRC = Path(os.environ.get("EGFORMER_CSRC", ROOT / "csrc"))  # mutate.py names a copy
BUILD = ROOT / "build" / "simt"
COMPILER = os.environ.get("CXX", "g++")
RUNTIME = tuple(f"testing/{name}.cpp" for name in ("fiber", "matrix", "memory", "scheduler", "warp"))
SANITIZERS = {
    "thread": ("-DEGFORMER_TSAN", ["-fsanitize=thread"]),
    "address": ("-DEGFORMER_ASAN", ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]),
}


def nvcc() -> str | None:
    """The compiler of CUDA_HOME, else the one on PATH or in the usual place: where setup.py looks."""
    home = os.environ.get("CUDA_HOME")
    return shutil.which(
        "nvcc", path=f"{home}/bin" if home else os.pathsep.join([os.environ["PATH"], "/usr/local/cuda/bin"])
    )


def cuda_include() -> Path | None:
    """The folder of cuda_fp16.h: of the toolkit, or of NVIDIA's header packages; None where there is none."""
    compiler = nvcc()
    site = Path(sysconfig.get_path("platlib"))
    folders = [
        Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include",
        *([Path(compiler).resolve().parents[1] / "include"] if compiler else []),
        *sorted(Path("/usr/local").glob("cuda-*/include")),
        *sorted((site / "nvidia").glob("*/include")),
    ]
    return next((folder for folder in folders if (folder / "cuda_fp16.h").is_file()), None)


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{result.stdout}{result.stderr}")


@functools.cache
def headers(source: Path) -> frozenset[Path]:
    """The project's headers that a source includes, directly or not."""
    names = re.findall(r'#include "([^"]+)"', source.read_text())
    folders = (source.parent, CSRC / "include", CSRC / "testing")
    found = {(folder / name).resolve() for name in names for folder in folders if (folder / name).is_file()}
    return frozenset(found.union(*map(headers, found)))


def _digest(*parts: bytes | str) -> str:
    return hashlib.sha256(b"\0".join(p.encode() if isinstance(p, str) else p for p in parts)).hexdigest()[:16]


def _compile(source: Path, flags: list[str]) -> Path:
    texts = [path.read_bytes() for path in (source, *sorted(headers(source)))]
    target = BUILD / f"{source.stem}-{_digest(*texts, COMPILER, *flags)}.o"
    if not target.is_file():
        partial = target.with_suffix(f".{os.getpid()}.o")
        _run([COMPILER, *flags, "-x", "c++", "-c", str(source), "-o", str(partial)])
        partial.replace(target)
    return target


def _compile_all(sources: dict[Path, list[str]]) -> list[Path]:
    BUILD.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(_compile, sources.keys(), sources.values()))


def _link(name: str, objects: list[Path], flags: list[str]) -> Path:
    target = BUILD / name.format(_digest(*(path.name for path in objects), *flags))
    if not target.is_file():
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        _run([COMPILER, *map(str, objects), *flags, "-o", str(partial)])
        partial.replace(target)
    return target


def _flags(*more: str) -> list[str]:
    include = cuda_include()
    assert include is not None, "no CUDA headers (cuda_fp16.h): pip install -r requirements.txt, or set CUDA_HOME"
    # Kernels view memory as other types, as nvcc allows.
    common = [
        "-std=c++20",
        "-fno-strict-aliasing",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unknown-pragmas",
        "-DEGFORMER_SIMT",
    ]
    return [*common, f"-I{CSRC / 'include'}", f"-I{CSRC / 'testing'}", f"-isystem{include}", *more]


def _kernels() -> list[Path]:
    """The kernels; csrc/cuda/bindings.cpp and what else needs torch is left out."""
    return [*sorted((CSRC / "cuda").glob("*.cu")), CSRC / "testing" / "samples.cu"]


@functools.cache
def module() -> ModuleType:
    """The kernels, callable with numpy arrays."""
    import pybind11

    flags = _flags("-O2", "-g1", "-fPIC", "-fvisibility=hidden")
    binding_flags = [
        *_flags("-O1", "-fPIC", "-fvisibility=hidden", "-DEGFORMER_MODULE=egformer_simt"),
        f"-isystem{pybind11.get_include()}",
        f"-isystem{sysconfig.get_path('include')}",
    ]
    bindings = [CSRC / "testing" / "bindings.cpp", *sorted((CSRC / "testing").glob("bind_*.cpp"))]
    sources = dict.fromkeys([*_kernels(), *(CSRC / path for path in RUNTIME)], flags)
    objects = _compile_all({**sources, **dict.fromkeys(bindings, binding_flags)})
    library = _link("egformer_simt-{}.so", objects, ["-shared"])
    spec = importlib.util.spec_from_file_location("egformer_simt", library)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["egformer_simt"] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@functools.cache
def executable(sanitizer: str) -> Path:
    """The checks under "thread" or "address" (with undefined behaviour); the scheduler itself is not instrumented."""
    define, sanitize = SANITIZERS[sanitizer]
    kernel_flags = _flags("-O1", "-g", "-fno-omit-frame-pointer", define, *sanitize)
    checks = [CSRC / "testing" / "checks.cpp", *sorted((CSRC / "testing").glob("check_*.cpp"))]
    sources = {
        **dict.fromkeys([*_kernels(), *checks], kernel_flags),
        **dict.fromkeys([CSRC / path for path in RUNTIME], _flags("-O2", "-g", define)),
    }
    return _link(f"{sanitizer}-{{}}", _compile_all(sources), sanitize)
