"""The table of the adaptations."""

from __future__ import annotations

from collections import Counter
from typing import Any

from benchmarks.adaptation_runs import VARIANTS, sweep
from benchmarks.registry import read_result
from benchmarks.tables.shared import markdown, source, table

ADAPTED = {
    "start": "start: trained on the source",
    "wide_start": "wide start: trained on the source, its frames changed",
    "source_only": "source only: the start trained on as before",
    "wide_source": "source only, its frames changed as in the adaptation",
    "entropy": "entropy minimisation (MinEnt)",
    "mean_teacher": "**mean teacher**",
    "oracle": "trained on the target's labels",
    "short": "the mean teacher in half the time",
}
SETS = "mean over all sets of sensors"


@table
def adaptation() -> str:
    """Scores on the target by benchmark and method, mean over seeds and how far the seeds lie apart; the ablation."""
    tables = []
    for benchmark in ("drawn", "ombria"):
        results = _adaptations(benchmark)
        if not results:
            continue
        regions = sorted(next(iter(results.values()))[0]["target"]["conditions"]) if benchmark == "ombria" else []
        regions = [name for name in regions if results["start"][0]["target"]["conditions"][name]["miou"]]
        head = [benchmark, "seeds", "minutes", "mIoU"] + [f"{name}: mIoU, flood IoU" for name in regions]
        head += [SETS] if benchmark == "drawn" else []
        rows = []
        for name, label in ADAPTED.items():
            found = results.get(name, [])
            if found:
                cells = [mean_and_spread([one["target"]["miou"] for one in found])]
                cells += [", ".join(map(mean_and_spread, _scores(found, region).values())) for region in regions]
                cells += [mean_and_spread([_over_sets(one) for one in found])] if benchmark == "drawn" else []
                minutes = sum(one["minutes"] for one in found) / len(found)
                rows.append([label, str(len(found)), f"{minutes:.0f}", *cells])
        below = [
            gap(results) if benchmark == "drawn" else lead(results, regions),
            ablation(results),
            origin(results),
        ]
        tables.append("\n\n".join(filter(None, [markdown(head, rows), *below])))
    return "\n\n".join(tables) or "No run has a result file yet."


def origin(results: dict[str, list[dict[str, Any]]]) -> str:
    """Command, date and machine of most runs; below, what ran on another machine."""
    runs = [(name, one) for name, found in results.items() for one in found]
    places = Counter(one["machine"]["processor"] for _, one in runs)
    usual = places.most_common(1)[0][0]
    last = max((one for _, one in runs if one["machine"]["processor"] == usual), key=lambda one: str(one["date"]))
    lines = [source({**last, "command": "python -m benchmarks.adaptation"})]
    for place in sorted(set(places) - {usual}):
        names = dict.fromkeys(name for name, one in runs if one["machine"]["processor"] == place)
        lines.append(f"*On {place}: {', '.join(name.replace('_', ' ') for name in names)}.*")
    return "\n".join(lines)


def gap(results: dict[str, list[dict[str, Any]]]) -> str:
    """What share of the way from source only to the target's labels the mean teacher goes: by means, and by seed."""
    plain, adapted, labels = (_by_seed(results.get(name, [])) for name in ("source_only", "mean_teacher", "oracle"))
    seeds = [seed for seed in plain if seed in adapted]
    if not (seeds and labels):
        return ""
    high = _mean(list(labels.values()))
    low, reached = (_mean([scores[seed] for seed in seeds]) for scores in (plain, adapted))
    shares = ", ".join(f"{(adapted[seed] - plain[seed]) / (high - plain[seed]):.0%}" for seed in seeds)
    closed = f"{reached - low:.3f} of {high - low:.3f}, {(reached - low) / (high - low):.0%} (by seed {shares})"
    return f"The mean teacher closes {closed}, of the gap between source only and the target's labels."


def ablation(results: dict[str, list[dict[str, Any]]]) -> str:
    """What short scores without a part, or with one more; below, how far chance moves short."""
    whole, starts = _by_seed(results.get("short", [])), _by_seed(results.get("wide_start", []))
    if 0 not in whole:
        return ""
    rows = []
    for name in ("short", *(name for name in VARIANTS if name in results)):
        row = ["all parts" if name == "short" else name.replace("_", " "), f"{results[name][0]['minutes']:.0f}"]
        for score in (lambda one: float(one["target"]["miou"]), _over_sets):
            found, base = (score(results[one][0]) for one in (name, "short"))
            row.append(f"{found:.3f}" if name == "short" else f"{found:.3f} ({found - base:+.3f})")
        rows.append(row)
    parts = markdown(["half the time, seed 0 (against all parts)", "minutes", "mIoU", SETS], rows)
    gains = mean_and_spread([whole[seed] - starts[seed] for seed in whole])
    chance = f"With all parts, over {len(whole)} seeds: {gains} above the start it goes on from."
    return f"{parts}\n\n{chance}" if len(whole) > 1 else parts


def lead(results: dict[str, list[dict[str, Any]]], regions: list[str]) -> str:
    """How far the mean teacher lies above source only in each region, beside the larger spread of the two."""
    if not {"source_only", "mean_teacher"} <= set(results):
        return ""
    leads = []
    for region in regions:
        plain, adapted = (_scores(results[name], region) for name in ("source_only", "mean_teacher"))
        gains = [f"{_difference(plain[score], adapted[score])} in {score}" for score in plain]
        leads.append(f"in {region} {', '.join(gains)}")
    return f"The mean teacher against source only (and the larger spread of the two): {'; '.join(leads)}."


def _difference(plain: list[float], adapted: list[float]) -> str:
    return f"{_mean(adapted) - _mean(plain):+.3f} ({max(_spread(plain), _spread(adapted)):.3f})"


def _adaptations(benchmark: str) -> dict[str, list[dict[str, Any]]]:
    """Name of a run -> its results, a seed each."""
    results: dict[str, list[dict[str, Any]]] = {}
    for run in sweep():
        if run.benchmark == benchmark and run.result.is_file():
            result = read_result(f"adaptation/{benchmark}/{run.name}_{run.seed}")
            results.setdefault(run.name, []).append(result)
    return results


def _by_seed(results: list[dict[str, Any]]) -> dict[int, float]:
    return {one["settings"]["train.seed"]: one["target"]["miou"] for one in results}


def _over_sets(result: dict[str, Any]) -> float:
    """mIoU, the mean over every set of the sensors that can be given."""
    return float(result["target"]["subset_mean"]["miou"])


def _scores(results: list[dict[str, Any]], region: str) -> dict[str, list[float]]:
    """Name of a score -> its values in the region, a seed each."""
    reports = [one["target"]["conditions"][region] for one in results]
    return {"mIoU": [one["miou"] for one in reports], "flood IoU": [one["iou"]["flood"] for one in reports]}


def mean_and_spread(values: list[float]) -> str:
    """Mean over the seeds, and half of what lies between the largest and the smallest."""
    return f"{_mean(values):.3f}" + (f" (± {_spread(values):.3f})" if len(values) > 1 else "")


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _spread(values: list[float]) -> float:
    return (max(values) - min(values)) / 2
