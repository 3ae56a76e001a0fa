"""Which backend serves an op, and why the others do not.

`auto` takes the first usable of cuda, triton, reference on a GPU and of cpu, reference on the CPU. The environment
variable EGFORMER_BACKEND or `with use_backend(...)` forces one; a forced backend that can't run raises and says why.
Under TRITON_INTERPRET=1 a forced triton serves CPU tensors instead: for tests.
A plain op name (`egformer_fast::modality_drop`) is the automatic choice, made by torch's dispatcher; a name with a
suffix (`egformer_fast::modality_drop_reference`) is one backend, forced.

The choice is a plain module global: torch.compile guards on it, where a ContextVar would break the graph.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from egformer_fast import _ext

BACKENDS = ("cuda", "triton", "cpu", "reference")
OPS = ("modality_score", "modality_drop", "modality_attention")
# Read once: Triton too decides at its import, and an op's CPU kernel is registered or not.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def _checked(name: str | None, source: str) -> str | None:
    if name in (None, "", "auto"):
        return None
    if name not in BACKENDS:
        raise ValueError(f"{source}: unknown backend {name!r}; one of auto, {', '.join(BACKENDS)}")
    return name


_forced: str | None = _checked(os.environ.get("EGFORMER_BACKEND"), "EGFORMER_BACKEND")


def refusal(backend: str, device_type: str) -> str | None:
    """Why `backend` can't serve tensors on `device_type` ("cpu", "cuda"); None when it can."""
    if backend == "reference":
        return None
    on_cpu = backend == "cpu" or (backend == "triton" and INTERPRETED)
    if (device_type == "cuda") == on_cpu:
        return f"serves {'the CPU' if on_cpu else 'a GPU'}, not tensors on {device_type}"
    if backend == "triton":
        return _known_triton_absence()
    if backend in _ext.backends:
        return None
    if backend == "cpu" or _ext.absence:
        return _ext.absence
    return "the C++ library is built without CUDA kernels; `EGFORMER_CUDA=1 pip install .` builds them with nvcc"


@functools.cache
def _triton_absence() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; `pip install triton` brings it"
    if INTERPRETED:
        return None
    if not torch.cuda.is_available():
        return "there is no GPU (TRITON_INTERPRET=1 runs the kernels on the CPU, slowly, for tests)"
    capability = torch.cuda.get_device_capability()
    if torch.version.hip is None and capability < (8, 0):
        return f"the GPU has compute capability {capability[0]}.{capability[1]}, the kernels need 8.0"
    return None


def _known_triton_absence() -> str | None:
    return _triton_absence()


# torch.compile takes the answer for a constant: not every release traces questions about the device. This is what
# torch.compiler.assume_constant_result does, which imports the compiler.
_known_triton_absence._dynamo_marked_constant = True  # type: ignore[attr-defined]


def choose(device_type: str) -> tuple[str, dict[str, str]]:
    """The backend that an op takes now for tensors on `device_type`, and the refusals of those preferred to it.

    Raises:
        RuntimeError: a backend is forced and can't run.
    """
    if _forced is not None:
        reason = refusal(_forced, device_type)
        if reason is not None:
            raise RuntimeError(f"backend {_forced!r} is forced (use_backend or EGFORMER_BACKEND) but {reason}")
        return _forced, {}
    refusals: dict[str, str] = {}
    for backend in BACKENDS:
        reason = refusal(backend, device_type)
        if backend == "triton" and INTERPRETED:
            reason = reason or "the interpreter runs only when it is forced"
        if reason is None:
            return backend, refusals
        refusals[backend] = reason
    raise AssertionError("the reference backend serves every device")


def resolve(name: str, device_type: str) -> torch._ops.OpOverload:
    """The torch op behind the public function `name` for tensors on `device_type`."""
    if _forced is None:
        return getattr(torch.ops.egformer_fast, name).default
    return getattr(torch.ops.egformer_fast, f"{name}_{choose(device_type)[0]}").default


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force one backend ("reference", "cpu", "triton", "cuda") or "auto" inside a with block.

    Process-wide, not per thread. The op raises RuntimeError when the forced backend can't run.

    Raises:
        ValueError: unknown name.
    """
    global _forced
    previous, _forced = _forced, _checked(name, "use_backend")
    try:
        yield
    finally:
        _forced = previous
