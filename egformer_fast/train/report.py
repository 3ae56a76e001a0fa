"""An evaluation report as a readable table, and as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from egformer_fast.files import write_whole

SCORE_COLUMNS = ("frames", "ROC area", "score if clean", "if failing", "out if clean", "if failing")
SCORE_NOTE = "score: at stage 1; out: weight under 0.05 or dropped, stage by stage"
METRICS = {"pixel_accuracy": "pixel accuracy", "miou": "mIoU", "fwiou": "fwIoU"}


def write_json(report: dict[str, Any], path: str | Path) -> None:
    """Write a report; the file appears whole or not at all. Makes the folder."""
    write_whole(Path(path), (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())


def format_report(report: dict[str, Any]) -> str:
    """The report of evaluate.evaluate in words and tables."""
    parts = [_heading(report), _headline(report), _by_class(report), _by_sensor(report)]
    for key, title in (("conditions", "condition"), ("cases", "sensor failure")):
        if report[key]:
            parts.append(_groups(title, report[key]))
    if report["subsets"]:
        mean = {"mean over subsets": {**report["subset_mean"], "frames": ""}}
        parts.append(_groups("sensors given", {**report["subsets"], **mean}))
    if report["failing"]:
        parts.append(_groups("known failures", {"frames with one": report["failing"]}))
    if report["failures"]:
        parts.append(failures(report["failures"]))
    if report.get("permutation"):
        parts.append(permutation({"this split": report["permutation"]}))
    return "\n\n".join(parts)


def _heading(report: dict[str, Any]) -> str:
    settings = report["settings"]
    lines = [
        f"{report['dataset']}, split {report['split']}: {report['frames']} frame(s)",
        f"sensors {', '.join(report['modalities'])}; keep {', '.join(map(str, settings['keep']))}"
        + (f"; withheld {', '.join(settings['missing'])}" if settings["missing"] else "")
        + (f"; test-time augmentation {settings['tta']}" if settings["tta"] != "none" else ""),
    ]
    blind = report["blind_frames"]
    if blind["count"]:
        more = " ..." if blind["count"] > len(blind["names"]) else ""
        lines.append(
            f"{blind['count']} frame(s) without a usable sensor, predicted as ignore; all their pixels count as"
            f" wrong: {', '.join(blind['names'])}{more}"
        )
    unlabelled = report["frames"] - report["frame_mean"]["frames"]
    if unlabelled:
        lines.append(f"{unlabelled} frame(s) without a labelled pixel count nowhere")
    return "\n".join(lines)


def _headline(report: dict[str, Any]) -> str:
    rows = [
        [title, *(number(scores[key]) for key in METRICS)]
        for title, scores in (("over all pixels", report), ("mean over frames", report["frame_mean"]))
    ]
    note = ""
    if report["miou_all_classes"] != report["miou"]:
        absent = sum(value is None for value in report["iou"].values())
        note = f"\nmIoU with 0 for the {absent} classes that do not occur: {number(report['miou_all_classes'])}"
    return table(["", *METRICS.values()], rows) + note


def _by_class(report: dict[str, Any]) -> str:
    total = max(1, sum(report["pixels"].values()))
    rows = [
        [name, number(value), f"{100 * report['pixels'][name] / total:.2f} %"] for name, value in report["iou"].items()
    ]
    return table(["class", "IoU", "pixels"], rows)


def _by_sensor(report: dict[str, Any]) -> str:
    count = max((len(row) for row in report["kept"].values()), default=0)
    stages = [f"stage {stage}" for stage in range(1, count + 1)]
    kept = [[name, percent(report["present"][name]), *map(percent, row)] for name, row in report["kept"].items()]
    score = [[name, *map(number, row)] for name, row in report["score"].items()]
    return (
        table(["kept, of the frames where present", "present", *stages], kept)
        + "\n\n"
        + table(["mean score, where still scored", *stages], score)
    )


def _groups(title: str, groups: dict[str, dict[str, Any]]) -> str:
    rows = [
        [name, str(scores["frames"]), *(number(scores.get(key)) for key in METRICS)] for name, scores in groups.items()
    ]
    return table([title, "frames", *METRICS.values()], rows)


def failures(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of scores.compared, each with its modality and failure."""
    lines = [[row["modality"], row["failure"], *score_cells(row)] for row in rows]
    return f"{table(['modality that fails', 'failure', *SCORE_COLUMNS], lines)}\n{SCORE_NOTE}"


def score_cells(row: dict[str, Any]) -> list[str]:
    """A row of scores.compared in the columns SCORE_COLUMNS."""
    scores = [number(row[key]) for key in ("roc_area", "clean_score", "score")]
    return [str(row["frames"]), *scores, _by_stage(row["clean_out"]), _by_stage(row["out"])]


def _by_stage(shares: Sequence[float | None]) -> str:
    return "/".join("-" if share is None else f"{100 * share:.0f}" for share in shares) + " %"


def permutation(tests: dict[str, dict[str, Any]]) -> str:
    """Results of scores.permutation_test, each under the name of its frames."""
    header = ["mIoU with the scores of other frames", "frames", "own scores", "others'", "lost"]
    lines = [
        [f"{name}, {frames}", str(found["frames"]), *(number(found[key]) for key in ("miou", "permuted", "lost"))]
        for name, test in tests.items()
        for frames, key in (("all frames", "all"), ("frames with a failure", "failing"))
        if (found := test[key])
    ]
    return table(header, lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces: the first to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def number(value: float | None) -> str:
    """A score with four digits, "-" for none."""
    return "-" if value is None else f"{value:.4f}"


def percent(value: float | None) -> str:
    """A share in percent, "-" for none."""
    return "-" if value is None else f"{100 * value:.1f} %"
