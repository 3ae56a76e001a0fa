"""The registry of cases: a case is a function without arguments that returns a JSON-able dict of what it measured."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from egformer_fast.files import write_whole

RESULTS = Path(__file__).parent / "results"
CASES: dict[str, Callable[[], dict[str, Any]]] = {}


class Unavailable(RuntimeError):
    """A case can't run here; the message says what is missing."""


def case(function: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Register a case under the function's name."""
    CASES[function.__name__] = function
    return function


def machine() -> dict[str, Any]:
    """Where and with what a figure was measured."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def run_case(name: str) -> Path:
    """Run one case and write its result file whole or not at all."""
    started = datetime.datetime.now(datetime.timezone.utc)
    result = {
        "case": name,
        "command": f"python -m benchmarks.run {name}",
        "date": started.date().isoformat(),
        "machine": machine(),
        **CASES[name](),
    }
    return write_result(name, result)


def _lines(result: dict[str, Any]) -> str:
    """JSON with one line for each of the result's `rows`, which can be hundreds."""
    rows = [json.dumps(row) for row in result.get("rows", [])]
    text = json.dumps({**result, "rows": []} if rows else result, indent=1)
    return text.replace('"rows": []', '"rows": [\n  ' + ",\n  ".join(rows) + "\n ]") if rows else text


def write_result(name: str, result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write folder/<name>.json whole or not at all."""
    path = folder / f"{name}.json"
    write_whole(path, (_lines(result) + "\n").encode())
    return path


def read_result(name: str) -> dict[str, Any]:
    """A committed result.

    Raises:
        FileNotFoundError: the case has not been run; the message says how.
    """
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no result; run `python -m benchmarks.run {name}`")
    return dict(json.loads(path.read_text()))
