"""benchmarks/gpu_day.sh: what it refuses, that one part's failure leaves the others alone, what it writes and where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "benchmarks" / "gpu_day.sh"


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def day(tmp_path):
    """Run the script behind a nvidia-smi of ours, which `gpu` makes list a GPU."""
    tools = tmp_path / "tools"
    tools.mkdir()

    def run(*words, gpu=False):
        answer = 'echo "GPU 0: of paper"' if gpu else "exit 9"
        executable(tools / "nvidia-smi", f"#!/bin/sh\n{answer}\n")
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            ["bash", str(SCRIPT), *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )

    return run


KFD = "/dev/kfd exists, by which gpu_day.sh finds an AMD GPU: its refusal without a GPU cannot happen here"


@pytest.mark.skipif(Path("/dev/kfd").exists(), reason=KFD)
def test_without_a_gpu_one_line_says_so(day, tmp_path):
    done = day("--out", str(tmp_path / "out"))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == ("gpu_day: there is no GPU here; --rehearse runs everything on the CPU with tiny shapes\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fast"], "unknown argument --fast; the head of benchmarks/gpu_day.sh lists them"),
        (
            ["--parts", "ops models"],
            "unknown part models, wanted some of build ceilings tests training-tests compile ops model training "
            "adaptation sanitizer",
        ),
        (["--minutes", "0"], "--minutes must be a whole number of at least 1, got 0"),
        (["--out"], "--out wants a value"),
    ],
)
def test_wrong_words_are_refused(day, words, message):
    done = day(*words)
    assert done.returncode == 2 and done.stderr == f"gpu_day: {message}\n"


def test_a_torch_without_the_gpu_is_refused_when_it_is_named(day, tmp_path):
    python = executable(tmp_path / "python", "#!/bin/sh\nexit 1\n")
    done = day("--python", str(python), "--out", str(tmp_path / "out"), gpu=True)
    assert done.returncode == 2 and done.stderr == f"gpu_day: the torch of {python} reaches no GPU\n"


def test_a_part_that_fails_leaves_the_others_alone(day, tmp_path):
    """A Python of paper: it writes down the parts that it is asked for and fails in one."""
    calls = tmp_path / "calls"
    lines = (
        "#!/bin/sh",
        '[ "$1" = -m ] || exit 0',
        f'echo "$3 $*" >> {calls}',
        '[ "$3" != tests ] || { echo no good; exit 7; }',
    )
    python = executable(tmp_path / "python", "\n".join(lines) + "\n")
    parts = "ceilings tests training-tests compile ops model training sanitizer"
    done = day("--python", str(python), "--parts", parts, "--out", str(tmp_path / "out"), gpu=True)
    assert done.returncode == 1
    lines = calls.read_text().splitlines()
    assert [line.split()[0] for line in lines] == [*parts.split(), "summary"]
    assert all(f"--device cuda --out {tmp_path}/out" in line for line in lines)
    assert "--seconds 20 " in f"{lines[0]} " and "@SECONDS@" not in calls.read_text()
    assert "gpu_day: tests: failed with status 7" in done.stdout and "    no good" in done.stdout
    assert done.stdout.endswith("gpu_day: failed or not run: tests\n")


def test_a_rehearsal_writes_marked_results_and_leaves_the_checkout_alone(day, tmp_path):
    def state():
        words = ["git", "status", "--porcelain", "--untracked-files=all"]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    before, out = state(), tmp_path / "out"
    done = day("--rehearse", "--python", sys.executable, "--parts", "build ceilings", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rows\n  figures of a rehearsal, which mean nothing\n" in done.stdout
    assert done.stdout.endswith("gpu_day: all parts passed\n")
    data = json.loads((out / "cpu_ceilings.json").read_text())
    assert data["rehearsal"] and data["device"] == "cpu" and data["rows"][0]["rates"]["copy"] > 0
    assert state() == before


COLLECT = """
import sys, pytest, torch
torch.cuda.is_available = lambda: True
torch.cuda.get_device_capability = lambda *device: (9, 0)
import egformer_fast._ext
egformer_fast._ext.backends = ("cpu", "cuda")
sys.exit(pytest.main(["--collect-only", "-p", "no:cacheprovider", "python_tests/ops"]))
"""


def test_the_op_tests_run_on_a_gpu_where_there_is_one():
    """Collected as on a machine with a GPU: every test of a backend on the CPU is there on the GPU."""
    done = subprocess.run([sys.executable, "-c", COLLECT], cwd=ROOT, capture_output=True, text=True)
    names = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout[-2000:]
    on_cpu = sum("reference-cpu" in name for name in names)
    assert on_cpu > 100
    for pair in ("cuda-cuda", "triton-cuda", "reference-cuda"):
        assert sum(pair in name for name in names) == on_cpu, pair
