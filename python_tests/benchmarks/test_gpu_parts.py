"""benchmarks/gpu on the CPU with tiny shapes: what is written, what is refused, what a crash leaves."""

from __future__ import annotations

import json
import math
import sys
import time

import pytest
import torch
from gpu_parts import part, read
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import model_timing, op_timing, summary
from benchmarks.gpu.agree import disagreement, outputs_of
from benchmarks.gpu.baselines import Implementation, eager_attention
from benchmarks.gpu.device import best_rate, ceilings
from benchmarks.gpu.part import watched
from benchmarks.ops_cases import OPS
from benchmarks.registry import write_result

RATES = {"copy": 1e10, "gemm float32": 1e11, "gemm bfloat16": 1e10}
TIMING = {"median_s", "min_s", "quartiles_s", "ratio", "ratio_quartiles", "rounds", "host_s", "peak_bytes"}
BASELINES = {
    "modality_score": {"eager", "compile"},
    "modality_drop": {"eager", "compile"},
    "modality_attention": {"eager", "compile", "sdpa", "sdpa compile", "flex", "flex gathered"},
}
FLEX = {"flex", "flex gathered"}


pytestmark = pytest.mark.usefixtures("as_users_run_it")


@pytest.mark.parametrize("op", OPS)
def test_every_implementation_of_an_op_agrees_and_is_timed(op, tmp_path):
    """FlexAttention has no backward on the CPU: that is recorded, and is no failure of ours."""
    assert op_timing.run(part(tmp_path, op), op, RATES) == 0
    data = read(tmp_path, op)
    assert data["complete"] and data["rehearsal"] and data["device"] == "cpu" and data["running"] is None
    assert {"commit", "date", "command", "lost", "not_reached"} <= set(data)
    assert {"processor", "torch", "triton", "cuda"} <= set(data["machine"])
    assert len(data["rows"]) == 4
    for row in data["rows"]:
        absent = FLEX if op == "modality_attention" and row["what"] != "forward" else set()
        assert set(row["timings"]) >= (BASELINES[op] | {"reference"}) - absent
        assert not absent & set(row["timings"])
        for timing in row["timings"].values():
            assert TIMING | {"bytes_per_s", "of_copy"} <= set(timing) and timing["median_s"] > 0
            assert ("of_gemm" in timing) == (op == "modality_attention")
    assert {failure["implementation"] for failure in data["failures"]} == (
        FLEX if op == "modality_attention" else set()
    )
    assert all("does not support backward on CPU" in failure["error"] for failure in data["failures"])
    text = summary.report(tmp_path, "cpu")
    assert text.startswith(f"{op}, {data['date']}: 4 rows") and "which mean nothing" in text


def implementations_with(**others):
    """For modality_score: eager, and others."""

    def make(op, case, device):
        return {"eager": Implementation("eager", case.plain)} | {
            name: Implementation(kind, lambda *inputs, call=call: call(case, *inputs))
            for name, (kind, call) in others.items()
        }

    return make


def broken(case, *inputs):
    raise ValueError("not today\nsecond line")


def test_what_computes_something_else_or_raises_is_recorded_and_not_timed(tmp_path, monkeypatch):
    wrong = implementations_with(
        other=("baseline", lambda case, *inputs: 1.5 * case.plain(*inputs)),
        broken=("baseline", broken),
        ours=("ours", lambda case, *inputs: case.ours(*inputs)),
        off=("ours", lambda case, *inputs: case.ours(*inputs) + 1e-3),
    )
    monkeypatch.setattr(op_timing, "implementations", wrong)
    assert op_timing.run(part(tmp_path), "modality_score", RATES) == 1
    data = read(tmp_path)
    assert all("eager" in row["timings"] and "ours" in row["timings"] for row in data["rows"])
    assert not any({"other", "broken"} & set(row["timings"]) for row in data["rows"])
    errors = {(f["implementation"], f["where"]["what"], f["where"]["dtype"]): f for f in data["failures"]}
    assert "disagrees with the reference in score" in errors["other", "forward", "float32"]["error"]
    assert "disagrees with the reference in" in errors["other", "forward + backward", "bfloat16"]["error"]
    assert errors["broken", "forward", "bfloat16"]["error"] == "ValueError: not today"
    assert errors["off", "forward", "float32"]["ours"] and not errors["broken", "forward", "float32"]["ours"]


def test_a_baseline_that_is_not_the_op_is_found_in_float64(tmp_path, monkeypatch):
    monkeypatch.setattr(
        op_timing,
        "implementations",
        lambda op, case, device: {"eager": Implementation("eager", lambda *i: case.plain(*i) * (1 + 1e-6))},
    )
    op_timing.run(part(tmp_path), "modality_score", RATES)
    assert all(row["timings"] == {} for row in read(tmp_path)["rows"])
    assert len(read(tmp_path)["failures"]) == 4


