"""The result files of the frontier, and the figures that the tables and the picture show of them."""

from __future__ import annotations

from typing import Any

from benchmarks.frontier import runs as frontier_runs
from benchmarks.frontier.runs import BEST, SINGLE, read, rows_of, sweep

Result = dict[str, Any]
COLUMNS = {
    "all": "all modalities",
    "subsets": "mean of subsets",
    "dead": "best modality dead",
    "failing": "failing frames",
}
SCORES = {"miou": "mIoU", "frame_miou": "mIoU, mean over frames", "dice_lesion": "Dice of the lesions"}


def results_of(task: str, budget: str) -> dict[str, list[Result]]:
    """Row -> its results that have a file, a seed each; BEST is the single modality that is best on `val`."""
    found: dict[str, list[Result]] = {}
    for run in sweep(task, budget):
        if run.result.is_file():
            found.setdefault(run.name, []).append(read(run.result))
    shown = {name: results for name, results in found.items() if not name.startswith(SINGLE)}
    single = [result for name, results in found.items() if name.startswith(SINGLE) for result in results]
    if single:
        shown[BEST] = [max(single, key=lambda result: result["val"])]
    return shown


def shown_rows(task: str) -> dict[str, str]:
    """Row of the tables -> what it is called there, the single modalities as one."""
    rows = {name: row.label for name, row in rows_of(task).items() if not name.startswith(SINGLE)}
    return rows | {BEST: "best single modality"}


def lacking(task: str, budget: str) -> list[str]:
    """Rows of the tables that have not all of their results, in words."""
    runs = [run for run in sweep(task, budget) if not run.result.is_file()]
    names = {BEST if run.name.startswith(SINGLE) else run.name for run in runs}
    return [label.strip("*") for name, label in shown_rows(task).items() if name in names]


def rows_by_name(result: Result, part: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in result["rows"] if row["part"] == part}


def value(result: Result, column: str, score: str) -> float | None:
    """One figure of a result: a key of COLUMNS; None where it was not measured."""
    if column == "subsets":
        subsets = rows_by_name(result, "subset").values()
        return sum(row[score] for row in subsets) / len(subsets)
    if column == "dead":
        return float(rows_by_name(result, "dead")[best_modality(result, score)][score])
    row = rows_by_name(result, column).get("")
    return None if row is None else float(row[score])


def best_modality(result: Result, score: str) -> str:
    """The modality that scores highest alone."""
    alone = {name: row[score] for name, row in rows_by_name(result, "subset").items() if "+" not in name}
    return max(alone, key=lambda name: alone[name])


def values(results: list[Result], column: str, score: str) -> list[float]:
    """A figure of each seed; none where it was not measured."""
    figures = [value(result, column, score) for result in results]
    return [figure for figure in figures if figure is not None]


def mean(figures: list[float]) -> float:
    return sum(figures) / len(figures)


def latency_of(task: str) -> Result | None:
    """What `latency` measured for the task; BEST is the first single modality's."""
    path = frontier_runs.RESULTS / "frontier" / f"latency_{task}.json"
    if not path.is_file():
        return None
    result = read(path)
    models = result["models"]
    single = next(name for name in models if name.startswith(SINGLE))
    return {**result, "models": {**models, BEST: models[single]}}


def milliseconds(task: str) -> dict[str, float]:
    """Row -> time on one thread; empty where it was not measured."""
    timed = latency_of(task)
    return {} if timed is None else {n: 1e3 * one["threads"]["1"]["median_s"] for n, one in timed["models"].items()}
