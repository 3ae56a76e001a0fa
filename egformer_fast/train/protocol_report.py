"""The results of the robustness protocols as tables, and as one picture of bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from egformer_fast.train.drawing import Picture, Row, compose
from egformer_fast.train.pictures import save_picture
from egformer_fast.train.plots import bar_chart
from egformer_fast.train.report import SCORE_COLUMNS, SCORE_NOTE, number, permutation, score_cells, table

Report = dict[str, Any]
COLUMNS = {"miou": "mIoU", "miou_all_classes": "mIoU, all classes", "pixel_accuracy": "pixel accuracy"}


def format_protocols(protocols: Report) -> str:
    """What protocols.run_protocols and failures.run_failures return, protocol by protocol."""
    return "\n\n".join(
        _failures(found) if name == "failures" else _settings(name, found) for name, found in protocols.items()
    )


def _settings(name: str, found: Report) -> str:
    parts = [_about(name, found)]
    for group, scores in found["groups"].items():
        rows = [(setting, values) for setting, values in scores["settings"].items()]
        rows.append(("mean", scores["mean"]))
        rows += [(f"expected, p = {p}", values) for p, values in scores.get("expected", {}).items()]
        lines = [[title, *(number(values[key]) for key in COLUMNS)] for title, values in rows]
        parts.append(table([f"{name}, {group}", *COLUMNS.values()], lines))
    return "\n\n".join(parts)


def _failures(found: Report) -> str:
    scored = all("roc_area" in row for row in found["rows"])
    lines = [
        [row["modality"], _title(row), number(row["miou"]), number(row["lost"]), *(score_cells(row) if scored else ())]
        for row in found["rows"]
    ]
    header = ["modality that fails", "failure", "mIoU", "lost", *(SCORE_COLUMNS if scored else ())]
    parts = [_about("failures", found), table(header, lines) + (f"\n{SCORE_NOTE}" if scored else "")]
    tests = {"the split": found["permutation"]["split"], "half of it degraded": found["permutation"]["half"]}
    tests = {name: test for name, test in tests.items() if test}
    return "\n\n".join([*parts, permutation(tests)] if tests else parts)


def _about(name: str, found: Report) -> str:
    return fill(f"{name}: {found['about']}", 100)


def _title(row: Report) -> str:
    return f"{row['failure']} (own)" if row["own"] else str(row["failure"])


def plot_protocols(protocols: Report, miou: float | None, path: str | Path) -> None:
    """Write a PNG: a chart of bars for each protocol. miou: of the frames as they are, a line through every chart."""
    charts = [
        _failure_chart(found, miou) if name == "failures" else _chart(name, found, miou)
        for name, found in protocols.items()
    ]
    save_picture(compose([Row([chart]) for chart in charts], gap=24), path)


def _chart(name: str, found: Report, miou: float | None) -> Picture:
    """Groups that have the same settings share rows."""
    groups = found["groups"]
    rows: dict[str, list[float | None]] = {}
    for column, scores in enumerate(groups.values()):
        for setting, values in [*scores["settings"].items(), ("mean", scores["mean"])]:
            row = rows.setdefault(setting, [None] * len(groups))
            row[column] = values["miou"]
    return bar_chart(f"{name}: mIoU; line: frames as they are", list(rows.items()), list(groups), miou)


def _failure_chart(found: Report, miou: float | None) -> Picture:
    rows: list[tuple[str, Sequence[float | None]]] = [
        (f"{row['modality']}: {_title(row)}", [row["miou"], row.get("roc_area")]) for row in found["rows"]
    ]
    return bar_chart("failures; line: mIoU of the frames as they are", rows, ["mIoU", "ROC area of the score"], miou)
