"""An evaluation report as a readable table, and as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from egformer_fast.files import write_whole

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
        [title, *(_number(scores[key]) for key in METRICS)]
        for title, scores in (("over all pixels", report), ("mean over frames", report["frame_mean"]))
    ]
    note = ""
    if report["miou_all_classes"] != report["miou"]:
        absent = sum(value is None for value in report["iou"].values())
        note = f"\nmIoU with 0 for the {absent} classes that do not occur: {_number(report['miou_all_classes'])}"
    return table(["", *METRICS.values()], rows) + note


def _by_class(report: dict[str, Any]) -> str:
    total = max(1, sum(report["pixels"].values()))
    rows = [
        [name, _number(value), f"{100 * report['pixels'][name] / total:.2f} %"] for name, value in report["iou"].items()
    ]
    return table(["class", "IoU", "pixels"], rows)


def _by_sensor(report: dict[str, Any]) -> str:
    stages = [f"stage {stage}" for stage in range(1, 5)]
    kept = [[name, _percent(report["present"][name]), *map(_percent, row)] for name, row in report["kept"].items()]
    score = [[name, *map(_number, row)] for name, row in report["score"].items()]
    return (
        table(["kept, of the frames where present", "present", *stages], kept)
        + "\n\n"
        + table(["mean score, where still scored", *stages], score)
    )


def _groups(title: str, groups: dict[str, dict[str, Any]]) -> str:
    rows = [
        [name, str(scores["frames"]), *(_number(scores.get(key)) for key in METRICS)] for name, scores in groups.items()
    ]
    return table([title, "frames", *METRICS.values()], rows)


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


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
