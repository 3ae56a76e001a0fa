"""Tables of what was measured on GPUs: one set of rows for each chip that has result files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.registry import RESULTS
from benchmarks.tables.shared import markdown, source, table
from egformer_fast.ops._backend import BACKENDS, OPS

FOLDER = RESULTS / "gpu"
WAYS = ("forward", "forward + backward")


def parts(name: str) -> Iterator[dict[str, Any]]:
    """The result files of a part, by chip."""
    for path in sorted(FOLDER.glob(f"*_{name}.json")):
        yield json.loads(path.read_text())


def about(data: dict[str, Any]) -> str:
    where = data["machine"]
    return f"{where['chip']}, driver {where['nvidia_smi']['driver_version']}. " + source(data)


def op_cells(row: dict[str, Any]) -> list[str]:
    """The fastest baseline with its name, then ours with the speedup over it; microseconds."""
    seconds = {name: timing["median_s"] for name, timing in row["timings"].items()}
    best = min((value, name) for name, value in seconds.items() if name not in BACKENDS)
    ours = [f"{1e6 * seconds[b]:.0f} ({best[0] / seconds[b]:.1f}x)" if b in seconds else "-" for b in BACKENDS[:2]]
    return [f"{1e6 * best[0]:.0f} {best[1]}", *ours]


@table
def gpu_ops() -> str:
    """Every place that was measured both ways; one of ours that failed there has a dash."""
    head = ["op; dtype, size, batch, stage (M to K)"]
    head += [f"{way}: {who}" for way in WAYS for who in ("fastest baseline", "cuda", "triton")]
    rows, last = [], None
    for op in OPS:
        for data in parts(op):
            places: dict[str, dict[str, list[str]]] = {}
            for row in data["rows"]:
                place = f"{row['dtype']}, {row['size']}, {row['batch']}, {row['stage'] + 1}"
                place += f" ({row['modalities']} to {row['keep']})"
                places.setdefault(place, {})[row["what"]] = op_cells(row)
            rows += [[f"{op}; {place}", *ways[WAYS[0]], *ways[WAYS[1]]] for place, ways in places.items()]
            last = data
    assert last is not None
    return markdown(head, rows) + "\n\nMicroseconds, medians. " + about(last)


@table
def gpu_model() -> str:
    rows, last = [], None
    for data in parts("model"):
        for row in data["rows"]:
            ms = {name: f"{1000 * timing['median_s']:.2f}" for name, timing in row["timings"].items()}
            names = [f"{backend} {mode}" for mode in ("eager", "graph") for backend in ("reference", "cuda", "triton")]
            keep = ", ".join(map(str, row["keep"]))
            place = f"{row['dtype']}, {row['size']}, batch {row['batch']}, keep {keep}"
            rows.append([place, *(ms.get(name, "-") for name in names)])
        last = data
    assert last is not None
    head = ["dtype, size, batch, keep"]
    head += [f"{mode}: {who}" for mode in ("eager", "CUDA graph") for who in ("reference", "cuda", "triton")]
    return markdown(head, rows) + "\n\nMilliseconds, medians. " + about(last)


@table
def gpu_tests() -> str:
    """Op tests by backend and file, compute-sanitizer's by backend and tool."""
    rows, last = [], None
    for data in [*parts("tests"), *parts("sanitizer")]:
        for row in data["rows"]:
            counts = [str(row[kind]) for kind in ("passed", "failed", "skipped")]
            rows.append([f"{row['backend']}: {row['file']}", *counts, row["problem"] or ""])
        last = data
    assert last is not None
    return markdown(["backend: file", "passed", "failed", "skipped", "problem"], rows) + "\n\n" + about(last)
