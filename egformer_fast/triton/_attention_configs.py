"""Block sizes of the attention kernels by architecture, head dimension and precision.

A configuration is (queries of a block, keys of a block, warps, stages of the load pipeline). None of them has been
timed: they are the largest that compile without register spills and within the chip's shared memory
(benchmarks/triton_aot.py checks both). Tuned ones replace rows of these tables.
"""

from egformer_fast.triton._common import architecture

Config = tuple[int, int, int, int]

# By bytes of an element, then by head dimension: the first row whose dimension is not smaller serves.
_FORWARD: dict[int, dict[int, Config]] = {
    2: {64: (128, 64, 8, 3), 128: (64, 64, 8, 2), 256: (64, 32, 8, 2), 512: (16, 16, 4, 1)},
    4: {32: (64, 32, 4, 2), 64: (64, 32, 8, 2), 128: (32, 32, 8, 2), 256: (16, 16, 4, 1), 512: (16, 16, 8, 1)},
    8: {64: (16, 16, 4, 1), 512: (16, 16, 8, 1)},
}
_BACKWARD: dict[int, dict[int, Config]] = {
    2: {64: (64, 64, 8, 2), 128: (64, 64, 8, 2), 256: (32, 32, 8, 1), 512: (16, 16, 4, 1)},
    4: {32: (32, 32, 4, 2), 64: (32, 32, 8, 2), 128: (32, 16, 4, 1), 256: (16, 16, 4, 1), 512: (16, 16, 8, 1)},
    8: {64: (16, 16, 4, 1), 512: (16, 16, 8, 1)},
}
# What differs from the tables above on one architecture: (kernel, bytes, head dimension) -> configuration.
_SPECIAL: dict[str, dict[tuple[str, int, int], Config]] = {
    # Operands of its tensor cores lie in shared memory, not in registers.
    "sm_90": {("forward", 2, 128): (128, 64, 8, 2)},
    # Pipelined loads wait in registers there.
    "gfx942": {
        ("backward", 2, 64): (32, 32, 4, 1),
        ("backward", 2, 128): (32, 32, 8, 1),
        ("backward", 4, 64): (16, 16, 4, 1),
        ("backward", 4, 128): (16, 16, 4, 1),
    },
}
# Ragged shapes of a few dozen tokens, as the tests have, still meet several blocks.
_INTERPRETED: Config = (32, 16, 1, 1)

LARGEST_DIM = 512


def config(kernel: str, itemsize: int, dim: int) -> Config:
    """The configuration of "forward" or "backward" for a padded head dimension on the active GPU."""
    chip = architecture()
    if chip == "interpreter":
        return _INTERPRETED
    table = (_FORWARD if kernel == "forward" else _BACKWARD)[itemsize]
    row = min(d for d in table if d >= dim)
    return _SPECIAL.get(chip, {}).get((kernel, itemsize, row), table[row])
