"""Tables of the whole model: parameters, latency, and the runs on OMBRIA."""

from __future__ import annotations

from typing import Any

from benchmarks.registry import RESULTS, read_result
from benchmarks.tables.shared import markdown, source, table


@table
def complexity() -> str:
    """Parameters and GMAC by number of modalities."""
    result = read_result("complexity")
    rows = []
    for default, separate in zip(result["default"], result["separate"], strict=True):
        rows.append(
            [
                str(default["modalities"]),
                f"{default['params_m']:.2f}",
                *(f"{default['gmac'][s]:.1f} / {default['gmac_fused'][s]:.1f}" for s in ("512", "1024")),
                *(f"{separate['gmac'][s]:.1f}" for s in ("512", "1024")),
            ]
        )
    for name, label in (("cmnext_b0", "CMNeXt-B0, 4 modalities"), ("cmnext_b2", "CMNeXt-B2, 4 modalities")):
        peer = result["peers"][name]
        gmac = [f"{peer['gmac'][s]:.1f}" for s in ("512", "1024")]
        rows.append([label, f"{peer['params_m']:.2f}", *gmac, "", ""])
    head = [
        "modalities",
        "params (M)",
        "GMAC at 512, trained / fused",
        "at 1024",
        "separate at 512",
        "separate at 1024",
    ]
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
    "pairs": "EGFormer-B0, both dates of a satellite as one sensor, dropping",
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
