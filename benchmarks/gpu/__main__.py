"""python -m benchmarks.gpu PART: one part of the GPU measurements; benchmarks/gpu_day.sh runs them all.

ceilings, tests, training-tests, sanitizer, ops, model, training, adaptation write <chip>_<part>.json (ops: a file an
op, or that of --op alone). compile fills the caches of torch.compile and Triton for ops, on all cores. summary prints
what the files say.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.gpu import adaptation_timing, checks, model_timing, op_timing, summary, training_timing
from benchmarks.gpu.device import ceilings, slug
from benchmarks.gpu.part import ROOT, Part, watched
from benchmarks.ops_cases import OPS
from benchmarks.registry import RESULTS

SHARES = {"modality_attention": 2.0, "modality_drop": 1.0, "modality_score": 1.0}  # of the time for ops


def parsed(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("part", choices=[*PARTS, *CHILDREN])
    parser.add_argument("--device", default="cuda", help="cuda (default), or cpu: a rehearsal")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, few rounds: a rehearsal")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu", help="folder of the result files")
    parser.add_argument("--seconds", type=float, default=120.0, help="time for the part; it stops between two places")
    parser.add_argument("--until", type=float, help="when the time is over, in seconds since the epoch")
    parser.add_argument("--op", choices=list(OPS))
    parser.add_argument("--only", help="compile-places: numbers of the first place and of the one after the last, 0:4")
    args = parser.parse_args(words)
    args.until = time.time() + args.seconds if args.until is None else args.until
    return args


def part_of(name: str, args: argparse.Namespace) -> Part:
    return Part(name, args.device, args.out, args.tiny, args.until)


def child(args: argparse.Namespace, part: str, until: float, *more: str) -> list[str]:
    words = ["--device", args.device, "--out", str(args.out), "--until", f"{until:.1f}", *more]
    return [sys.executable, "-m", "benchmarks.gpu", part, *words, *(["--tiny"] if args.tiny else [])]


def run_ceilings(args: argparse.Namespace) -> int:
    part = part_of("ceilings", args)
    part.add([{"rates": ceilings(args.device, args.tiny)}])
    return part.finish()


def rates(args: argparse.Namespace) -> dict[str, float]:
    """The ceilings that were measured before, or measured now."""
    path = part_of("ceilings", args).path
    if path.is_file():
        for row in json.loads(path.read_text())["rows"]:
            return dict(row["rates"])
    return ceilings(args.device, args.tiny)


def run_ops(args: argparse.Namespace) -> int:
    """One op after the other, each in processes of its own."""
    wanted = [args.op] if args.op else list(OPS)
    status, shares = 0, {op: SHARES[op] for op in wanted}
    for op in wanted:
        now = time.time()
        until = now + max(0.0, args.until - now) * shares[op] / sum(shares.values())
        del shares[op]
        path = part_of(op, args).path
        status = max(status, watched(child(args, "op", until, "--op", op), path, until))
    return status


def resumed(name: str, args: argparse.Namespace) -> Part:
    """The part, with what an earlier process of it has left."""
    part = part_of(name, args)
    part.resume()
    return part


def run_watched(name: str, its_child: str, args: argparse.Namespace) -> int:
    """A part whose work is done by one of CHILDREN, in a process of its own."""
    return watched(child(args, its_child, args.until), part_of(name, args).path, args.until)


def compile_jobs(places: int) -> list[list[str]]:
    """Arguments of compile-places: a process for every place of attention, which has most to compile, else for four."""
    found = [
        (begin, "--op", op, "--only", f"{begin}:{begin + step}")
        for op, step in (("modality_attention", 1), ("modality_drop", 4), ("modality_score", 4))
        for begin in range(0, places, step)
    ]
    return [words for _, *words in sorted(found)]


def run_compile(args: argparse.Namespace) -> int:
    """Compile what ops needs, many processes at once. A job that fails is no failure here: ops meets it again."""
    jobs = compile_jobs(len(list(op_timing.stages(args.tiny))))
    environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1"}

    def run(job: list[str]) -> None:
        left = args.until - time.time()
        if left > 0:
            try:
                subprocess.run(
                    child(args, "compile-places", args.until, *job),
                    cwd=ROOT,
                    env=environment,
                    timeout=left,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                print(f"  not all compiled: {' '.join(job)}", flush=True)

    with ThreadPoolExecutor(max(1, min(14, (os.cpu_count() or 1) - 1))) as pool:
        list(pool.map(run, jobs))
    return 0


def run_compile_places(args: argparse.Namespace) -> int:
    begin, end = (int(word) for word in args.only.split(":"))
    op_timing.compile_only(args.op, args.device, list(op_timing.stages(args.tiny))[begin:end])
    return 0


def run_summary(args: argparse.Namespace) -> int:
    print(summary.report(args.out, slug(args.device)))
    return 0


PARTS = {
    "ceilings": run_ceilings,
    "tests": lambda args: checks.run_tests(part_of("tests", args)),
    "training-tests": lambda args: checks.run_training_tests(part_of("training-tests", args)),
    "sanitizer": lambda args: checks.run_sanitizer(part_of("sanitizer", args)),
    "compile": run_compile,
    "ops": run_ops,
    "model": lambda args: run_watched("model", "whole-model", args),
    "training": lambda args: run_watched("training", "training-steps", args),
    "adaptation": lambda args: run_watched("adaptation", "adaptation-steps", args),
    "summary": run_summary,
}
CHILDREN = {
    "op": lambda args: op_timing.run(resumed(args.op, args), args.op, rates(args)),
    "whole-model": lambda args: model_timing.run(resumed("model", args)),
    "training-steps": lambda args: training_timing.run(resumed("training", args)),
    "adaptation-steps": lambda args: adaptation_timing.run(resumed("adaptation", args)),
    "compile-places": run_compile_places,
}


def main(words: list[str] | None = None) -> int:
    args = parsed(words)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            f"benchmarks.gpu: torch {torch.__version__} reaches no GPU; --device cpu --tiny rehearses", file=sys.stderr
        )
        return 2
    return (PARTS | CHILDREN)[args.part](args)


if __name__ == "__main__":
    sys.exit(main())
