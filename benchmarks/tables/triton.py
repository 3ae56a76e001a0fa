"""Tables of the Triton kernels: bytes counted, times predicted."""

from __future__ import annotations

import itertools
from typing import Any

from benchmarks.registry import read_result
from benchmarks.roofline import PEAKS, predictions
from benchmarks.tables.shared import markdown, source, table


@table
def triton_traffic() -> str:
    """Bytes counted over what cannot be avoided: the largest of the stages, by op and dtype."""
    result = read_result("triton_traffic")
    rows = []
    for op, what in itertools.product(
        ("modality_score", "modality_drop", "modality_attention"), ("forward", "backward")
    ):
        cells = []
        for dtype in ("float32", "float16"):
            chosen = [r for r in result["rows"] if (r["op"], r["what"], r["dtype"]) == (op, what, dtype)]
            cells += [f"{max(row[key] for row in chosen):.3f}" for key in ("over_floor", "over_bound")]
        rows.append([f"{op}, {what}", *cells])
    head = [
        "kernels",
        *(f"{dtype}, over the {what}" for dtype in ("float32", "float16") for what in ("floor", "bound")),
    ]
    return markdown(head, rows) + "\n\n" + source(result)


def _microseconds(*times: tuple[float, str]) -> str:
    """One time, or the lowest and the highest where they differ; * where FLOPs are the limit."""
    texts = []
    for time, limit in times:
        digits = 0 if time >= 10 else 1 if time >= 1 else 2
        texts.append(f"{time:.{digits}f}{'*' * (limit == 'FLOPs')}")
    return "-".join(dict.fromkeys(texts))


def _roofline(size: int) -> str:
    rows: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in predictions():
        if row["size"] == size:
            rows.setdefault((row["op"], row["what"], row["stage"]), []).append(row)
    lines = []
    for (op, what, stage), several in rows.items():
        by_rate = {row["rate"]: row for row in several}
        order = [by_rate[rate] for rate in ("float16", "tf32", "float32") if rate in by_rate]
        line = [f"{op}, {what}, stage {stage + 1}", " / ".join(f"{row['bytes'] / 1e6:.2f}" for row in order)]
        line.append(f"{order[0]['flops'] / 1e9:.3f}")
        for chip in PEAKS:
            times = [row["chips"][chip] for row in order]
            line.append(" / ".join(_microseconds(low, high) for low, high in times))
        lines.append(line)
    return markdown(["PREDICTED microseconds", "MB", "GFLOP", *PEAKS], lines)


@table
def roofline_512() -> str:
    return _roofline(512)


@table
def roofline_1024() -> str:
    return _roofline(1024)


@table
def peaks() -> str:
    rows = []
    for name, peak in PEAKS.items():
        rates = [f"{peak.flops[rate] / 1e12:.0f}" for rate in ("float16", "tf32", "float32")]
        rows.append([name, f"{peak.bandwidth / 1e12:.2f}", *rates, peak.source])
    return markdown(["GPU", "TB/s", "TFLOPS float16", "TF32", "float32", "source"], rows)
