"""The installed wheel, from a directory that holds no source: import cost, ops, modules, model, save and load.

The argument says whether it was built "with" or "without" the C++ library.
"""

import statistics
import subprocess
import sys
import tempfile

import torch

import egformer_fast
from egformer_fast import _ext
from egformer_fast.data import load_description
from egformer_fast.models import EGFormer, egformer_b0
from egformer_fast.nn import ModalFusion
from egformer_fast.ops import _backend

TIMER = (
    "import time, torch; t = time.perf_counter(); import egformer_fast; print(time.perf_counter() - t);"
    "import sys; assert 'triton' not in sys.modules"
)
LIMIT_S = 0.3

runs = [subprocess.run([sys.executable, "-c", TIMER], capture_output=True, text=True, check=True) for _ in range(5)]
cost = statistics.median(float(run.stdout) for run in runs)
assert cost < LIMIT_S, f"import egformer_fast takes {cost:.3f} s beyond import torch, limit {LIMIT_S} s"

assert _backend.choose("cpu")[0] == {"with": "cpu", "without": "reference"}[sys.argv[1]]
assert ("cuda" in _ext.backends) == bool(_ext.build_facts().get("cuda_archs")), "CUDA kernels built, but not loaded"
x, score = torch.randn(2, 4, 9, 8, requires_grad=True), torch.rand(2, 4)
survivors, fused, index, weight = egformer_fast.modality_drop(x, score, keep=2)
fused.sum().backward()
assert survivors.shape == (2, 2, 9, 8)
assert ModalFusion(8, keep=2)(x, (3, 3)).fused.shape == (2, 9, 8)

assert load_description("deliver19").classes[0] == "road"

model = egformer_b0(num_classes=5, modalities=["rgb", "depth"]).eval()
frame = {"rgb": torch.randn(1, 3, 64, 96), "depth": torch.randn(1, 3, 64, 96)}
with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
    model.save_pretrained(folder)
    again = EGFormer.from_pretrained(folder).eval()
    assert torch.equal(model(frame), again(frame))
print(f"smoke test of egformer_fast {egformer_fast.__version__}: fine, import {cost:.3f} s beyond torch")
