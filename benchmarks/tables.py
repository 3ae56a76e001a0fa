"""python -m benchmarks.tables: write the tables of README.md from the committed result files.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; --check fails when README is not up to date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.adaptation import WITHOUT, over_seeds, sweep
from benchmarks.registry import RESULTS, read_result

README = Path(__file__).parent.parent / "README.md"
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
# Name in the counters, name in the machine code, with 16-byte pieces or D = 32.
CUDA_KERNELS = {
    "modality_score, pooling": ("modality_score: pool", "pool_kernel<{type}, {piece}>"),
    "modality_drop": ("modality_drop", "drop_kernel<{type}, {piece}>"),
    "modality_drop, backward": ("modality_drop: backward", "drop_backward_kernel<{type}, {piece}>"),
    "modality_attention": ("modality_attention", "modality_attention_kernel<{type}, 32>"),
    "modality_attention, queries' gradient": ("modality_attention_d_queries", "d_queries_kernel<{type}, 32>"),
    "modality_attention, keys' gradients": ("modality_attention_d_keys", "d_keys_kernel<{type}, 32>"),
}
CUDA_TYPES = {"bfloat16": ("__nv_bfloat16", 8), "float32": ("float", 4)}


@table
def cuda() -> str:
    """The main CUDA kernels: registers over all architectures, and the counters of all stages; no times."""
    resources, counters = read_result("cuda_resources"), read_result("cuda_counters")
    rows = []
    for label, (counted, compiled) in CUDA_KERNELS.items():
        cells = []
        for dtype, (type_, piece) in CUDA_TYPES.items():
            name = compiled.format(type=type_, piece=piece)
            cells.append(
                _cuda_cells(
                    [row for row in resources["rows"] if row["kernel"] == name],
                    [row for row in counters["rows"] if row["kernel"] == counted and row["dtype"] == dtype],
                )
            )
        rows.append([label, *(" / ".join(pair) for pair in zip(*cells, strict=True))])
    head = ["kernel, bfloat16 / float32", "registers", "spilled bytes", "tensor-core instructions", "shared memory"]
    head += ["sectors over the floor", "bank conflicts"]
    archs = ", ".join(dict.fromkeys(row["arch"] for row in resources["rows"]))
    command = "python -m benchmarks.run cuda_resources cuda_counters"
    about = source({**counters, "command": command})
    return markdown(head, rows) + f"\n\nnvcc {resources['nvcc']}: {archs}. " + about


def _cuda_cells(compiled: list[dict[str, Any]], counted: list[dict[str, Any]]) -> list[str]:
    registers = [row["registers"] for row in compiled]
    return [
        "-".join(str(n) for n in sorted({min(registers), max(registers)})),
        str(sum(row["spilled"] for row in compiled)),
        str(max(row["tensor_core"] for row in compiled)),
        f"{max(row['shared_bytes'] for row in counted) / 1024:.1f} KiB",
        f"{max((row['load_sectors'] + row['store_sectors']) / row['floor'] for row in counted):.2f}",
        str(sum(row["bank_conflicts"] for row in counted)),
    ]


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


ADAPTED = {
    "source_only": "source only: trained on without the target",
    "entropy": "entropy minimisation (MinEnt)",
    "mean_teacher": "**mean teacher with the sensor parts**",
    "oracle": "trained on the target's labels",
}


@table
def adaptation() -> str:
    """Scores on the target by benchmark and method: mean over seeds and how far the seeds lie apart."""
    tables = []
    for benchmark in ("drawn", "ombria"):
        results = _adaptations(benchmark)
        if not results:
            continue
        regions = sorted(next(iter(results.values()))[0]["target"]["conditions"]) if benchmark == "ombria" else []
        regions = [name for name in regions if results["source_only"][0]["target"]["conditions"][name]["miou"]]
        head = [benchmark, "seeds", "mIoU"] + [f"{name}: mIoU, flood IoU" for name in regions]
        rows = []
        for name, label in {**ADAPTED, **{name: name.replace("_", " ") for name in WITHOUT}}.items():
            found = results.get(name, [])
            if found:
                cells = [_spread([one["target"]["miou"] for one in found])]
                cells += [_region([one["target"]["conditions"][region] for one in found]) for region in regions]
                rows.append([label, str(len(found)), *cells])
        last = next(iter(results.values()))[-1]
        tables.append(markdown(head, rows) + "\n\n" + source({**last, "command": "python -m benchmarks.adaptation"}))
    return "\n\n".join(tables) or "No run has a result file yet."


def _adaptations(benchmark: str) -> dict[str, list[dict[str, Any]]]:
    """Name of a run -> its results, a seed each."""
    results: dict[str, list[dict[str, Any]]] = {}
    for run in sweep():
        if run.benchmark == benchmark and run.name != "start" and run.result.is_file():
            result = read_result(f"adaptation/{benchmark}/{run.name}_{run.seed}")
            results.setdefault(run.name, []).append(result)
    return results


def _region(reports: list[dict[str, Any]]) -> str:
    return f"{_spread([r['miou'] for r in reports])}, {_spread([r['iou']['flood'] for r in reports])}"


def _spread(values: list[float]) -> str:
    found = over_seeds(values)
    return f"{found['mean']:.3f}" + (f" (± {found['spread'] / 2:.3f})" if found["seeds"] > 1 else "")


def rendered(text: str) -> str:
    def fill(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", fill, text, flags=re.S)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when README is out of date")
    check = parser.parse_args().check
    text = README.read_text()
    new = rendered(text)
    if check and new != text:
        sys.exit("README.md: its tables are not those of benchmarks/results; run `python -m benchmarks.tables`")
    README.write_text(new)


if __name__ == "__main__":
    main()
