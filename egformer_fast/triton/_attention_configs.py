"""Block sizes of the attention kernels by architecture, head dimension and precision.

A configuration is (queries of a block, keys of a block, warps, stages of the load pipeline). None of them was
chosen by time. What has been measured, by compiling (benchmarks/triton_aot.py): at D = 16, 32, 64 and 128, in
float32 with and without TF32, bfloat16 and float16, no kernel spills registers and all fit the shared memory of sm_80,
sm_86, sm_90, sm_100, sm_120 and gfx942. Rows for larger dimensions and for float64 are small by caution alone: on
gfx942 float32 spills at D = 512, and the 16-bit backward at D = 256. Tuned ones replace rows of these tables;
EGFORMER_AUTOTUNE=1 (_autotune.py) times them on the user's GPU.
"""

from egformer_fast.triton._common import architecture

Config = tuple[int, int, int, int]

# By bytes of an element, then by head dimension: the first row whose dimension is not smaller serves.
_FORWARD: dict[int, dict[int, Config]] = {
    2: {32: (128, 64, 8, 2), 64: (128, 64, 8, 3), 128: (64, 64, 8, 2), 256: (64, 32, 8, 2), 512: (16, 16, 4, 1)},
    4: {16: (64, 32, 4, 2), 64: (64, 32, 8, 2), 128: (32, 32, 8, 2), 256: (16, 16, 4, 1), 512: (16, 16, 8, 1)},
    8: {64: (16, 16, 4, 1), 512: (16, 16, 8, 1)},
}
_BACKWARD: dict[int, dict[int, Config]] = {
    2: {16: (64, 64, 4, 2), 64: (64, 64, 8, 2), 128: (64, 64, 8, 2), 256: (32, 32, 8, 1), 512: (16, 16, 4, 1)},
    4: {32: (32, 32, 4, 2), 64: (32, 32, 4, 2), 128: (32, 16, 4, 1), 256: (16, 16, 4, 1), 512: (16, 16, 8, 1)},
    8: {64: (16, 16, 4, 1), 512: (16, 16, 8, 1)},
}
# What differs from the tables above on one architecture: (kernel, bytes, row's head dimension) -> configuration.
_SPECIAL: dict[str, dict[tuple[str, int, int], Config]] = {
    # The rows above spill a few registers on these two.
    "sm_86": {
        ("forward", 2, 128): (64, 32, 8, 2),
        ("forward", 4, 64): (32, 32, 8, 2),
        ("backward", 4, 128): (32, 16, 8, 1),
    },
    "sm_120": {
        ("backward", 2, 16): (64, 32, 4, 2),
        ("backward", 2, 64): (64, 32, 4, 2),
        ("backward", 4, 64): (32, 32, 4, 1),
        ("backward", 4, 128): (32, 16, 8, 1),
    },
    # Operands of its tensor cores lie in shared memory, not in registers.
    "sm_90": {("forward", 2, 128): (128, 64, 8, 2)},
    # The rows above spill there too; the cause was not looked for. Two warps are few enough for a block of D = 32 to
    # load 128 bits a thread.
    "gfx942": {
        ("forward", 2, 32): (128, 32, 8, 2),
        ("forward", 2, 64): (128, 32, 8, 2),
        ("backward", 2, 16): (32, 16, 2, 1),
        ("backward", 2, 64): (32, 16, 2, 1),
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


def candidates(kernel: str, itemsize: int, dim: int) -> list[Config]:
    """What EGFORMER_AUTOTUNE times: the active GPU's own configuration first, then every other one that the tables
    have for this kernel and precision, on any chip, at this head dimension or a larger one."""
    table = (_FORWARD if kernel == "forward" else _BACKWARD)[itemsize]
    rows = [row for row in table if row >= dim]
    found = [config(kernel, itemsize, dim), *(table[row] for row in rows)]
    for special in _SPECIAL.values():
        found += [special[kernel, itemsize, row] for row in rows if (kernel, itemsize, row) in special]
    return list(dict.fromkeys(found))
