"""The lines of benchmarks/gpu that only a GPU reaches, over a GPU of paper: what is called, in which order."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu import device, model_timing


@pytest.fixture
def calls(monkeypatch):
    """torch.cuda with everything that the benchmarks use, on the CPU; the list of what was called."""
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append("record")

        def synchronize(self):
            log.append("wait")

        def elapsed_time(self, other):
            return 250.0

    class Graph:
        def replay(self):
            log.append("replay")

    @contextmanager
    def inside(what):
        log.append(f"enter {what}")
        yield
        log.append(f"leave {what}")

    def stream(name):
        return SimpleNamespace(wait_stream=lambda other: log.append(f"{name} waits"))

    properties = SimpleNamespace(
        name="Paper 1", major=9, minor=0, total_memory=1 << 20, multi_processor_count=3, L2_cache_size=7, uuid="ab"
    )
    fakes = {
        "Event": Event,
        "CUDAGraph": Graph,
        "Stream": lambda which: stream("side"),
        "current_stream": lambda which: stream("main"),
        "stream": lambda which: inside("side"),
        "graph": lambda which: inside("capture"),
        "get_device_properties": lambda which: properties,
        "get_device_name": lambda which: "NVIDIA Paper (1) 80GB",
        "synchronize": lambda which: log.append("synchronize"),
        "memory_allocated": lambda which: 100,
        "max_memory_allocated": lambda which: 164,
        "reset_peak_memory_stats": lambda which: log.append("reset"),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(device, "is_gpu", lambda which: True)
    monkeypatch.setattr(model_timing, "is_gpu", lambda which: True)
    return log


def test_the_clock_flushes_the_cache_before_its_first_event(calls):
    clock = device.DeviceClock("cpu")
    assert clock._flush.numel() == (1 << 20) // 16
    clock._flush = SimpleNamespace(zero_=lambda: calls.append("flush"))
    assert clock(lambda: calls.append("run")) == 0.25
    assert calls == ["flush", "record", "run", "record", "wait"]


def test_peak_memory_is_beyond_what_was_there(calls):
    assert device.peak_bytes(lambda: calls.append("run"), "cpu") == 64
    assert calls == ["reset", "run", "synchronize"]


def test_a_graph_is_captured_after_runs_on_a_side_stream(calls):
    results = iter("abcd")

    def run():
        calls.append("run")
        return next(results)

    replay = model_timing.captured(run, "cpu")
    assert calls == ["side waits", "enter side", *["run"] * 3, "leave side", "main waits"] + [
        "enter capture",
        "run",
        "leave capture",
    ]
    assert replay() == "d" and calls[-1] == "replay"


def test_facts_of_a_chip(calls, monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    tool.write_text('#!/bin/sh\necho "$*" > "$0.words"\necho "Paper, 600.1, 1980, 345, 2619, 700.00, Enabled"\n')
    tool.chmod(0o755)
    facts = device.facts("cpu")
    assert facts["chip"] == "Paper 1" and facts["capability"] == [9, 0] and facts["l2_bytes"] == 7
    assert facts["nvidia_smi"]["driver_version"] == "600.1" and facts["nvidia_smi"]["clocks.max.sm"] == "1980"
    assert (tmp_path / "nvidia-smi.words").read_text().endswith("-i GPU-ab\n")
    tool.write_text("#!/bin/sh\nexit 3\n")
    assert "nvidia-smi gave nothing" in device.facts("cpu")["nvidia_smi"]
    assert device.slug("cpu") == "nvidia_paper_1_80gb"
