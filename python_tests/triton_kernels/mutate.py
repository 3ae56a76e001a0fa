"""Break the Triton kernels on purpose, one line at a time, and see that the interpreter's tests notice:

    python python_tests/triton_kernels/mutate.py [words that the fault's line must contain]

Each fault of seeded_faults.py replaces a text that occurs once. The tests of the op, run on a copy, must pass without
it and fail with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from seeded_faults import ATTENTION, DROP, FAULTS, SCORE

ROOT = Path(__file__).parents[2]


def tests_of(module: str, old: str, new: str) -> subprocess.CompletedProcess[str]:
    """The tests of a module's op on a copy in which `old` is `new`."""
    copy = ROOT / "build" / "mutant_triton"
    shutil.rmtree(copy, ignore_errors=True)
    for folder in ("egformer_fast", "benchmarks", "python_tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", ".git"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    path = copy / "egformer_fast" / "triton" / f"{module}.py"
    path.write_text(path.read_text().replace(old, new))
    op = module if module in (SCORE, DROP) else ATTENTION
    folder = "python_tests/triton_kernels"
    # The quick ones first.
    tests = [f"{folder}/test_interpreted.py", f"{folder}/test_traffic.py", f"python_tests/ops/test_{op}.py"]
    run = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    run += ["-k", "triton-cpu or test_interpreted or test_traffic"]
    return subprocess.run(run, cwd=copy, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)


def outcome(module: str, old: str, new: str) -> str:
    result = tests_of(module, old, new)
    if result.returncode < 0:  # loads far from any tensor
        return f"caught by a crash, signal {-result.returncode}"
    failed = [line for line in result.stdout.splitlines() if line.startswith("FAILED")]
    return f"caught by {failed[0].split('::')[-1][:70]}" if failed else f"survives (exit {result.returncode})"


def main() -> int:
    wanted = sys.argv[1:]
    chosen = [fault for fault in FAULTS if all(word in f"{fault[0]} {fault[1]}" for word in wanted)]
    for module in dict.fromkeys(module for module, _, _ in chosen):
        whole = tests_of(module, "\0", "")
        if whole.returncode != 0:
            sys.exit(f"{module}: its tests fail without a fault\n{whole.stdout[-2000:]}{whole.stderr[-500:]}")
    bad = 0
    for module, old, new in chosen:
        what = outcome(module, old, new)
        bad += not what.startswith("caught")
        print(f"{module}: {' '.join(old.split())[:70]} -> {' '.join(new.split())[-50:]}: {what}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
