"""Attention's block sizes by timing them on the user's GPU: only where EGFORMER_AUTOTUNE=1 asks for it.

Without it the fixed table serves (_attention_configs.py). With it the first launch of a shape class times the table's
candidates and keeps the fastest in a JSON file: EGFORMER_AUTOTUNE_CACHE, by default triton_autotune.json in
$XDG_CACHE_HOME/egformer_fast (~/.cache). A key names the GPU, Triton's version, the kernel, dtype and precision, the
head dimension, and the sizes rounded up to powers of two. Other blocks add up in another order: results stay within
the same bounds, but not to the bit those of the table.
While a CUDA graph is captured nothing can be timed: what is not in the cache then takes the table's blocks.
"""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import triton
from torch import Tensor

from egformer_fast.files import write_whole
from egformer_fast.triton import _common
from egformer_fast.triton._attention_configs import Config, candidates, config

_loaded: dict[Path, dict[str, Config]] = {}


def is_on() -> bool:
    """Whether EGFORMER_AUTOTUNE=1 is set.

    Raises:
        ValueError: it is set to something else than 0 or 1.
    """
    value = os.environ.get("EGFORMER_AUTOTUNE", "")
    if value not in ("", "0", "1"):
        raise ValueError(f"EGFORMER_AUTOTUNE: got {value!r}, wanted 0 or 1")
    return value == "1" and not _common.INTERPRETED and not _common.is_compiling()


def path() -> Path:
    given = os.environ.get("EGFORMER_AUTOTUNE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else base / "egformer_fast" / "triton_autotune.json"


def blocks(
    kernel: str, q: Tensor, k: Tensor, slots: int, dim: int, precision: str, run: Callable[[Config], object]
) -> Config:
    """The configuration of "forward" or "backward"; `run(configuration)` launches what is timed."""
    fixed = config(kernel, q.element_size(), dim)
    if not is_on():
        return fixed
    batch, heads, queries, _ = q.shape
    sizes = [triton.next_power_of_2(max(1, size)) for size in (batch * heads, queries, slots, k.shape[3])]
    names = (f"{name} {size}" for name, size in zip(("B H", "Nq", "K", "Nk"), sizes, strict=True))
    place = (_gpu(q), f"triton {triton.__version__}", kernel, str(q.dtype).removeprefix("torch."), precision)
    key = ", ".join((*place, f"D {dim}", *names))
    allowed = candidates(kernel, q.element_size(), dim)
    known = read(path()).get(key)
    if known in allowed:
        return known
    with torch.cuda.device_of(q):  # the timer's events and the stream in question are the current GPU's
        if torch.cuda.is_current_stream_capturing() or q.numel() == 0:
            return fixed
        best = fastest(allowed, lambda choice: _milliseconds(lambda: run(choice)))
    if best is None:
        return fixed
    write(path(), key, best)
    return best


def fastest(choices: list[Config], milliseconds: Callable[[Config], float]) -> Config | None:
    """The choice that takes least time; one that the GPU has not the resources for is passed over. None: all were."""
    times = {}
    for choice in choices:
        try:
            times[choice] = milliseconds(choice)
        except triton.runtime.errors.OutOfResources:
            continue
    return min(times, key=lambda choice: times[choice], default=None)


def read(file: Path) -> dict[str, Config]:
    """The choices of a cache file, read once a process; a file that is no such cache is one warning and none."""
    if file not in _loaded:
        _loaded[file] = _parsed(file, warn=True)
    return _loaded[file]


def _parsed(file: Path, warn: bool) -> dict[str, Config]:
    try:
        content = json.loads(file.read_text())
        if not isinstance(content, dict) or not all(_is_config(value) for value in content.values()):
            raise ValueError("wanted an object of lists of four positive whole numbers")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        if warn:
            warnings.warn(f"{file}: not a cache of EGFORMER_AUTOTUNE, starting afresh ({error})", stacklevel=2)
        return {}
    return {key: (value[0], value[1], value[2], value[3]) for key, value in content.items()}


def _is_config(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(type(n) is int and n > 0 for n in value)


def write(file: Path, key: str, choice: Config) -> None:
    """Add a choice to the file, whole or not at all, beside what other processes have added since."""
    known = read(file)
    known.update(_parsed(file, warn=False))
    known[key] = choice
    try:
        write_whole(file, json.dumps(known, indent=1, sort_keys=True).encode())
    except OSError as error:
        warnings.warn(f"{file}: EGFORMER_AUTOTUNE cannot keep its choices ({error})", stacklevel=2)


def _gpu(q: Tensor) -> str:
    return torch.cuda.get_device_name(q.device)


def _milliseconds(run: Callable[[], object]) -> float:
    return float(triton.testing.do_bench(run, warmup=10, rep=50, return_mode="median"))
