"""The device under measurement: what it is, how its time is read, and what it can do at most."""

from __future__ import annotations

import importlib
import importlib.util
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.timing import wall_clock

Run = Callable[[], Any]
QUERIES = ("name", "driver_version", "clocks.max.sm", "clocks.sm", "clocks.max.mem", "power.limit", "persistence_mode")


class DeviceClock:
    """Seconds that a GPU spends on one call, between two events.

    Before the first event a buffer is overwritten that is larger than the L2 cache: every call finds the cache cold,
    and while the device writes, the host gets ahead of it, so that the launches of a call are not in its time. A call
    whose launches take longer than that (see `host_seconds`) is measured with the waiting, as its user would have it.
    """

    def __init__(self, device: str) -> None:
        total = torch.cuda.get_device_properties(device).total_memory
        self._flush = torch.empty(min(1 << 31, total // 16), dtype=torch.int8, device=device)

    def __call__(self, run: Run) -> float:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flush.zero_()
        start.record()
        run()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop)) / 1000


def is_gpu(device: str) -> bool:
    return torch.device(device).type == "cuda"


def clock(device: str) -> Callable[[Run], float]:
    """The function that runs a call and returns its seconds; benchmarks.timing.alternate takes it."""
    return DeviceClock(device) if is_gpu(device) else wall_clock


def synchronize(device: str) -> None:
    if is_gpu(device):
        torch.cuda.synchronize(device)


def host_seconds(run: Run, device: str, times: int = 5) -> float:
    """How long the host is busy with one call: on a GPU, with enqueuing it."""
    seconds = []
    for _ in range(times):
        synchronize(device)
        seconds.append(wall_clock(run))
    synchronize(device)
    return statistics.median(seconds)


def peak_bytes(run: Run, device: str) -> int | None:
    """Memory that a call needs at its peak beyond what is allocated before it; None on the CPU."""
    if not is_gpu(device):
        return None
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def slug(device: str) -> str:
    """The device's name as a file name has it: "nvidia_h100_80gb_hbm3"; "cpu"."""
    name = torch.cuda.get_device_name(device) if is_gpu(device) else "cpu"
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def facts(device: str) -> dict[str, Any]:
    """Chip, driver, clocks and versions: what a figure depends on."""
    found: dict[str, Any] = {
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        # Not by the distribution's name: torch for ROCm comes with one of another name.
        "triton": importlib.import_module("triton").__version__ if importlib.util.find_spec("triton") else None,
    }
    if not is_gpu(device):
        return found
    properties = torch.cuda.get_device_properties(device)
    return found | {
        "chip": properties.name,
        "capability": [properties.major, properties.minor],
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "l2_bytes": getattr(properties, "L2_cache_size", None),
        "nvidia_smi": _nvidia_smi(str(getattr(properties, "uuid", ""))),
    }


def _nvidia_smi(uuid: str) -> dict[str, str] | str:
    """Driver and clocks (MHz, W), or why they are not known."""
    chosen = ["-i", f"GPU-{uuid.removeprefix('GPU-')}"] if uuid else []
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERIES)}", "--format=csv,noheader,nounits", *chosen]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi gave nothing: {error}"
    return dict(zip(QUERIES, (value.strip() for value in done.stdout.splitlines()[0].split(",")), strict=True))


def best_rate(work: float, run: Run, timer: Callable[[Run], float], seconds: float) -> float:
    """`work` over the shortest of many calls: at least 5, for `seconds` at most."""
    run()
    times, stop = [], time.monotonic() + seconds
    while len(times) < 5 or (time.monotonic() < stop and len(times) < 100):
        times.append(timer(run))
    return work / min(times)


def copy_rate(device: str, elements: int, timer: Callable[[Run], float], seconds: float) -> float:
    source = torch.zeros(elements, device=device)
    target = torch.empty_like(source)
    return best_rate(8.0 * elements, lambda: target.copy_(source), timer, seconds)


def gemm_rate(device: str, side: int, dtype: torch.dtype, timer: Callable[[Run], float], seconds: float) -> float:
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return best_rate(2.0 * side**3, lambda: a @ b, timer, seconds)


def ceilings(device: str, tiny: bool = False) -> dict[str, float]:
    """Measured rates: bytes a second (read and written) of copying; FLOPs a second of a large matrix product, by dtype.

    "gemm float32" is without TF32, as the ops compute float32; "gemm tf32" is there to compare.
    """
    timer, seconds = clock(device), 0.05 if tiny else 1.0
    elements, side = (1 << 16, 128) if tiny else (1 << 28, 8192)
    rates = {"copy": copy_rate(device, elements, timer, seconds)}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        rates[f"gemm {str(dtype).removeprefix('torch.')}"] = gemm_rate(device, side, dtype, timer, seconds)
    if is_gpu(device):
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            rates["gemm tf32"] = gemm_rate(device, side, torch.float32, timer, seconds)
        finally:
            torch.set_float32_matmul_precision(before)
    return rates
