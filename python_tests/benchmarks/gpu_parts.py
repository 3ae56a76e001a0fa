"""A part of the GPU measurements on the CPU, and what it has written."""

from __future__ import annotations

import json
import time
from pathlib import Path

from benchmarks.gpu.part import Part


def part(folder: Path, name: str = "made", seconds: float = 1000.0) -> Part:
    return Part(name, "cpu", folder, True, time.time() + seconds)


def read(folder: Path, name: str = "made") -> dict:
    return json.loads((folder / f"cpu_{name}.json").read_text())
