"""What the launchers share: launching, the GPU they launch for, and how tokens lie in memory."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

INTERPRETED = bool(triton.knobs.runtime.interpret)
_compiled: list[tuple[str, Any]] | None = None
_pretended: str | None = None


def launch(kernel: Any, programs: int, *args: Any, parts: int = 1, **options: Any) -> None:
    """Run `programs` instances of a kernel, each in `parts` (its second program id), on the device of its first tensor;
    inside `compiling`, only compile it."""
    grid = (programs, parts)
    if _compiled is not None:
        _compiled.append((kernel.fn.__name__, kernel.warmup(*args, grid=grid, **options)))
    elif programs > 0:
        with torch.cuda.device_of(next(a for a in (*args, *options.values()) if isinstance(a, Tensor))):
            kernel[grid](*args, **options)


@contextmanager
def compiling() -> Iterator[list[tuple[str, Any]]]:
    """Launchers called inside compile their kernels for triton's active target and run nothing: for machines without
    a GPU. Yields the list of (kernel's name, compiled kernel) that they fill."""
    global _compiled
    _compiled = []
    try:
        yield _compiled
    finally:
        _compiled = None


def is_compiling() -> bool:
    return _compiled is not None


@contextmanager
def blocks_of(chip: str) -> Iterator[None]:
    """Launchers called inside, in the interpreter, cut their work as on `chip` ("sm_90"): to count what that one would
    load and store. Otherwise the interpreter has blocks of its own, quick for it and filled by small shapes."""
    global _pretended
    _pretended = chip
    try:
        yield
    finally:
        _pretended = None


def interpreter_blocks() -> bool:
    return INTERPRETED and _pretended is None


def architecture() -> str:
    """The key of the tables of configurations: "interpreter", "sm_90", "gfx942", ..."""
    if INTERPRETED:
        return _pretended or "interpreter"
    target = triton.runtime.driver.active.get_current_target()
    return f"sm_{target.arch}" if target.backend == "cuda" else str(target.arch)


def as_bytes(present: Tensor | None) -> Tensor | None:
    return None if present is None else present.contiguous().view(torch.uint8)


@dataclass(frozen=True)
class Tiling:
    """How the (N, C) tokens of one modality are cut into tiles, one a program: `rows` x `cols` elements in `tiles`
    tiles of ROWS x COLS, `across` of them side by side.

    Where every tensor allows it a map is one row of N * C elements, so that tiles are full whatever C is.
    """

    rows: int
    cols: int
    ROWS: int
    COLS: int

    @property
    def across(self) -> int:
        return max(1, math.ceil(self.cols / self.COLS))

    @property
    def tiles(self) -> int:
        return self.across * max(1, math.ceil(self.rows / self.ROWS))


def tile_tokens(tokens: int, channels: int, itemsize: int, *tensors: Tensor | None) -> tuple[Tiling, list[list[int]]]:
    """The tiling, and for each tensor (..., N, C) its strides in it: those of the leading dimensions, row, column."""
    size = 8192 if interpreter_blocks() else 8192 // itemsize
    strides = [[0] * 4 if t is None else list(t.stride()) for t in tensors]
    for s in strides:
        if channels == 1:
            s[-1], s[-2] = s[-2], s[-2]
        elif tokens == 1:
            s[-2] = channels * s[-1]
    if all(s[-2] == channels * s[-1] for s in strides):
        return Tiling(1, tokens * channels, 1, size), strides
    cols = min(64, triton.next_power_of_2(channels))
    return Tiling(tokens, channels, size // cols, cols), strides


@triton.jit
def to_type(value, dtype: tl.constexpr):
    """A float argument in `dtype`. Launch arguments annotated float64 keep their digits on a GPU; the interpreter hands
    over a Python float, which has no `.to`."""
    return (tl.zeros((), tl.float64) + value).to(dtype)
