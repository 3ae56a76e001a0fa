"""What a day's result files say, in a few lines for the terminal."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from egformer_fast.ops._backend import BACKENDS


def parts(folder: Path, chip: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(folder.glob(f"{chip}_*.json")):
        yield path.stem.removeprefix(f"{chip}_"), json.loads(path.read_text())


def state(data: dict[str, Any]) -> str:
    if "absent" in data:
        return f"not run: {data['absent']}"
    found = [f"{len(data['rows'])} rows"] + ([] if data["complete"] else ["not finished"])
    if data["failures"]:
        found.append(f"{len(data['failures'])} failures, {sum(f['ours'] for f in data['failures'])} of ours")
    found += [f"left out after a crash: {', '.join(data['lost'])}"] * bool(data["lost"])
    found += [f"no time for {len(data['not_reached'])} places"] * bool(data["not_reached"])
    return ", ".join(found)


def tests(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        counts = f"{row['passed']} passed, {row['failed']} failed, {row['skipped']} skipped"
        yield f"{row['backend']}: {row['file']}: {counts}" + (f" ({row['problem']})" if row["problem"] else "")


def speedups(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Geometric means of each backend's speedup over the fastest baseline of each place."""
    ratios: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        seconds = {name: timing["median_s"] for name, timing in row["timings"].items()}
        baselines = [value for name, value in seconds.items() if name not in BACKENDS]
        for name in BACKENDS:
            if name in seconds and baselines:
                ratios[name, row["what"], row["dtype"]].append(min(baselines) / seconds[name])
    for (name, what, dtype), values in ratios.items():
        mean, low = statistics.geometric_mean(values), min(values)
        yield f"{name}, {what}, {dtype}: {mean:.2f}x the fastest baseline ({len(values)} places, lowest {low:.2f}x)"


def latencies(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        found = [f"{name} {1000 * timing['median_s']:.2f}" for name, timing in row["timings"].items()]
        yield f"{row['size']}, batch {row['batch']}, {row['dtype']}, keep {row['keep']}: {', '.join(found)} ms"


def steps(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        found = [f"{name} {1000 * timing['median_s']:.1f}" for name, timing in row["timings"].items()]
        yield f"a step at {row['size']}, batch {row['batch']}: {', '.join(found)} ms"


def details(name: str, data: dict[str, Any]) -> Iterator[str]:
    """The figures of a part; a rehearsal has none that mean anything."""
    if name in ("tests", "training-tests", "sanitizer"):
        yield from tests(data["rows"])
    elif data["rehearsal"]:
        yield "figures of a rehearsal, which mean nothing"
    elif name == "ceilings":
        yield from (f"{what}: {rate:.3e} a second" for row in data["rows"] for what, rate in row["rates"].items())
    elif name in ("training", "adaptation"):
        yield from steps(data["rows"])
    elif name == "model":
        yield from latencies(data["rows"])
    else:
        yield from speedups(data["rows"])


def report(folder: Path, chip: str) -> str:
    """The whole text."""
    lines = []
    for name, data in parts(folder, chip):
        lines.append(f"{name}, {data['date']}: {state(data)}")
        lines += [f"  {line}" for line in details(name, data)]
        ours = [failure for failure in data["failures"] if failure["ours"]]
        lines += [f"  failed: {f['implementation']} at {f['where']}: {f['error']}" for f in ours]
    return "\n".join(lines) if lines else f"nothing was written to {folder}"
