"""How an op becomes a torch op: schemas, the reference kernel, fake kernel, autograd, autocast and FLOP formula.

Every op is registered under its plain name (torch's dispatcher picks the kernel: the automatic choice) and once per
backend under a suffixed name (that backend, forced). All names share one fake kernel, one autograd formula, one
autocast rule and one FLOP formula: a new backend adds a suffix here and its kernels, nothing else. The reference is
the CompositeExplicitAutograd kernel of the plain name: it serves every device that no other backend holds. Triton's
launchers are imported at the first call; they hold the CUDA key of the plain name where the library has no CUDA kernel.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from typing import Any

import torch

from egformer_fast import _ext
from egformer_fast.ops import _backend

NAMESPACE = "egformer_fast"
_FLOP_COUNTER = "torch.utils.flop_counter"
_library = torch.library.Library(NAMESPACE, "FRAGMENT")
_flop_formulas: dict[str, Callable[..., int]] = {}


@dataclass(frozen=True)
class Kernel:
    """One schema with its definition: `reference` computes it, `fake` gives the shapes, `flops` counts it."""

    name: str
    schema: str
    reference: Callable[..., Any]
    fake: Callable[..., Any]
    flops: Callable[..., int]


@dataclass(frozen=True)
class Op:
    """A forward kernel, its backward kernel, and the autograd glue between them.

    save(ctx, inputs, output) keeps what backward needs; gradients(ctx, backward_op, *grads) calls the backward op of
    the same backend. `autocast(dtype, *args)` returns the arguments to use under autocast; None: as they are.
    """

    forward: Kernel
    backward: Kernel
    save: Callable[..., None]
    gradients: Callable[..., Any]
    autocast: Callable[..., tuple[Any, ...]] | None = None


_ops: dict[str, Op] = {}


def register(op: Op) -> None:
    """Define an op under its plain name and under one forced name for each backend that is there."""
    _ops[op.forward.name] = op
    for suffix in suffixes():
        _define(op, suffix)


def suffixes() -> list[str]:
    """What is appended to an op's name: "" is the automatic choice, the others are forced backends."""
    return ["", "_reference", "_triton", *(f"_{backend}" for backend in _ext.backends)]


def _define(op: Op, suffix: str) -> None:
    for kernel in (op.forward, op.backward):
        name = kernel.name + suffix
        if _ext.absence or suffix == "_triton":  # the library defines the others
            _library.define(name + kernel.schema)
        if suffix in ("", "_reference"):
            _library.impl(name, kernel.reference, "CompositeExplicitAutograd")
        _register_triton(name, suffix, op.forward.name, kernel)
        torch.library.register_fake(f"{NAMESPACE}::{name}", kernel.fake, lib=_library)
        _flop_formulas[name] = kernel.flops
    _define_autograd(op, suffix)
    for device_type in ("cpu", "cuda"):
        _define_autocast(op.forward.name + suffix, op.autocast, device_type)
        _define_autocast(op.backward.name + suffix, None, device_type)


def _register_triton(name: str, suffix: str, module: str, kernel: Kernel) -> None:
    """The launcher `kernel.name` of egformer_fast/triton/<module>.py behind the op `name`."""

    def launch(*args: Any) -> Any:
        return getattr(importlib.import_module(f"egformer_fast.triton.{module}"), kernel.name)(*args)

    def launch_if_usable(*args: Any) -> Any:
        return (kernel.reference if _backend.refusal("triton", "cuda") else launch)(*args)

    if suffix == "_triton":
        _library.impl(name, launch, "CPU" if _backend.INTERPRETED else "CUDA")
    elif suffix == "" and not torch._C._dispatch_has_kernel_for_dispatch_key(f"{NAMESPACE}::{name}", "CUDA"):
        _library.impl(name, launch_if_usable, "CUDA")


def _define_autograd(op: Op, suffix: str) -> None:
    forward, backward = op.forward.name + suffix, op.backward.name + suffix

    def gradients(ctx: Any, *grads: Any) -> Any:
        return op.gradients(ctx, getattr(torch.ops.egformer_fast, backward).default, *grads)

    def refuse(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(f"{forward}: double backward is not supported; call backward without create_graph=True")

    torch.library.register_autograd(f"{NAMESPACE}::{forward}", gradients, setup_context=op.save, lib=_library)
    torch.library.register_autograd(f"{NAMESPACE}::{backward}", refuse, lib=_library)


def _define_autocast(name: str, cast: Callable[..., tuple[Any, ...]] | None, device_type: str) -> None:
    """A rule on the Autocast key, also where nothing is cast: it switches autocast off inside a kernel.

    Without one, autocast would reach the PyTorch calls that a kernel makes. torch.library.register_autocast would
    cast every argument to one fixed dtype.
    """
    key = "Autocast" + device_type.upper()
    excluded = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def rule(*args: Any) -> Any:
        if cast is not None:
            args = cast(torch.get_autocast_dtype(device_type), *args)
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return getattr(torch.ops.egformer_fast, name).default(*args)

    _library.impl(name, rule, key)


def _register_flops() -> None:
    from torch.utils.flop_counter import flop_registry, register_flop_formula

    for name, formula in _flop_formulas.items():
        packet = getattr(torch.ops.egformer_fast, name)
        if packet not in flop_registry:
            register_flop_formula(packet)(formula)


class _AfterFlopCounter(MetaPathFinder):
    """Registers our formulas right after torch.utils.flop_counter is imported by whoever wants to count.

    Importing that module ourselves would pull in Triton at `import egformer_fast`; not registering would let
    FlopCounterMode count our ops as nothing.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != _FLOP_COUNTER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisterAfter(spec.loader)
        return spec


class _RegisterAfter(Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        _register_flops()


def install_flop_formulas() -> None:
    """Count our ops in torch's FlopCounterMode: now if it is loaded, else as soon as it is."""
    if _FLOP_COUNTER in sys.modules:
        _register_flops()
    else:
        sys.meta_path.insert(0, _AfterFlopCounter())
