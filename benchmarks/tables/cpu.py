"""Tables of the ops on the CPU."""

from __future__ import annotations

from typing import Any

from benchmarks.registry import RESULTS, read_result
from benchmarks.tables.shared import markdown, source, table


@table
def ops() -> str:
    """Speed of the C++ kernels by op, and their distance from the floor; "not measured" where there is no result."""
    rows = []
    for op in ("modality_score", "modality_drop", "modality_attention"):
        names = [f"{op}_{threads}" for threads in ("1_thread", "2_threads")]
        results = [read_result(name) if (RESULTS / f"{name}.json").is_file() else None for name in names]
        for what in ("forward", "forward + backward"):
            row = [f"{op}, {what}"]
            for summary in (result and result["summary"][what] for result in results):
                row.append(_speedup(summary) if summary else "not measured")
            for summary in (result and result["summary"][what] for result in results):
                row.append(" and ".join(f"{value:.2f}" for value in (summary or {}).get("over_floor_largest", [])))
            rows.append(row)
    head = ["op"]
    head += [f"{threads}: mean, slowest case, cases below 0.9x" for threads in ("1 thread", "2 threads")]
    head += [f"times the floor, {threads}" for threads in ("1 thread", "2 threads")]
    last = read_result("modality_score_1_thread")
    return markdown(head, rows) + "\n\n" + source({**last, "command": "python -m benchmarks.run"})


def _speedup(summary: dict[str, Any]) -> str:
    mean, slowest = summary["geometric_mean"], summary["smallest"]
    return f"{mean:.2f}x, {slowest:.2f}x, {summary['below_0.9']} of {summary['cases']}"
