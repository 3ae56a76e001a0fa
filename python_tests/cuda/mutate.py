"""Break the CUDA kernels on purpose, one line at a time, and see that the tests notice:

    python python_tests/cuda/mutate.py [words: only mutations whose file or line contains one of them]

Each mutation (mutations.py) replaces a text that occurs once, in a copy of csrc. It must compile; then the tests of its
op run until one fails, and where all pass, the kernels of the op under the address and the thread sanitizer. Before a
file's mutations the copy as it is must pass. Outcomes go to benchmarks/results/cuda_mutations.json, one by one.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from mutations import MUTATIONS, OPS, Mutation
from simt_build import COMPILER, CSRC

TESTS = Path(__file__).parent
ROOT = TESTS.parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import registry  # noqa: E402

NAME = "cuda_mutations"
COPY = ROOT / "build" / "mutant"  # one place: what a mutation leaves alone is not compiled again
SANITIZERS = ("address", "thread")


def python(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Over the copy."""
    environment = {**os.environ, "EGFORMER_CSRC": str(COPY)}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def build(what: str) -> subprocess.CompletedProcess[str]:
    return python(TESTS, "-c", f"import simt_build; print(simt_build.{what})")


def failed_test(op: str) -> str | None:
    """The first test of the op that fails on the copy."""
    tests = TESTS / f"test_cuda_{op}.py"
    result = python(ROOT, "-m", "pytest", "-xq", "-p", "no:cacheprovider", str(tests))
    if result.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (?:\S*/)?(test_\w+\.py::.*?)(?: - .*)?$", result.stdout, re.M)
    return failed[1] if failed else f"{tests.name}: exit status {result.returncode}"  # such as a crash


def failed_sanitizer(op: str) -> str | None:
    for sanitizer in SANITIZERS:
        built = build(f"executable({sanitizer!r})")
        if built.returncode != 0:
            raise RuntimeError(built.stderr)
        if subprocess.run([built.stdout.strip(), op], capture_output=True).returncode != 0:
            return f"test_simt_layer.py::test_no_sanitizer_objects_to_right_kernels[{sanitizer}]"
    return None


def copy_sources(mutation: Mutation | None = None) -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(CSRC, COPY)
    if mutation is not None:
        file = COPY / mutation.file
        file.write_text(file.read_text().replace(mutation.old, mutation.new))


def outcome(mutation: Mutation) -> tuple[str, str | None]:
    """("caught", by which test), or what is wrong."""
    count = (CSRC / mutation.file).read_text().count(mutation.old)
    if count != 1:
        return f"does not apply: its text occurs {count} times", None
    copy_sources(mutation)
    if build("module()").returncode != 0:
        return "does not compile", None
    by = failed_test(mutation.op) or failed_sanitizer(mutation.op)
    return ("caught" if by else "survives"), by


def record(mutation: Mutation, what: str, by: str | None) -> None:
    """Put the outcome into the result file, in the order of MUTATIONS; outcomes of former mutations go."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    if (registry.RESULTS / f"{NAME}.json").is_file():
        rows = {(row["file"], row["old"], row["new"]): row for row in registry.read_result(NAME)["rows"]}
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    rows[mutation.key] = {**mutation.fields, "outcome": what, "by": by, "date": today}
    facts = {"case": NAME, "command": "python python_tests/cuda/mutate.py", "date": today}
    facts |= {"machine": registry.machine(), "compiler": COMPILER}
    registry.write_result(NAME, {**facts, "rows": [rows[m.key] for m in MUTATIONS if m.key in rows]})


def main() -> int:
    words = sys.argv[1:] or [""]
    chosen = [m for m in MUTATIONS if any(word in f"{m.file} {m.old}" for word in words)]
    copy_sources()
    for op in [op for op in OPS if any(m.op == op for m in chosen)]:
        broken = failed_test(op) or failed_sanitizer(op)
        if broken:
            print(f"the kernels as they are fail: {broken}")
            return 1
    outcomes = []
    for mutation in chosen:
        what, by = outcome(mutation)
        record(mutation, what, by)
        outcomes.append(what)
        print(f"{what:8} {mutation.file}: {' '.join(mutation.old.split())}    {by or ''}", flush=True)
    return 0 if set(outcomes) <= {"caught"} else 1


if __name__ == "__main__":
    sys.exit(main())
