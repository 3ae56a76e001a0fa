"""python -m egformer_fast.info: versions, backends, which one each op takes, and what the others lack."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys

import torch

from egformer_fast import __version__, _ext
from egformer_fast.ops import _backend


def _installed(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    if importlib.util.find_spec(package) is None:
        return "not installed"
    try:
        return version(package)
    except PackageNotFoundError:
        return "installed"


def _gpu() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} (CUDA {torch.version.cuda})"
    built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
    return f"none ({built})"


def _library() -> str:
    if _ext.absence:
        return f"none: {_ext.absence}"
    facts = _ext.build_facts()
    return f"built with torch {facts.get('torch', 'unknown')}, CUDA for {facts.get('cuda_archs') or 'no architecture'}"


def _choice(device_type: str) -> str:
    try:
        backend, refusals = _backend.choose(device_type)
    except RuntimeError as error:
        return f"none: {error}"
    return backend + "".join(f"; not {name}: {reason}" for name, reason in refusals.items())


def report() -> str:
    """The whole report as text."""
    lines = [
        f"egformer_fast  {__version__}",
        f"python         {platform.python_version()} on {platform.platform()}",
        f"torch          {torch.__version__}, {torch.get_num_threads()} thread(s)",
        f"C++ library    {_library()}",
        f"triton         {_installed('triton')}",
        f"GPU            {_gpu()}",
        f"forced backend {_backend._forced or 'none'} (EGFORMER_BACKEND={os.environ.get('EGFORMER_BACKEND', '')!r})",
        "",
    ]
    for device_type in ("cpu", "cuda"):
        choice = _choice(device_type)
        for op in _backend.OPS:
            lines.append(f"{op:18} on {device_type:4} -> {choice}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(report() + "\n")
