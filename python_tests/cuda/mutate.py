"""Break the CUDA kernels on purpose, one line at a time, and see that the tests notice:

    python python_tests/cuda/mutate.py [words that the mutation's line must contain]

Each mutation replaces a text that occurs once. It must compile, and the tests must then fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
CSRC = TESTS.parents[1] / "csrc"
SCORE, DROP, SELECTION = "cuda/modality_score.cu", "cuda/modality_drop.cu", "include/selection.cuh"
ATTENTION, BACKWARD = "cuda/modality_attention.cu", "cuda/modality_attention_backward.cu"
PRODUCTS, TILES, SUMS = (f"include/attention_{part}.cuh" for part in ("products", "tiles", "sums"))
MUTATIONS: list[tuple[str, str, str]] = [
    (SCORE, "sum[i]);\n  __syncthreads();", "sum[i]);"),
    (SCORE, "bits >= columns", "bits > columns"),
    (SCORE, "!present[map]) return;", "!present[map] && map < 0) return;"),
    (SCORE, "part < splits", "part + 1 < splits"),
    (SCORE, "logits[warp] = logit;\n  __syncthreads();", "logits[warp] = logit;"),
    (SCORE, "finite && isfinite(logit)", "finite"),
    (SCORE, "(sigmoid(logit) * (1 - sigmoid(logit)))", "sigmoid(logit)"),
    (SCORE, "    if (saved.alive[map] == 0) continue;\n", ""),
    (SCORE, " + x * expf(-x * x / 2) * 0.39894228040143267794f", ""),
    (SCORE, "alive = isfinite(logit);", ""),
    (SELECTION, "other == value && m < lane", "other == value && m > lane"),
    (SELECTION, "score >= scores.threshold * best", "score > scores.threshold * best"),
    (SELECTION, "  if (isnan(mean)) mean = -INFINITY;\n", ""),
    (SELECTION, "total > 0 ? score / total", "true ? score / total"),
    (SELECTION, "rank < shape.keep", "rank <= shape.keep"),
    (DROP, "select(scores, shape, sample, chosen);\n  __syncthreads();", "select(scores, shape, sample, chosen);"),
    (DROP, "(sample * keep + first + j) * width", "(sample * keep + j) * width"),
    (DROP, "result.value[e] += share", "result.value[e] = share"),
    (DROP, "    dot = warp_sum(dot);\n", ""),
    (DROP, "held && total > 0", "held"),
    (DROP, "(share - mean) / total", "(share + mean) / total"),
    (DROP, "slot >= 0 && gradients.d_survivors.data != nullptr", "gradients.d_survivors.data != nullptr && slot >= -1"),
    (ATTENTION, "    cp_async_wait<0>();\n    __syncthreads();  // keys are there", "    __syncthreads();  //"),
    (ATTENTION, "prior_of(p, at.sample, tile.slot)", "prior_of(p, at.sample, tile.modality)"),
    (TILES, "return m >= 0 && m < p.modalities ? m : -1;", "return m >= 0 ? m % p.modalities : -1;"),
    (TILES, "first_tile(p, sample, at.slot + 1)", "first_tile(p, sample, at.slot + 2)"),
    (PRODUCTS, "    __syncwarp();\n    for (int i = lane()", "    for (int i = lane()"),
    (SUMS, "lse == -INFINITY ? INFINITY : lse", "lse"),
    (BACKWARD, "slot = slot_naming(p, at.sample, at.modality, slot + 1)", "slot = p.slots"),
    (BACKWARD, "tiles * at.part / plan.parts", "int64_t{0}"),
]


def outcome(name: str, old: str, new: str) -> str:
    text = (CSRC / name).read_text()
    if text.count(old) != 1:
        return f"does not apply: its text occurs {text.count(old)} times"
    copy = TESTS.parents[1] / "build" / "mutant"  # one place: what a mutation leaves alone is not compiled again
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(CSRC, copy)
    (copy / name).write_text(text.replace(old, new))
    environment = {**os.environ, "EGFORMER_CSRC": str(copy)}
    build = [sys.executable, "-c", "import simt_build; simt_build.module()"]
    if subprocess.run(build, cwd=TESTS, env=environment, capture_output=True).returncode != 0:
        return "does not compile"
    files = sorted(TESTS.glob("test_cuda_*.py"))
    run = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *map(str, files)]
    result = subprocess.run(run, cwd=TESTS.parents[1], env=environment, capture_output=True, text=True)
    return "survives" if result.returncode == 0 else "caught"


def main() -> int:
    wanted = sys.argv[1:]
    bad = 0
    for name, old, new in MUTATIONS:
        if any(word not in f"{name} {old}" for word in wanted):
            continue
        what = outcome(name, old, new)
        bad += what != "caught"
        print(f"{what:8} {name}: {' '.join(old.split())}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
