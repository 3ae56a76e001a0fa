"""The tables of the frontier: one for README, and for docs/frontier.md one of each task."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.frontier.results import (
    COLUMNS,
    SCORES,
    Result,
    best_modality,
    lacking,
    latency_of,
    mean,
    milliseconds,
    results_of,
    rows_by_name,
    shown_rows,
    values,
)
from benchmarks.frontier.runs import BEST, BUDGETS, TASKS
from benchmarks.tables.shared import TABLES, markdown, source, table

EMPTY = "No run has a result file yet."
RIVAL = "early_fusion"
# What the default is wanted to have over early fusion, on drawn scenes and on OMBRIA.
WANTED = {"all": 0.005, "subsets": 0.02, "dead": 0.02, "failing": 0.01}
WANTED_TIME = 1.12
PARTS = {"subset": "given: {}", "dead": "{} dead", "case": "failure: {}", "condition": "weather: {}"}


@table
def frontier() -> str:
    """Time and scores of every row on every task, equal steps."""
    found = {task: results_of(task, "steps") for task in TASKS}
    found = {task: results for task, results in found.items() if results}
    if not found:
        return EMPTY
    columns = {task: [key for key in COLUMNS if _is_measured(results, key, task)] for task, results in found.items()}
    head = ["model", "512x512, 1 thread", "GMAC"]
    head += [f"{TASKS[task].title}: {', '.join(COLUMNS[key] for key in columns[task])}" for task in found]
    rows = []
    for name, label in _labels(found).items():
        cells = [_means(results.get(name, []), columns[task], TASKS[task].score) for task, results in found.items()]
        rows.append([label, *_cost("drawn", name), *cells])
    notes = [f"{TASKS[task].title}, {SCORES[TASKS[task].score]}" for task in found]
    lines = [f"Scores: {'; '.join(notes)}.", *_left_out(list(found), "steps"), _origin(found)]
    return markdown(head, rows) + "\n\n" + "\n".join(lines)


def of_task(task: str) -> str:
    """Everything about one task: each budget, the default against early fusion, all parts."""
    sections = [_budget(task, budget) for budget in BUDGETS if results_of(task, budget)]
    return "\n\n".join(sections) or EMPTY


TABLES.update({f"frontier_{task}": partial(of_task, task) for task in TASKS})


@table
def frontier_latency() -> str:
    """Time of the models of each task on one and two threads."""
    tables = []
    for task, its in TASKS.items():
        timed = latency_of(task)
        if timed is None:
            continue
        labels = {name: label for name, label in shown_rows(task).items() if name in timed["models"]}
        threads = list(next(iter(timed["models"].values()))["threads"])
        head = [its.title, "params (M)", "GMAC", *(f"{count} thread(s)" for count in threads)]
        rows = []
        for name, label in labels.items():
            one = timed["models"][name]
            cells = [_time(one["threads"][count]) for count in threads]
            rows.append([label, f"{one['params_m']:.2f}", f"{one['gmac']:.1f}", *cells])
        tables.append(markdown(head, rows) + "\n\n" + source(timed))
    return "\n\n".join(tables) or "Not measured yet."


def _budget(task: str, budget: str) -> str:
    its, found = TASKS[task], results_of(task, budget)
    columns = [key for key in COLUMNS if _is_measured(found, key, task)]
    more = {"frame_pixel_accuracy": "pixel accuracy", "frame_fwiou": "FW IoU"} if its.score == "frame_miou" else {}
    alike = f"{its.epochs} epochs each" if budget == "steps" else f"{its.minutes:g} minutes each"
    head = [
        f"equal {budget}, {alike}",
        "seeds",
        "minutes",
        "epochs",
        *(COLUMNS[key] for key in columns),
        *more.values(),
    ]
    rows = []
    for name, label in _labels({task: found}).items():
        results = found[name]
        cells = [with_range(values(results, key, its.score)) for key in columns]
        cells += [with_range(values(results, "all", key)) for key in more]
        spent = [f"{mean([one[key] for one in results]):.0f}" for key in ("minutes", "epoch")]
        rows.append([_exactly(name, label, results), str(len(results)), *spent, *cells])
    lines = [
        f"Scores: {SCORES[its.score]}.",
        _dead(found, its.score),
        *_left_out([task], budget),
        _origin({task: found}),
    ]
    tables = [markdown(head, rows) + "\n\n" + "\n".join(lines), compared(task, found, columns)]
    return "\n\n".join(filter(None, [*tables, _parts(task, found) if budget == "steps" else ""]))


def compared(task: str, found: dict[str, list[Result]], columns: list[str]) -> str:
    """The default against early fusion, what was wanted, and who beats the default in both time and score."""
    if not {"default", RIVAL} <= set(found):
        return ""
    score, rows = TASKS[task].score, []
    for key in columns:
        ours, theirs = (values(found[name], key, score) for name in ("default", RIVAL))
        difference, wanted = mean(ours) - mean(theirs), WANTED[key] if TASKS[task].lesion is None else None
        aim = "" if wanted is None else f"{wanted:+.3f}, {_met(difference, wanted)}"
        rows.append([COLUMNS[key], f"{difference:+.3f}", beyond_spread(ours, theirs), aim])
    times = milliseconds(task)
    if times:
        ratio = times["default"] / times[RIVAL]
        aim = f"{WANTED_TIME:.2f}x, {'met' if ratio <= WANTED_TIME else f'missed by {ratio - WANTED_TIME:.2f}'}"
        rows.append(["time", f"{ratio:.2f}x", "", aim])
    head = ["default against early fusion", "difference of means", "beyond the spread of the seeds", "wanted"]
    return markdown(head, rows) + "\n\n" + beaten(task, found, columns)


def beaten(task: str, found: dict[str, list[Result]], columns: list[str]) -> str:
    """The rows that are both faster than the default and better, and where."""
    times, score, by = milliseconds(task), TASKS[task].score, []
    if not times:
        return "The models have not been timed yet."
    for name, label in _labels({task: found}).items():
        if name == "default" or times.get(name, times["default"]) >= times["default"]:
            continue
        better = [
            key for key in columns if mean(values(found[name], key, score)) > mean(_of_default(found, key, score))
        ]
        if better:
            by.append(f"{label} ({', '.join(COLUMNS[key] for key in better)})")
    return (
        f"Faster than the default and better: {'; '.join(by)}."
        if by
        else "No row is faster than the default and better."
    )


def beyond_spread(ours: list[float], theirs: list[float]) -> str:
    """Whether the worst seed of one is better than the best of the other."""
    if min(len(ours), len(theirs)) < 2:
        return "one seed"
    return "yes" if min(ours) > max(theirs) or min(theirs) > max(ours) else "no"


def with_range(figures: list[float]) -> str:
    """Mean over the seeds, and the worst and the best of them."""
    text = f"{mean(figures):.3f}"
    return text if len(figures) < 2 else f"{text} ({min(figures):.3f}-{max(figures):.3f})"


def _parts(task: str, found: dict[str, list[Result]]) -> str:
    """Every row of the result files, means over seeds."""
    score, labels = TASKS[task].score, _labels({task: found})
    rows = []
    for part, text in PARTS.items():
        for key in rows_by_name(next(iter(found.values()))[0], part):
            cells = [mean([rows_by_name(one, part)[key][score] for one in found[name]]) for name in labels]
            rows.append([text.format(key.replace("+", ", ")), *(f"{figure:.3f}" for figure in cells)])
    return markdown([SCORES[score], *labels.values()], rows)


def _dead(found: dict[str, list[Result]], score: str) -> str:
    """Which modality it is that is dead."""
    names = {name: dict.fromkeys(best_modality(one, score) for one in results) for name, results in found.items()}
    every = dict.fromkeys(modality for its in names.values() for modality in its)
    if len(every) == 1:
        return f"The best modality, which scores highest alone, is {next(iter(every))} for all rows."
    parts = [f"{name.replace('_', ' ')} {' or '.join(its)}" for name, its in names.items()]
    return f"The best modality, which scores highest alone: {', '.join(parts)}."


def _is_measured(results: dict[str, list[Result]], column: str, task: str) -> bool:
    return any(values(found, column, TASKS[task].score) for found in results.values())


def _of_default(found: dict[str, list[Result]], column: str, score: str) -> list[float]:
    return values(found["default"], column, score)


def _means(results: list[Result], columns: list[str], score: str) -> str:
    return " / ".join(f"{mean(values(results, key, score)):.3f}" for key in columns) if results else ""


def _labels(found: dict[str, dict[str, list[Result]]]) -> dict[str, str]:
    """The rows that have a result for one of the tasks, in the order of the tables."""
    there = {name for results in found.values() for name in results}
    return {name: label for name, label in shown_rows(next(iter(found))).items() if name in there}


def _exactly(name: str, label: str, results: list[Result]) -> str:
    """The label, with the modality that turned out to be the best."""
    return f"{label}: {results[0]['name'].partition('_')[2]}" if name == BEST else label


def _cost(task: str, name: str) -> list[str]:
    timed = latency_of(task)
    if timed is None or name not in timed["models"]:
        return ["", ""]
    one = timed["models"][name]
    return [_time(one["threads"]["1"], quartiles=False), f"{one['gmac']:.1f}"]


def _time(timing: dict[str, Any], quartiles: bool = True) -> str:
    low, high = timing["ratio_quartiles"]
    text = f"{1000 * timing['median_s']:.0f} ms, {timing['ratio']:.2f}x"
    return f"{text} ({low:.2f}-{high:.2f})" if quartiles else text


def _met(difference: float, wanted: float) -> str:
    return "met" if difference >= wanted else f"missed by {wanted - difference:.3f}"


def _left_out(tasks: list[str], budget: str) -> list[str]:
    """What has no result file yet, or not one of every seed."""
    missing = [f"{TASKS[task].title}: {', '.join(lacking(task, budget))}" for task in tasks if lacking(task, budget)]
    return [f"Not all measured yet: {'; '.join(missing)}."] if missing else []


def _origin(found: dict[str, dict[str, list[Result]]]) -> str:
    last = max((one for rows in found.values() for its in rows.values() for one in its), key=lambda one: one["date"])
    return source({**last, "command": "python -m benchmarks.frontier run"})
