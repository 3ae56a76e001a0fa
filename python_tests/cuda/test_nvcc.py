"""What ptxas makes of the kernels: nothing spilled, no stack, registers and shared memory as their files promise."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from simt_build import CSRC, nvcc

SOURCES = sorted((CSRC / "cuda").glob("*.cu"))
ARCHITECTURES = ("80", "90")
# A thread may use 255 registers; these files promise four blocks of 256 threads on a multiprocessor of 65536.
REGISTERS = {"modality_score": 64, "modality_drop": 64}
STATIC_SHARED = 48 << 10  # more needs dynamic shared memory


@dataclass(frozen=True)
class Usage:
    kernel: str
    stack: int
    spilled: int
    registers: int
    shared: int


def parse(report: str) -> list[Usage]:
    usages = []
    for part in report.split("Compiling entry function '")[1:]:
        stack = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part)
        registers, shared = re.search(r"Used (\d+) registers", part), re.search(r"(\d+) bytes smem", part)
        assert stack and registers, part
        usages.append(
            Usage(
                kernel=part.split("'", 1)[0],
                stack=int(stack[1]),
                spilled=int(stack[2]) + int(stack[3]),
                registers=int(registers[1]),
                shared=int(shared[1]) if shared else 0,
            )
        )
    return usages


def test_a_report_is_understood() -> None:
    report = """ptxas info    : Compiling entry function '_Z1k' for 'sm_80'
    16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 8192 bytes smem, 464 bytes cmem[0]
"""
    assert parse(report) == [Usage("_Z1k", 16, 12, 40, 8192)]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_nothing_is_spilled(source: Path, tmp_path: Path) -> None:
    compiler = nvcc()
    if compiler is None:
        pytest.skip("there is no nvcc in CUDA_HOME, on PATH or in /usr/local/cuda")
    targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in ARCHITECTURES]
    command = [compiler, "-std=c++17", "-O3", "-Xptxas=-v", *targets, f"-I{CSRC / 'include'}", "-c", str(source)]
    result = subprocess.run([*command, "-o", str(tmp_path / "kernel.o")], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr, result.stderr
    usages = parse(result.stderr)
    assert len(usages) >= len(ARCHITECTURES)
    for usage in usages:
        assert usage.stack == 0 and usage.spilled == 0, usage
        assert usage.registers <= REGISTERS.get(source.stem, 255), usage
        assert usage.shared <= STATIC_SHARED, usage
