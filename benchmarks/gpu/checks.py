"""The op tests on the device, one process a backend and a file, several at once; a few under compute-sanitizer; and
the tests of training runs that repeat themselves to the bit.

pytest writes what came out as JUnit XML, also when it is interrupted: a job that takes too long is, and what it has
shown by then counts.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from benchmarks.gpu.baselines import refusals, usable_backends
from benchmarks.gpu.part import ROOT, Part

TESTS = Path("python_tests")
FILES = tuple(f"ops/test_{name}.py" for name in ("modality_attention", "modality_drop", "modality_score", "graphs"))
RUNS = tuple(
    f"train/test_{name}.py" for name in ("train_command", "adapt_command", "adapt_light", "adapt_engine", "engine")
)
TINY = " and (strided_input or same_bits)"
SANITIZED = "test_gradient_error_against_float64 or test_dropped or test_strided_input or test_missing"
# Not initcheck: the tests fill fresh memory with NaN. "fmha": an attention kernel of PyTorch's, which the tests compare
# with and of which racecheck reports hazards.
TOOLS = {"memcheck": (), "racecheck": ("--kernel-name-exclude", "kns=fmha")}
TOOLKIT = "/usr/local/cuda"  # where NVIDIA's installers put it; setup.py looks for nvcc there, too


@dataclass(frozen=True)
class Job:
    """One pytest process over a file of TESTS: `select` is its -k; prefix: a command that it runs under."""

    backend: str
    file: str
    select: str | None
    prefix: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


def read_junit(path: Path, interrupted: bool) -> dict[str, Any]:
    """Counts, and the names and first lines of what failed.

    Of an interrupted run the last test is left out: the one that was running stands there as if it had passed.
    """
    counts: dict[str, Any] = {"passed": 0, "failed": 0, "skipped": 0, "failures": []}
    if not path.is_file() or path.stat().st_size == 0:
        return counts
    tests = list(ElementTree.parse(path).iter("testcase"))
    for test in tests[:-1] if interrupted else tests:
        broken = [found for found in (test.find("failure"), test.find("error")) if found is not None]
        if broken:
            counts["failed"] += 1
            message = (broken[0].get("message") or "").strip().splitlines()
            counts["failures"].append({"test": str(test.get("name")), "error": message[0][:300] if message else ""})
        else:
            counts["skipped" if test.find("skipped") is not None else "passed"] += 1
    return counts


# What a shell starts in the background ignores SIGINT, and so would its pytest: a job whose time is up could not end
# with a report.
PYTEST = "import signal, sys, pytest; signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(pytest.main())"


def run_job(job: Job, until: float) -> dict[str, Any]:
    """Run one job; `problem` says why it counts as failed."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        report = Path(work) / "junit.xml"
        command = [*job.prefix, sys.executable, "-c", PYTEST, str(ROOT / TESTS / job.file), f"--junitxml={report}"]
        command += ["-p", "no:cacheprovider", "--hypothesis-profile=brief", *(["-k", job.select] if job.select else [])]
        # cuBLAS gives the same bits twice only with a workspace of its own choosing.
        environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8", **dict(job.environment)}
        # Every job with threads for all cores keeps the others waiting for theirs.
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers())))
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        late = False
        try:
            output, _ = process.communicate(timeout=max(1.0, until - time.time()))
        except subprocess.TimeoutExpired:
            late = True
            process.send_signal(signal.SIGINT)
            try:
                output, _ = process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
        counts = read_junit(report, late)
    row: dict[str, Any] = {"backend": job.backend, "file": job.file, "select": job.select, **counts}
    row |= {"status": process.returncode, "seconds": round(time.monotonic() - started, 1), "problem": None}
    if late:
        row["problem"] = "stopped: its time was up"
    elif process.returncode != 0:
        row["problem"] = f"status {process.returncode}"
        tool = [line for line in output.splitlines() if line.startswith("=========")]  # compute-sanitizer's
        row["output"] = "\n".join(tool)[:4000] + output[-4000:]
    elif not counts["passed"]:
        row["problem"] = "no test ran"
    return row


def finish(part: Part, jobs: Sequence[Job], workers: int) -> int:
    """Run the jobs, several at once, and record them in their order."""
    with ThreadPoolExecutor(workers) as pool:
        for row in pool.map(lambda job: run_job(job, part.until), jobs):
            if row["problem"]:
                first = f"; {row['failures'][0]['test']}: {row['failures'][0]['error']}" if row["failures"] else ""
                where = {"file": row["file"], "select": row["select"]}
                part.fail(where, row["backend"], f"{row['problem']}, {row['failed']} failed{first}", ours=True)
            part.add([row])
    return part.finish()


def run_tests(part: Part) -> int:
    """python_tests/ops for every backend that the device has, the reference included."""
    kind = torch.device(part.device).type
    part.data["refusals"] = refusals(part.device)
    backends = list(dict.fromkeys([*usable_backends(part.device), "reference"]))
    if part.tiny:
        jobs = [Job(name, FILES[1], f"{name}-{kind}{TINY}") for name in backends]
    else:
        jobs = [Job("choice", "ops/test_backend.py", None)]
        jobs += [Job(name, file, f"{name}-{kind}") for name in backends for file in FILES]
    return finish(part, jobs, 1 if part.tiny else workers())


def workers() -> int:
    return max(1, min(8, (os.cpu_count() or 1) // 2))


def run_training_tests(part: Part) -> int:
    """The tests of python_tests/train that any device must pass."""
    kind = torch.device(part.device).type
    return finish(part, [Job("auto", file, kind) for file in RUNS[-1 if part.tiny else 0 :]], workers())


def find_sanitizer() -> str | None:
    """The one on PATH, else that of the toolkit in CUDA_HOME or in the usual place."""
    homes = [home for home in (os.environ.get("CUDA_HOME"), TOOLKIT) if home]
    places = [f"{home}/{folder}" for home in homes for folder in ("bin", "compute-sanitizer")]
    return shutil.which("compute-sanitizer", path=os.pathsep.join([os.environ.get("PATH", ""), *places]))


def run_sanitizer(part: Part) -> int:
    """A few tests of each of our GPU backends under memcheck and racecheck."""
    tool = find_sanitizer()
    if tool is None:
        part.data["absent"] = f"compute-sanitizer is not on PATH, in CUDA_HOME or in {TOOLKIT}"
        print(f"  {part.data['absent']}")
        return part.finish()
    kind = torch.device(part.device).type
    # Without the caching allocator every tensor is an allocation of its own: reading past its end shows.
    environment = (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),)
    jobs = [
        Job(
            f"{name}, {check}",
            file,
            f"{name}-{kind} and ({'strided_input' if part.tiny else SANITIZED})",
            (tool, "--tool", check, *options, "--error-exitcode", "99"),
            environment,
        )
        for name in usable_backends(part.device)[: 1 if part.tiny else None]
        for check, options in list(TOOLS.items())[: 1 if part.tiny else None]
        for file in FILES[1 : 2 if part.tiny else 3] + (() if part.tiny else FILES[:1])
    ]
    return finish(part, jobs, 1 if part.tiny else 4)
