"""Reading NVIDIA's machine code: the disassembler comes with Triton (a CUDA toolkit need not have one)."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.registry import Unavailable


def tool(name: str) -> Path:
    """cuobjdump or nvdisasm.

    Raises:
        Unavailable: Triton, which brings it, is not installed.
    """
    spec = importlib.util.find_spec("triton")  # found, not imported: that takes a second
    found = spec and spec.origin and Path(spec.origin).parent / "backends" / "nvidia" / "bin" / name
    if not found or not found.is_file():
        raise Unavailable(f"there is no {name}; `pip install triton` brings one")
    return found


def output(*command: Any) -> str:
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


def disassembled(cubin: Path) -> str:
    return output(tool("nvdisasm"), "-c", cubin)


def by_kernel(code: str) -> dict[str, str]:
    """The code of each kernel of a disassembled file, by its mangled name."""
    parts = re.split(r"^\s*\.section\s+\.text\.(\w+),.*$", code, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def matrix_products(code: str) -> list[str]:
    """The instructions that multiply matrices: HMMA by a warp, HGMMA by four (sm_90), UTC... by a block (sm_100)."""
    return re.findall(r"\b(?:HMMA|HGMMA|UTCHMMA|UTCQMMA)\b", code)
