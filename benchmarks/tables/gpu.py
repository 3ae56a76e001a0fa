"""Tables of what was measured on GPUs: one for each chip that has result files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.registry import RESULTS
from benchmarks.tables.shared import markdown, source, table
from egformer_fast.ops._backend import BACKENDS, OPS

FOLDER = RESULTS / "gpu"
WAYS = ("forward", "forward + backward")
STEPS = [f"{name}{how}" for how in ("", " deterministic") for name in ("reference", "cuda", "triton")]


def tables(head: list[str], names: Sequence[str], rows: Callable[[dict[str, Any]], list[list[str]]], unit: str) -> str:
    """For each chip a table of the rows of the named parts, and the line that says where they come from."""
    chips: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        for path in sorted(FOLDER.glob(f"*_{name}.json")):
            chips.setdefault(path.stem.removesuffix(f"_{name}"), []).append(json.loads(path.read_text()))
    return "\n\n".join(
        markdown(head, [row for part in parts for row in rows(part)]) + f"\n\n{unit}{about(parts[-1])}"
        for parts in chips.values()
    )


def about(data: dict[str, Any]) -> str:
    where = data["machine"]
    smi = where["nvidia_smi"]  # in words where the tool did not answer
    driver = f", driver {smi['driver_version']}" if isinstance(smi, dict) else ""
    return f"{where['chip']}{driver}. " + source(data)


def op_cells(row: dict[str, Any]) -> list[str]:
    """The fastest baseline with its name, then ours with the speedup over it; microseconds. A dash for what failed."""
    seconds = {name: timing["median_s"] for name, timing in row["timings"].items()}
    best = min(((value, name) for name, value in seconds.items() if name not in BACKENDS), default=None)
    cells = ["-" if best is None else f"{1e6 * best[0]:.0f} {best[1]}"]
    for backend in BACKENDS[:2]:
        time = seconds.get(backend)
        speedup = "" if best is None or time is None else f" ({best[0] / time:.1f}x)"
        cells.append("-" if time is None else f"{1e6 * time:.0f}{speedup}")
    return cells


def op_rows(data: dict[str, Any]) -> list[list[str]]:
    places: dict[str, dict[str, list[str]]] = {}
    for row in data["rows"]:
        place = f"{data['op']}; {row['dtype']}, {row['size']}, {row['batch']}, {row['stage'] + 1}"
        place += f" ({row['modalities']} to {row['keep']})"
        places.setdefault(place, {})[row["what"]] = op_cells(row)
    return [[place, *ways[WAYS[0]], *ways[WAYS[1]]] for place, ways in places.items()]


@table
def gpu_ops() -> str:
    """Every place that was measured both ways; one of ours that failed there has a dash."""
    head = ["op; dtype, size, batch, stage (M to K)"]
    head += [f"{way}: {who}" for way in WAYS for who in ("fastest baseline", "cuda", "triton")]
    return tables(head, OPS, op_rows, "Microseconds, medians. ")


def model_rows(data: dict[str, Any]) -> list[list[str]]:
    names = [f"{backend} {mode}" for mode in ("eager", "graph") for backend in ("reference", "cuda", "triton")]
    rows = []
    for row in data["rows"]:
        ms = {name: f"{1000 * timing['median_s']:.2f}" for name, timing in row["timings"].items()}
        place = f"{row['dtype']}, {row['size']}, batch {row['batch']}, keep {', '.join(map(str, row['keep']))}"
        rows.append([place, *(ms.get(name, "-") for name in names)])
    return rows


@table
def gpu_model() -> str:
    head = ["dtype, size, batch, keep"]
    head += [f"{mode}: {who}" for mode in ("eager", "CUDA graph") for who in ("reference", "cuda", "triton")]
    return tables(head, ["model"], model_rows, "Milliseconds, medians. ")


def training_rows(data: dict[str, Any]) -> list[list[str]]:
    rows = []
    for row in data["rows"]:
        ms = {name: f"{1000 * timing['median_s']:.0f}" for name, timing in row["timings"].items()}
        rows.append([f"{row['size']}, batch {row['batch']}", *(ms.get(name, "-") for name in STEPS)])
    return rows


@table
def gpu_training() -> str:
    return tables(["size, batch", *STEPS], ["training"], training_rows, "Milliseconds, medians. ")


def adaptation_rows(data: dict[str, Any]) -> list[list[str]]:
    rows = []
    for row in data["rows"]:
        (timing,) = row["timings"].values()
        median, low, high = (f"{1000 * seconds:.0f}" for seconds in (timing["median_s"], *timing["quartiles_s"]))
        place = f"{row['size']}, batch {row['batch']}"
        memory = f"{timing['peak_bytes'] / 2**30:.1f}"
        rows.append([place, row["method"], row["backend"], f"{median} ({low} to {high})", memory])
    return rows


@table
def gpu_adaptation() -> str:
    head = ["size, batch", "method", "backend", "ms a step", "GiB"]
    return tables(head, ["adaptation"], adaptation_rows, "Medians and quartiles; the most memory of a run. ")


def test_rows(data: dict[str, Any]) -> list[list[str]]:
    counts = ("passed", "failed", "skipped")
    return [
        [f"{row['backend']}: {row['file']}", *(str(row[kind]) for kind in counts), row["problem"] or ""]
        for row in data["rows"]
    ]


@table
def gpu_tests() -> str:
    """Op tests by backend and file, training's, compute-sanitizer's by backend and tool."""
    head = ["backend: file", "passed", "failed", "skipped", "problem"]
    return tables(head, ["tests", "training-tests", "sanitizer"], test_rows, "")
