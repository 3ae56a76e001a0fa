"""Pilots of the default: what was tried before it was chosen, one short run a row."""

from __future__ import annotations

from benchmarks.registry import read_result
from benchmarks.tables.shared import markdown, source, table


@table
def frontier_pilots() -> str:
    """mIoU on drawn frames, and how well the scores tell failing frames."""
    result = read_result("frontier_pilots")
    failures = next(list(row["roc_area"]) for row in result["rows"] if row["roc_area"])
    rows = []
    for row in result["rows"]:
        scores = [f"{row[key]:.3f}" for key in ("all", "subsets", "failures")]
        areas = [f"{row['roc_area'][name]:.2f}" for name in failures] if row["roc_area"] else [""] * len(failures)
        rows.append([row["label"], str(row["seed"]), *scores, *areas])
    head = ["run", "seed", "all", "mean of subsets", "mean of failures", *(f"ROC: {name}" for name in failures)]
    return markdown(head, rows) + "\n\n" + source(result)
