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
            summaries = [result["summary"][what] if result else {} for result in results]
            speeds = [_speedup(summary) if summary else "not measured" for summary in summaries]
            floors = [[f"{value:.2f}" for value in summary.get("over_floor_largest", [])] for summary in summaries]
            rows.append([f"{op}, {what}", *speeds, *map(" and ".join, floors)])
    head = ["op"]
    head += [f"{threads}: mean, slowest case, cases below 0.9x" for threads in ("1 thread", "2 threads")]
    head += [f"times the floor, {threads}" for threads in ("1 thread", "2 threads")]
    last = read_result("modality_score_1_thread")
    return markdown(head, rows) + "\n\n" + source({**last, "command": "python -m benchmarks.run"})


def _speedup(summary: dict[str, Any]) -> str:
    mean, slowest = summary["geometric_mean"], summary["smallest"]
    return f"{mean:.2f}x, {slowest:.2f}x, {summary['below_0.9']} of {summary['cases']}"
