"""PREDICTED times of the Triton kernels: bytes over peak bandwidth or FLOPs over peak rate, whichever takes longer.

No GPU was at hand: nothing here or in the tables made of it is measured. A kernel cannot be expected to meet its
prediction: launches (microseconds each), the exponentials of attention and partly filled chips are not in it, and no
chip reaches both of its peaks. Two predictions: one for the floor of triton_traffic, as if a cache served all that is
read again, and one for all bytes that it counted, as if there were no cache. FLOPs are those of the kernels, what
backward computes again included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.ops_cases import Stage
from benchmarks.registry import read_result


@dataclass(frozen=True)
class Peak:
    """Bytes a second and dense FLOPs a second by dtype, as the data sheet states them; the architecture's name."""

    chip: str
    bandwidth: float
    flops: dict[str, float]
    source: str


PEAKS = {
    # Tensor-core rates that a data sheet gives "with sparsity" are halved here.
    "A100": Peak(
        "sm_80",
        2.039e12,
        {"float32": 19.5e12, "tf32": 156e12, "float16": 312e12},
        "NVIDIA A100 Tensor Core GPU data sheet, A100 80GB SXM: 2039 GB/s",
    ),
    "H100": Peak(
        "sm_90",
        3.35e12,
        {"float32": 67e12, "tf32": 494.5e12, "float16": 989.5e12},
        "NVIDIA H100 Tensor Core GPU data sheet, H100 SXM: 3.35 TB/s; TF32 989 and FP16 1979 TFLOPS with sparsity",
    ),
    "B200": Peak(
        "sm_100",
        8e12,
        {"float32": 80e12, "tf32": 1100e12, "float16": 2250e12},
        "NVIDIA Blackwell Architecture Technical Brief, HGX B200, a GPU: 8 TB/s; TF32 2.2 and FP16 4.5 PFLOPS with"
        " sparsity",
    ),
    "MI300X": Peak(
        "gfx942",
        5.3e12,
        {"float32": 163.4e12, "tf32": 653.7e12, "float16": 1307.4e12},
        "AMD Instinct MI300X Accelerator data sheet: 5.3 TB/s; FP32 (matrix and vector) 163.4, TF32 653.7, FP16 1307.4",
    ),
}


def flops(row: dict[str, Any], entering: int, keep: int) -> int:
    """Of one row of triton_traffic, over its whole map."""
    stage = Stage("mit_b0", row["size"], row["stage"], 1, keep)
    tokens = stage.tokens * stage.channels
    backward = row["what"] == "backward"
    if row["op"] == "modality_attention":
        # Products over all queries, kept keys and channels: 2 in forward, 3 for d_q and 4 for d_k and d_v in backward.
        return 2 * (7 if backward else 2) * tokens * keep * stage.keys
    if row["op"] == "modality_drop":
        return (2 * keep + (2 * keep if backward else 0)) * tokens
    layer = entering * max(8, stage.channels // 4) * stage.channels
    return 3 * 2 * layer if backward else entering * tokens + 2 * layer


def _slower(computing: float, moving: float) -> tuple[float, str]:
    return 1e6 * max(computing, moving), "FLOPs" if computing > moving else "bytes"


def predictions() -> list[dict[str, Any]]:
    """For each row of triton_traffic, with float32 attention a second time in TF32: bytes, FLOPs, and for each chip the
    predicted (microseconds, what limits them) for the floor and for all bytes."""
    traffic = read_result("triton_traffic")
    found = []
    for row in traffic["rows"]:
        work = flops(row, traffic["modalities"][row["stage"]], traffic["keep"][row["stage"]])
        attention = row["op"] == "modality_attention"
        for rate in [row["dtype"]] + ["tf32"] * (attention and row["dtype"] == "float32"):
            chips = {}
            for name, peak in PEAKS.items():
                # Score and drop add up in float32, outside the tensor cores.
                computing = work / peak.flops[rate if attention else "float32"]
                whole = row["whole_map"]
                chips[name] = [
                    _slower(computing, moved / peak.bandwidth) for moved in (whole["floor"], whole["bytes"][peak.chip])
                ]
            place = {key: row[key] for key in ("op", "what", "size", "stage")}
            moved = row["whole_map"]["bytes"]["sm_90"]
            found.append({**place, "rate": rate, "bytes": moved, "flops": work, "chips": chips})
    return found