def test_agreement_bounds():
    exact = [torch.tensor([1.0, -2.0], dtype=torch.float64)]
    plain = [torch.tensor([1.0, -2.0001])]

    def judge(kind, shift, dtype=torch.float32):
        return disagreement(kind, [(exact[0] + shift).to(dtype)], exact, plain, ["y"])

    assert judge("ours", 1.9e-4) is None and judge("baseline", 7.9e-4) is None
    assert "error 3.000e-04, bound 2.0" in judge("ours", 3e-4) and "in y" in judge("baseline", 9e-4)
    assert judge("eager", 1e-9, torch.float64) is None and judge("eager", 1e-8, torch.float64) is not None
    for bad in (math.nan, math.inf):
        assert "error inf" in judge("ours", bad)
        assert disagreement("ours", exact, exact, [torch.tensor([bad, 1.0])], ["y"]) is not None
    assert disagreement("ours", [torch.zeros(3)], exact, plain, ["y"]) is not None
    assert disagreement("ours", [], exact, plain, ["y"]) == "gives 0 results, the reference 1"
    # One that is zero but for rounding is judged by the size of the others.
    noise = torch.tensor([1e-17], dtype=torch.float64)
    tensors = [*exact, noise], [*plain, noise.float()]
    assert disagreement("ours", [exact[0].float(), torch.tensor([1e-7])], *tensors, ["y", "z"]) is None
    assert disagreement("ours", [exact[0].float(), torch.tensor([1e-5])], *tensors, ["y", "z"]) is not None


class OnlyMeta(TorchDispatchMode):
    """Refuses every tensor on the CPU: on a GPU an index made there would be copied in every call."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **(kwargs or {}))
        assert all(t.is_meta for t in tree_leaves(outputs) if isinstance(t, torch.Tensor)), function
        return outputs


@pytest.mark.parametrize("op", OPS)
def test_the_expressions_stay_on_the_device_of_their_inputs(op):
    """On the meta device; FlexAttention refuses that."""
    for _, stage in op_timing.stages(False):
        case = OPS[op][0](stage, "meta", torch.bfloat16)
        wanted = [t.shape for t in outputs_of(case.ours, case.inputs)]
        for plain in [case.plain] + [eager_attention] * (op == "modality_attention"):
            with OnlyMeta():
                got = outputs_of(plain, [*case.inputs, *case.constants])
            assert [t.shape for t in got] == wanted
        assert case.forward.moved > 0 and case.both.moved > case.forward.moved


def test_jobs_that_compile_cover_every_place_once():
    places = len(list(op_timing.stages(False)))
    covered = {op: [] for op in OPS}
    for _, op, _, span in command.compile_jobs(places):
        begin, end = map(int, span.split(":"))
        covered[op] += range(begin, min(end, places))
    assert all(sorted(numbers) == list(range(places)) for numbers in covered.values())


def test_compiling_alone_survives_what_does_not_compile(monkeypatch, capsys):
    monkeypatch.setattr(op_timing, "implementations", implementations_with(broken=("baseline", broken)))
    op_timing.compile_only("modality_score", "cpu", list(op_timing.stages(True)))
    assert capsys.readouterr().out.count("broken: ValueError('not today") == 2


def test_no_time_is_recorded_place_by_place(tmp_path):
    assert op_timing.run(part(tmp_path, seconds=-1.0), "modality_drop", RATES) == 1
    assert len(read(tmp_path)["not_reached"]) == 2 and read(tmp_path)["rows"] == []
    assert model_timing.run(part(tmp_path, seconds=-1.0)) == 1
    assert len(read(tmp_path)["not_reached"]) == 2 and read(tmp_path)["failures"] == []


CRASH = """
import os, sys, time
from pathlib import Path
from benchmarks.gpu.part import Part

part = Part("made", "cpu", Path(sys.argv[1]), True, time.time() + 100)
part.resume()
for place in ({"stage": 0}, {"stage": 1}):
    if part.has(place):
        continue
    for name in ("good", "bad"):
        if name not in part.data["lost"]:
            part.begin(place, name, ours=name == "bad")
            if name == "bad" and place["stage"] == 1:
                os.abort()
    part.add([place])
