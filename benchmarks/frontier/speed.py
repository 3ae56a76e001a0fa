"""What the models of the frontier cost at inference: parameters, multiply-adds, and time in turns in one process.

Batch 1, 512x512, fused head, on the CPU, with random weights and every modality given: a task's channels and classes,
no data. Ratios are to early fusion. Rows that differ in training alone share one model.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.complexity import gmac, parameters
from benchmarks.frontier import runs as frontier_runs
from benchmarks.frontier.late_fusion import LateFusion
from benchmarks.frontier.runs import LATE, SINGLE, Run, description_of, loaded, modalities_of, rows_of
from benchmarks.latency import timed
from benchmarks.registry import machine, write_result
from egformer_fast.models import create_model
from egformer_fast.ops._backend import choose

SIZE = 512
THREADS = (1, 2)
ROUNDS = 9
FIRST = "early_fusion"


def model_of(task: str, name: str) -> Any:
    """The model of a row, as a run of it would have it, for inference."""
    channels = modalities_of(task)
    if name == LATE:
        return LateFusion({modality: model_of(task, SINGLE + modality) for modality in channels}).eval()
    config = loaded(Run(task, "steps", name, 0), Path())
    names = config.data.modalities or list(channels)
    options = {key: value for key, value in dataclasses.asdict(config.model).items() if value is not None}
    kind = options.pop("name")
    model = create_model(
        kind, len(description_of(task).classes), {key: channels[key] for key in names}, **options
    ).eval()
    model.validate = False
    return model.fuse_()


def alike(task: str) -> dict[str, str]:
    """Row -> the first row that has the same model but for the names of its modalities; FIRST comes first."""
    described = modalities_of(task)
    names = [FIRST, *(name for name in rows_of(task) if name != FIRST)]
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    for name in names:
        config = loaded(Run(task, "steps", name, 0), Path())
        channels = [described[key] for key in config.data.modalities or described]
        kind = json.dumps([name == LATE, channels, dataclasses.asdict(config.model)])
        first[name] = found.setdefault(kind, name)
    return first


def measure(task: str, size: int = SIZE, threads: tuple[int, ...] = THREADS, rounds: int = ROUNDS) -> Path:
    """Time the models of a task and write benchmarks/results/frontier/latency_<task>.json."""
    first = alike(task)
    models = {name: model_of(task, name) for name in dict.fromkeys(first.values())}
    inputs = {
        name: torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(0))
        for name, channels in modalities_of(task).items()
    }

    def given(model: Any) -> dict[str, torch.Tensor]:
        return {name: inputs[name] for name in model.modalities}

    variants = {name: (lambda model=model: model(given(model))) for name, model in models.items()}
    timings = {str(count): timed(variants, count, rounds) for count in threads}
    costs = {name: cost(task, name, size) for name in models}
    result = {
        "command": f"python -m benchmarks.frontier latency {task}",
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": machine(),
        "backend": choose("cpu")[0],
        "size": size,
        "first": FIRST,
        "models": {
            name: {**costs[same], "threads": {count: timings[count][same] for count in timings}}
            for name, same in first.items()
        },
    }
    return write_result(f"frontier/latency_{task}", result, frontier_runs.RESULTS)


def cost(task: str, name: str, size: int) -> dict[str, float]:
    """Parameters in millions and multiply-adds in 1e9 of a row's model, fused."""
    with torch.device("meta"):
        model = model_of(task, name)
    return {"params_m": parameters(model) / 1e6, "gmac": gmac(model, size)}
