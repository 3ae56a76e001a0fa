"""Break the Triton kernels on purpose, one line at a time, and see that the interpreter's tests notice:

    python python_tests/triton_kernels/mutate.py [words that the mutation's line must contain]

Each mutation replaces a text that occurs once. The tests of the op, run on a copy, must then fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCORE, DROP, ATTENTION = "modality_score", "modality_drop", "modality_attention"
BACKWARD, MATH = "_attention_backward", "_attention_math"
POOL = (
    "        total = _sum_rows(source, first, last, x_n, c, x_c, c < channels, partial.dtype.element_ty, ROWS, COLS)\n"
)
VALUES = "        values = tl.load(source + m.to(tl.int64) * x_m, mask=inside & (m >= 0), other=0.0)\n"
V_TILE = "            v_tile = load_tokens(v_slot + start * v_n, t, count - start, v_n, d, v_d, D, D_PAD, UPCAST)\n"
MUTATIONS: list[tuple[str, str, str]] = [
    (SCORE, "mask=inside & (n < count)[None, :, None]", "mask=inside & (n < count - 1)[None, :, None]"),
    (SCORE, "tl.where(here, value, 0.0)", "value"),
    (SCORE, "(broken == 0) & ", ""),
    (SCORE, "tl.sum(total, 1) / tokens", "tl.sum(total, 1) / count"),
    (SCORE, POOL, POOL + POOL),  # loads twice: for the tests of traffic alone
    (SCORE, "(s * (1.0 - s))", "s"),
    (SCORE, "    mean = tl.where(alive, mean, 0.0)\n", ""),
    (SCORE, 'mean = tl.where(tl.abs(mean) < float("inf"), mean, 0.0)', "mean = mean"),
    (DROP, "(m[None, :] < m[:, None])", "(m[None, :] > m[:, None])"),
    (DROP, "s >= to_type(threshold", "s > to_type(threshold"),
    (DROP, "mask=inside & (m >= 0)", "mask=inside"),
    (DROP, VALUES, VALUES + VALUES),
    (DROP, "(count > 0) & (mean == mean)", "(count > 0)"),
    (DROP, "(d_share - mean) /", "(d_share + mean) /"),
    (DROP, "tile, dot, mask=held)", "tile, dot)"),
    (DROP, "gradient = tl.where(held, gradient, 0.0)", "gradient = gradient"),
    (ATTENTION, "total = total * fade + ", "total = total + "),
    (ATTENTION, " * factor + prior", " * factor"),
    (ATTENTION, V_TILE, V_TILE + V_TILE),
    (MATH, "(m >= 0) & (m < modalities)", "(m >= 0)"),
    (MATH, "tl.where(kept, keys, 0)", "tl.where(m >= 0, keys, 0)"),
    (BACKWARD, "prior = tl.load(bias + b * slots + j,", "prior = tl.load(bias + j,"),
    (BACKWARD, "other=0.0).to(dtype) * 1.4426950408889634", "other=0.0).to(dtype)"),
    (BACKWARD, "base + tl.log2(tl.where(total == 0, 1.0, total))", "base"),
    (BACKWARD, "mask=j < slots, other=-1) == m", "mask=j < slots, other=0) == m"),
    (BACKWARD, '    prior = tl.where(held, prior, float("-inf"))\n', ""),
    (BACKWARD, 'base = tl.where(largest == float("-inf"), 0.0, largest)', "base = 0.0 * largest"),
    (BACKWARD, "PRECISION, dtype) - mean[:, None])", "PRECISION, dtype))"),
    (BACKWARD, "((b * slots + j) * heads + h) * blocks", "((b * slots + j) * heads) * blocks"),
    (BACKWARD, "PRECISION, dtype) - mean[None, :])", "PRECISION, dtype))"),
    (BACKWARD, "tokens = tl.where(live, keys, 0)", "tokens = keys"),
]


def outcome(module: str, old: str, new: str) -> str:
    path = Path("egformer_fast") / "triton" / f"{module}.py"
    text = (ROOT / path).read_text()
    if text.count(old) != 1:
        return f"does not apply: its text occurs {text.count(old)} times"
    copy = ROOT / "build" / "mutant_triton"
    shutil.rmtree(copy, ignore_errors=True)
    for folder in ("egformer_fast", "benchmarks", "python_tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", ".git"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / path).write_text(text.replace(old, new))
    op = module if module in (SCORE, DROP) else ATTENTION
    folder = "python_tests/triton_kernels"
    # The quick ones first.
    tests = [f"{folder}/test_interpreted.py", f"{folder}/test_traffic.py", f"python_tests/ops/test_{op}.py"]
    run = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    run += ["-k", "triton-cpu or test_interpreted or test_traffic"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    result = subprocess.run(run, cwd=copy, env=environment, capture_output=True, text=True)
    if result.returncode < 0:  # loads far from any tensor
        return f"caught by a crash, signal {-result.returncode}"
    failed = [line for line in result.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return f"caught by {failed[0].split('::')[-1][:70]}" if failed else f"survives (exit {result.returncode})"


def main() -> int:
    wanted = sys.argv[1:]
    bad = 0
    for module, old, new in MUTATIONS:
        if any(word not in f"{module} {old}" for word in wanted):
            continue
        what = outcome(module, old, new)
        bad += not what.startswith("caught")
        print(f"{module}: {' '.join(old.split())[:70]} -> {' '.join(new.split())[-50:]}: {what}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
