"""Tables of the CUDA kernels: no times."""

from __future__ import annotations

from typing import Any

from benchmarks.registry import read_result
from benchmarks.tables.shared import markdown, source, table

# Name in the counters, name in the machine code, with 16-byte pieces or D = 32.
CUDA_KERNELS = {
    "modality_score, pooling": ("modality_score: pool", "pool_kernel<{type}, {piece}>"),
    "modality_drop": ("modality_drop", "drop_kernel<{type}, {piece}>"),
    "modality_drop, backward": ("modality_drop: backward", "drop_backward_kernel<{type}, {piece}>"),
    "modality_attention": ("modality_attention", "modality_attention_kernel<{type}, 32>"),
    "modality_attention, queries' gradient": ("modality_attention_d_queries", "d_queries_kernel<{type}, 32>"),
    "modality_attention, keys' gradients": ("modality_attention_d_keys", "d_keys_kernel<{type}, 32>"),
}
CUDA_TYPES = {"bfloat16": ("__nv_bfloat16", 8), "float32": ("float", 4)}


@table
def cuda() -> str:
    """The main CUDA kernels: registers over all architectures, and the counters of all stages; no times."""
    resources, counters = read_result("cuda_resources"), read_result("cuda_counters")
    rows = []
    for label, (counted, compiled) in CUDA_KERNELS.items():
        cells = []
        for dtype, (type_, piece) in CUDA_TYPES.items():
            name = compiled.format(type=type_, piece=piece)
            cells.append(
                _cuda_cells(
                    [row for row in resources["rows"] if row["kernel"] == name],
                    [row for row in counters["rows"] if row["kernel"] == counted and row["dtype"] == dtype],
                )
            )
        rows.append([label, *(" / ".join(pair) for pair in zip(*cells, strict=True))])
    head = ["kernel, bfloat16 / float32", "registers", "spilled bytes", "tensor-core instructions", "shared memory"]
    head += ["sectors over the floor", "bank conflicts"]
    archs = ", ".join(dict.fromkeys(row["arch"] for row in resources["rows"]))
    command = "python -m benchmarks.run cuda_resources cuda_counters"
    about = source({**counters, "command": command})
    return markdown(head, rows) + f"\n\nnvcc {resources['nvcc']}: {archs}. " + about


def _cuda_cells(compiled: list[dict[str, Any]], counted: list[dict[str, Any]]) -> list[str]:
    registers = [row["registers"] for row in compiled]
    return [
        "-".join(str(n) for n in sorted({min(registers), max(registers)})),
        str(sum(row["spilled"] for row in compiled)),
        str(max(row["tensor_core"] for row in compiled)),
        f"{max(row['shared_bytes'] for row in counted) / 1024:.1f} KiB",
        f"{max((row['load_sectors'] + row['store_sectors']) / row['floor'] for row in counted):.2f}",
        str(sum(row["bank_conflicts"] for row in counted)),
    ]
