"""Tables of GPU results that lack something: a chip without nvcc, a variant left out, a tool that did not answer."""

from __future__ import annotations

from typing import Any

from benchmarks.tables.gpu import STEPS, about, op_cells, training_rows


def timings(**seconds: float) -> dict[str, Any]:
    return {"timings": {name: {"median_s": value} for name, value in seconds.items()}}


def test_cells_of_an_op() -> None:
    assert op_cells(timings(eager=4e-6, compile=2e-6, cuda=1e-6)) == ["2 compile", "1 (2.0x)", "-"]
    assert op_cells(timings(triton=3e-6)) == ["-", "-", "3"]


def test_steps_that_were_not_timed_have_a_dash() -> None:
    row = {"size": 512, "batch": 8, **timings(**{STEPS[0]: 0.25})}
    assert training_rows({"rows": [row]}) == [["512, batch 8", "250", *["-"] * (len(STEPS) - 1)]]


def test_the_driver_is_said_where_it_is_known() -> None:
    def said(smi: object) -> str:
        machine = {"chip": "H100", "nvidia_smi": smi, "torch": "2.11", "processor": "none"}
        return about({"machine": machine, "command": "python", "date": "2026-11-27"})

    assert said({"driver_version": "570.1"}).startswith("H100, driver 570.1. ")
    assert said("not found").startswith("H100. ")
