"""The table of the adaptations."""

from __future__ import annotations

from typing import Any

from benchmarks.adaptation_runs import VARIANTS, sweep
from benchmarks.registry import read_result
from benchmarks.tables.shared import markdown, source, table

ADAPTED = {
    "start": "start: trained on the source",
    "wide_start": "wide start: trained on the source, its frames changed as in the adaptation",
    "source_only": "source only: the start trained on as before",
    "wide_source": "source only, its frames changed as in the adaptation",
    "entropy": "entropy minimisation (MinEnt)",
    "mean_teacher": "**mean teacher**",
    "oracle": "trained on the target's labels",
    "short": "the mean teacher in a third of the time; below, without a part or with one more",
}


@table
def adaptation() -> str:
    """Scores on the target by benchmark and method: mean over seeds and how far the seeds lie apart."""
    tables = []
    for benchmark in ("drawn", "ombria"):
        results = _adaptations(benchmark)
        if not results:
            continue
        regions = sorted(next(iter(results.values()))[0]["target"]["conditions"]) if benchmark == "ombria" else []
        regions = [name for name in regions if results["start"][0]["target"]["conditions"][name]["miou"]]
        head = [benchmark, "seeds", "minutes", "mIoU"] + [f"{name}: mIoU, flood IoU" for name in regions]
        rows = []
        for name, label in {**ADAPTED, **{name: name.replace("_", " ") for name in VARIANTS}}.items():
            found = results.get(name, [])
            if found:
                cells = [mean_and_spread([one["target"]["miou"] for one in found])]
                cells += [_region([one["target"]["conditions"][region] for one in found]) for region in regions]
                minutes = sum(one["minutes"] for one in found) / len(found)
                rows.append([label, str(len(found)), f"{minutes:.0f}", *cells])
        last = next(iter(results.values()))[-1]
        below = [gap(results), source({**last, "command": "python -m benchmarks.adaptation"})]
        tables.append("\n\n".join(filter(None, [markdown(head, rows), *below])))
    return "\n\n".join(tables) or "No run has a result file yet."


def gap(results: dict[str, list[dict[str, Any]]]) -> str:
    """What share of the way from source only to the target's labels the mean teacher goes, by means over the seeds."""
    names = ("source_only", "mean_teacher", "oracle")
    if not all(name in results for name in names):
        return ""
    low, adapted, high = (sum(one["target"]["miou"] for one in results[name]) / len(results[name]) for name in names)
    closed = f"{adapted - low:.3f} of {high - low:.3f}, {(adapted - low) / (high - low):.0%}"
    return f"The mean teacher closes {closed}, of the gap between source only and the target's labels."


def _adaptations(benchmark: str) -> dict[str, list[dict[str, Any]]]:
    """Name of a run -> its results, a seed each."""
    results: dict[str, list[dict[str, Any]]] = {}
    for run in sweep():
        if run.benchmark == benchmark and run.result.is_file():
            result = read_result(f"adaptation/{benchmark}/{run.name}_{run.seed}")
            results.setdefault(run.name, []).append(result)
    return results


def _region(reports: list[dict[str, Any]]) -> str:
    return f"{mean_and_spread([r['miou'] for r in reports])}, {mean_and_spread([r['iou']['flood'] for r in reports])}"


def mean_and_spread(values: list[float]) -> str:
    """Mean over the seeds, and half of what lies between the largest and the smallest."""
    half = (max(values) - min(values)) / 2
    return f"{sum(values) / len(values):.3f}" + (f" (± {half:.3f})" if len(values) > 1 else "")
