"""What nvcc makes of the CUDA kernels, for every architecture that a build has machine code for.

By kernel: registers, spilled and stack bytes and static shared memory, as ptxas reports them, and the instructions that
multiply matrices. Dynamic shared memory is the launcher's choice: cuda_counters has it. Nothing here is a time.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine_code
from benchmarks.cuda_sources import KERNELS, architectures, digest, simt_build
from benchmarks.registry import Unavailable, case


def compiler() -> str:
    """nvcc's path.

    Raises:
        Unavailable: there is none.
    """
    found = simt_build.nvcc()
    if found is None:
        raise Unavailable("there is no nvcc in CUDA_HOME, on PATH or in /usr/local/cuda")
    return found


def parse(report: str) -> dict[str, dict[str, int]]:
    """What `ptxas -v` says, by mangled name."""
    usages = {}
    for part in report.split("Compiling entry function '")[1:]:
        stack = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part)
        registers, shared = re.search(r"Used (\d+) registers", part), re.search(r"(\d+) bytes smem", part)
        assert stack and registers, part
        usages[part.split("'", 1)[0]] = {
            "registers": int(registers[1]),
            "spilled": int(stack[2]) + int(stack[3]),
            "stack": int(stack[1]),
            "shared": int(shared[1]) if shared else 0,
        }
    return usages


def plain_name(mangled: str) -> str:
    """drop_kernel<__half, 8>: without namespaces, return type and parameters."""
    name = machine_code.output("c++filt", mangled).strip()
    found = re.search(r"(\w+(?:<[^()]*>)?)\(", re.sub(r"\(anonymous namespace\)::|\(int\)", "", name))
    assert found is not None, name
    return found[1].replace("egformer::", "")


def compiled(source: Path, arch: str) -> list[dict[str, Any]]:
    """One row per kernel of a file. Warnings are errors."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        command = [compiler(), "-std=c++17", "-O3", "-Xptxas=-v", "-cubin", f"-arch={arch}"]
        command += [f"-I{simt_build.CSRC / 'include'}", str(source), "-o", str(cubin)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0 or "warning" in result.stderr:
            raise RuntimeError(f"{source.name}, {arch}:\n{result.stderr}")
        codes = machine_code.by_kernel(machine_code.disassembled(cubin))
    rows = []
    for mangled, usage in parse(result.stderr).items():
        name = {"arch": arch, "file": source.stem, "kernel": plain_name(mangled)}
        rows.append({**name, **usage, "tensor_core": len(machine_code.matrix_products(codes[mangled]))})
    return sorted(rows, key=lambda row: str(row["kernel"]))


def measure(archs: Sequence[str]) -> list[dict[str, Any]]:
    return [row for arch in archs for source in KERNELS for row in compiled(source, arch)]


@case
def cuda_resources() -> dict[str, Any]:
    release = re.search(r"V([\d.]+)", machine_code.output(compiler(), "--version"))
    return {"nvcc": release and release[1], "sources": digest(), "rows": measure(architectures())}