sys.exit(part.finish())
"""


def test_a_crash_costs_only_what_crashed(tmp_path, capfd):
    status = watched([sys.executable, "-c", CRASH, str(tmp_path)], tmp_path / "cpu_made.json", time.time() + 100)
    data = read(tmp_path)
    assert status == 1 and data["complete"] and data["lost"] == ["bad"]
    assert data["rows"] == [{"stage": 0}, {"stage": 1}]
    (failure,) = data["failures"]
    assert failure["where"] == {"stage": 1} and failure["error"] == "the process ended with status -6"
    assert "started again without what ended it" in capfd.readouterr().err


def test_a_part_that_hangs_or_never_begins_is_given_up(tmp_path, monkeypatch):
    """Who was running when the time was up is recorded."""
    monkeypatch.setattr("benchmarks.gpu.part.GRACE", 1.0)
    made = part(tmp_path)
    made.begin({"stage": 0}, "slow", ours=False)
    text = json.dumps(made.data)
    hang = [sys.executable, "-c", "import sys, time; open(sys.argv[1], 'w').write(sys.argv[2]); time.sleep(60)"]
    assert watched([*hang, str(made.path), text], made.path, time.time() + 4) == 2
    (failure,) = read(tmp_path)["failures"]
    assert failure["where"] == {"stage": 0} and failure["implementation"] == "slow" and not failure["ours"]
    assert failure["error"] == "still running when the time was up"
    assert watched(["false"], made.path, time.time() + 100) == 2


def test_a_lost_device_ends_the_process(tmp_path, monkeypatch):
    def lost(device):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("benchmarks.gpu.part.synchronize", lost)
    monkeypatch.setattr(op_timing, "implementations", implementations_with(bad=("ours", broken)))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        op_timing.run(part(tmp_path), "modality_score", RATES)
    data = read(tmp_path)
    assert data["lost"] == ["bad"] and not data["complete"] and data["running"] is None


def test_results_are_written_whole_or_not_at_all(tmp_path):
    write_result("made", {"rows": [1]}, tmp_path)
    with pytest.raises(TypeError):
        write_result("made", {"rows": [object()]}, tmp_path)
    assert json.loads((tmp_path / "made.json").read_text()) == {"rows": [1]}
    assert [path.name for path in tmp_path.iterdir()] == ["made.json"]


def test_ceilings_and_rates(tmp_path):
    found = ceilings("cpu", tiny=True)
    assert set(found) == {"copy", "gemm float32", "gemm bfloat16", "gemm float16"}
    assert all(rate > 0 for rate in found.values())
    times = iter([3.0, 2.0, 5.0, 4.0, 6.0])
    assert best_rate(8.0, lambda: None, lambda run: next(times), 0.0) == 4.0


def test_summary(tmp_path):
    """Speedups are over the fastest baseline of a place; what failed of ours is said, what failed of others counted."""
    common = {"rehearsal": False, "date": "2026-01-01", "complete": True, "lost": [], "not_reached": [], "failures": []}
    place = {"what": "forward", "dtype": "float32"}
    rows = [
        {**place, "timings": {name: {"median_s": seconds} for name, seconds in timings.items()}}
        for timings in ({"eager": 8.0, "sdpa": 4.0, "triton": 1.0}, {"eager": 2.0, "triton": 2.0}, {"triton": 1.0})
    ]
    failures = [
        {"where": {"stage": 1}, "implementation": name, "error": "no", "ours": name == "cuda"}
        for name in ("cuda", "flex")
    ]
    lost = {"failures": failures, "lost": ["cuda"], "complete": False, "not_reached": [{}]}
    write_result("paper_modality_drop", {**common, **lost, "rows": rows}, tmp_path)
    write_result("paper_ceilings", {**common, "rows": [{"rates": {"copy": 2e12}}]}, tmp_path)
    timings = {"triton graph": {"median_s": 0.002}}
    row = {"size": 512, "batch": 1, "dtype": "bfloat16", "keep": [1], "timings": timings}
    write_result("paper_model", {**common, "rows": [row]}, tmp_path)
    assert summary.report(tmp_path, "paper").splitlines() == [
        "ceilings, 2026-01-01: 1 rows",
        "  copy: 2.000e+12 a second",
        "modality_drop, 2026-01-01: 3 rows, not finished, 2 failures, 1 of ours, left out after a crash: cuda,"
        " no time for 1 places",
        "  triton, forward, float32: 2.00x the fastest baseline (2 places, lowest 1.00x)",
        "  failed: cuda at {'stage': 1}: no",
        "model, 2026-01-01: 1 rows",
        "  512, batch 1, bfloat16, keep [1]: triton graph 2.00 ms",
    ]
    assert summary.report(tmp_path, "other").startswith("nothing was written")


def test_without_a_gpu_a_part_is_refused_in_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main(["ops", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
