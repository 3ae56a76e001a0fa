"""python -m benchmarks.tables: write the tables of README.md and docs/*.md from the committed result files.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; --check fails when a page is not up to date.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.registry import RESULTS, read_result
from benchmarks.roofline import PEAKS, predictions

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TABLES: dict[str, Callable[[], str]] = {}


def table(function: Callable[[], str]) -> Callable[[], str]:
    TABLES[function.__name__] = function
    return function


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def source(result: dict[str, Any]) -> str:
    where = result["machine"]
    return f"*`{result['command']}`, {result['date']}, {where['processor']}, torch {where['torch']}.*"


@table
def complexity() -> str:
    """Parameters and GMAC by number of modalities."""
    result = read_result("complexity")
    rows = []
    for default, whole in zip(result["default"], result["keep_all"], strict=True):
        rows.append(
            [
                f"{default['modalities']}, keep {tuple(default['keep'])}",
                f"{default['params_m']:.2f}",
                *(f"{default['gmac'][s]:.1f} / {default['gmac_fused'][s]:.1f}" for s in ("512", "1024")),
                *(f"{whole['gmac'][s]:.1f}" for s in ("512", "1024")),
            ]
        )
    for name, label in (("cmnext_b0", "CMNeXt-B0, 4 modalities"), ("cmnext_b2", "CMNeXt-B2, 4 modalities")):
        peer = result["peers"][name]
        gmac = [f"{peer['gmac'][s]:.1f}" for s in ("512", "1024")]
        rows.append([label, f"{peer['params_m']:.2f}", *gmac, "", ""])
    head = ["modalities", "params (M)", "GMAC at 512, trained / fused", "at 1024", "512, keep all", "1024, keep all"]
    return markdown(head, rows) + "\n\n" + source(result)


@table
def latency() -> str:
    """Milliseconds by keep."""
    result = read_result("latency")
    rows = []
    for keep in result["measured"][0]["keep"]:
        row = [keep]
        for measured in result["measured"]:
            timing = measured["keep"][keep]
            low, high = timing["ratio_quartiles"]
            row.append(f"{1000 * timing['median_s']:.0f} ms, {timing['ratio']:.2f}x ({low:.2f}-{high:.2f})")
        rows.append(row)
    head = ["keep"] + [f"{m['size']}x{m['size']}, {m['threads']} thread(s)" for m in result["measured"]]
    return markdown(head, rows) + f"\n\nBackend `{result['backend']}`. " + source(result)


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


# On the 70 test frames, from the evaluation notebook of OmbriaNet's authors: pixel accuracy, mean IoU, fwIoU.
PUBLISHED = {
    "OmbriaNet, all four (published)": (0.8900, 0.7050, 0.8207),
    "bi-temporal U-Net, S2 pair (published)": (0.8608, 0.6319, 0.7765),
    "SVM (published)": (0.8487, 0.6245, 0.7631),
    "U-Net, S2 after (published)": (0.8412, 0.5791, 0.7461),
    "U-Net, S1 after (published)": (0.7781, 0.5507, 0.6828),
}
OMBRIA_RUNS = {
    "headline": "**EGFormer-B0, all four, dropping**, longest run",
    "default": "EGFormer-B0, all four, dropping",
    "keep_all": "keep all four",
    "early_fusion": "early fusion: all channels into one encoder",
    "s2_pair": "S2 pair only",
    "s1_pair": "S1 pair only",
}


@table
def ombria() -> str:
    """Our runs that have a result file, beside the published figures."""
    rows, last, dates = [], None, set()
    for name, label in OMBRIA_RUNS.items():
        if not (RESULTS / "ombria" / f"{name}.json").is_file():
            continue
        last = read_result(f"ombria/{name}")
        dates.add(last["date"])
        cores = 1 if "train.threads=1" in last["overrides"] else last["machine"]["cores"]
        budget = f"{last['minutes']:.0f} min on {cores} core{'s' * (cores > 1)}"
        if "epochs" in last:
            budget += f", {last['epochs']:.0f} epochs"
        rows.append(_ombria_row(label, budget, last["test"]))
        for sensors, report in last["withheld"].items():
            rows.append(_ombria_row(f"the same checkpoint without {sensors.replace(',', ', ')}", "", report))
    if last is None:
        return "No run has a result file yet."
    for label, values in PUBLISHED.items():
        rows.append([label, "", *(f"{value:.3f}" for value in values)])
    head = ["model, inputs", "training", "pixel accuracy", "mean IoU", "frequency-weighted IoU"]
    return (
        markdown(head, rows)
        + "\n\n"
        + source({**last, "command": "python -m benchmarks.ombria", "date": " and ".join(sorted(dates))})
    )


def _ombria_row(label: str, budget: str, report: dict[str, Any]) -> list[str]:
    means = report["frame_mean"]
    values = (means["pixel_accuracy"], means["miou"], means["fwiou"])
    return [label, budget, *(f"{value:.3f}" for value in values)]


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


def rendered(text: str) -> str:
    def fill(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", fill, text, flags=re.S)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a page is out of date")
    check = parser.parse_args().check
    for page in PAGES:
        text = page.read_text()
        new = rendered(text)
        if check and new != text:
            sys.exit(f"{page.name}: its tables are not those of benchmarks/results; run `python -m benchmarks.tables`")
        page.write_text(new)


if __name__ == "__main__":
    main()
