"""The same bits from every run on a GPU, for those that ask for it with `train.deterministic`.

On a CPU training gives the same bits anyway. On a GPU some of PyTorch's kernels add up in whatever order their blocks
end, and cuDNN may choose another convolution each time; the kernels of this package never do, unless EGFORMER_AUTOTUNE
times their blocks anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Inside, when wanted: operations of PyTorch add up in one order, and one that cannot raises a RuntimeError."""
    if not wanted:
        yield
        return
    # Read when cuBLAS is first used; with workspaces that vary it gives other bits.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filling = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # Every element of an output is written: filling memory with NaN first would only cost time.
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filling
