"""python -m benchmarks.triton_aot: compile every Triton kernel ahead of time, without a GPU, and read what came out.

The launchers run as they would on each chip, over small tensors on the CPU, but only compile (`compiling`): block sizes
and argument specialisations are those of a real launch. From the machine code: registers, spills, shared memory,
tensor-core instructions, 128-bit global loads, and the occupancy that registers and shared memory allow. Nothing here
is a time. Writes benchmarks/results/triton_aot.json; needs triton, and not its interpreter.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget

from benchmarks import machine_code
from benchmarks.registry import machine, write_result
from egformer_fast.triton._common import compiling
from egformer_fast.triton.modality_attention import modality_attention, modality_attention_backward
from egformer_fast.triton.modality_drop import modality_drop, modality_drop_backward
from egformer_fast.triton.modality_score import modality_score, modality_score_backward

# tf32: float32 attention with torch.set_float32_matmul_precision("high").
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Chip:
    """What limits a kernel: bytes of shared memory a block and a multiprocessor, threads, blocks."""

    target: GPUTarget
    shared_block: int
    shared_all: int
    threads: int
    blocks: int


KB = 1024
CHIPS = {
    "sm_80": Chip(GPUTarget("cuda", 80, 32), 163 * KB, 164 * KB, 2048, 32),
    "sm_86": Chip(GPUTarget("cuda", 86, 32), 99 * KB, 100 * KB, 1536, 16),
    "sm_90": Chip(GPUTarget("cuda", 90, 32), 227 * KB, 228 * KB, 2048, 32),
    "sm_100": Chip(GPUTarget("cuda", 100, 32), 227 * KB, 228 * KB, 2048, 32),
    "sm_120": Chip(GPUTarget("cuda", 120, 32), 99 * KB, 100 * KB, 1536, 24),
    "gfx942": Chip(GPUTarget("hip", "gfx942", 64), 64 * KB, 64 * KB, 2048, 32),
}


class NoGpu:
    """What triton asks of a driver to compile for a chip that is not there."""

    launcher_cls = utils = None

    def __init__(self, number: int, target: GPUTarget) -> None:
        self._number, self._target = number, target

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        """One number a target: kernels are cached by it."""
        return self._number

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


def drop(dtype: torch.dtype) -> None:
    x, score = torch.empty((2, 4, 1024, 64), dtype=dtype), torch.empty((2, 4))
    survivors, fused, index, weight = modality_drop(x, score, 2, None, None, 0.0, False, True)
    modality_drop_backward(survivors, fused, weight, x, score, index, weight)


def score(dtype: torch.dtype) -> None:
    x = torch.empty((2, 4, 4096, 64), dtype=dtype)
    weights = [torch.empty(shape, dtype=dtype) for shape in ((16, 64), (16,), (16,), ())]
    scores, pooled = modality_score(x, *weights, None)
    modality_score_backward(scores, pooled, *weights, None)


def attention(name: str, dim: int) -> None:
    dtype = DTYPES[name]
    q, k, v = (torch.empty(shape, dtype=dtype) for shape in ((2, 2, 1024, dim), *[(2, 4, 2, 256, dim)] * 2))
    index, bias = torch.empty((2, 2), dtype=torch.int64), torch.empty((2, 2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    out, lse = modality_attention(q, k, v, index, bias, 0.125)
    modality_attention_backward(out, q, k, v, index, bias, out, lse, 0.125)
    torch.set_float32_matmul_precision(before)


def cases(dtypes: list[str], dims: list[int]) -> Iterator[tuple[str, str, int | None, Callable[[], None]]]:
    for name in dtypes:
        if name != "tf32":
            yield "modality_drop", name, None, functools.partial(drop, DTYPES[name])
            yield "modality_score", name, None, functools.partial(score, DTYPES[name])
        for dim in dims:
            yield "modality_attention", name, dim, functools.partial(attention, name, dim)


def measure(chips: list[str], dtypes: list[str], dims: list[int]) -> list[dict[str, Any]]:
    """One row per compiled kernel."""
    rows = []
    for number, chip in enumerate(CHIPS):
        if chip not in chips:
            continue
        triton.runtime.driver.set_active(NoGpu(number, CHIPS[chip].target))
        for op, dtype, dim, run in cases(dtypes, dims):
            with compiling() as kernels:
                run()
            for name, kernel in kernels:
                facts = read_nvidia(kernel) if chip.startswith("sm_") else read_amd(kernel)
                facts |= {"shared": kernel.metadata.shared, "warps": kernel.metadata.num_warps}
                facts["occupancy"] = round(occupancy(CHIPS[chip], facts), 3)
                rows.append({"chip": chip, "op": op, "dtype": dtype, "dim": dim, "kernel": name, **facts})
    return rows


def read_nvidia(kernel: Any) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = machine_code.output(machine_code.tool("cuobjdump"), "-res-usage", file.name)
        code = machine_code.disassembled(Path(file.name))
    products = machine_code.matrix_products(code)
    return {
        "registers": int(_find(r"REG:(\d+)", usage)),
        "spilled": int(_find(r"STACK:(\d+)", usage)) + int(_find(r"LOCAL:(\d+)", usage)),
        "tensor_core": len(products),
        "tensor_core_by": "/".join(sorted(set(products))),
        "loads": len(re.findall(r"\b(?:LDG|LDGSTS|UTMALDG)\.E", code)),
        "loads_128": len(re.findall(r"\b(?:LDG|LDGSTS)\.E[\w.]*\.128\b", code)),
    }


def read_amd(kernel: Any) -> dict[str, Any]:
    code = kernel.asm["amdgcn"]
    products = re.findall(r"\bv_mfma_", code)
    return {
        "registers": int(_find(r"\.vgpr_count:\s+(\d+)", code)),
        "spilled": sum(int(n) for n in re.findall(r"\.[sv]gpr_spill_count:\s+(\d+)", code)),
        "tensor_core": len(products),
        "tensor_core_by": "MFMA" if products else "",
        "loads": len(re.findall(r"\b(?:global|buffer)_load_", code)),
        "loads_128": len(re.findall(r"\b(?:global|buffer)_load_dwordx4\b", code)),
    }


def occupancy(chip: Chip, facts: dict[str, Any]) -> float:
    """The share of a multiprocessor's threads that can be resident."""
    threads = facts["warps"] * chip.target.warp_size
    if chip.target.backend == "cuda":
        # Registers are given out by 256 a warp; a block takes 1 KB of shared memory besides its own.
        by_registers = 65536 // (-(-facts["registers"] * 32 // 256) * 256 * facts["warps"])
        shared = facts["shared"] + KB
    else:
        waves = min(8, 512 // (-(-facts["registers"] // 8) * 8))  # of one of the four SIMDs
        by_registers, shared = waves * 4 // facts["warps"], max(facts["shared"], 1)
    blocks = min(by_registers, chip.shared_all // shared, chip.threads // threads, chip.blocks)
    return blocks * threads / chip.threads


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"the disassembler's output has no {pattern}")
    return found[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.triton_aot", description=__doc__)
    parser.add_argument("--chips", nargs="*", choices=list(CHIPS), default=list(CHIPS))
    parser.add_argument("--dtypes", nargs="*", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--dims", nargs="*", type=int, default=[16, 32, 64, 128])
    parser.add_argument("--out", type=Path, help="where to write the rows alone; default: the results folder")
    args = parser.parse_args()
    rows = measure(args.chips, args.dtypes, args.dims)
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")
        return
    facts = {
        "case": "triton_aot",
        "command": "python -m benchmarks.triton_aot",
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": machine(),
        "triton": triton.__version__,
    }
    print(write_result("triton_aot", {**facts, "rows": rows}))


if __name__ == "__main__":
    main()
