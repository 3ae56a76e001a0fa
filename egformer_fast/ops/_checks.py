"""Argument checks shared by the ops: they run in Python before any kernel, and every message names the argument,
what it got and what it wants."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64 inputs, else float32: the dtype of scores, weights and sums."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def is_autocast_on(device_type: str) -> bool:
    """torch.is_autocast_enabled, for meta too, which has no autocast (torch's own question is not traced by 2.11)."""
    return device_type != "meta" and torch.is_autocast_enabled(device_type)


def is_recorded() -> bool:
    """Whether a graph is made of the call (torch.compile, torch.export, make_fx) or it is faked: values are not to be
    looked at. Any other dispatch mode counts too."""
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0


def describe(value: object) -> str:
    """A tensor as `float32 (2, 4) on cpu`, anything else as its repr: for error messages."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} on {value.device}"
    return repr(value)


def check_tensor(op: str, name: str, value: object, dims: str) -> None:
    """`dims` names the dimensions, e.g. "(B, M, N, C)", "(R,)" or "()"; their number is what is checked."""
    wanted = 0 if dims == "()" else dims.count(",") + (dims[-2] != ",")
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a Tensor of shape {dims}, got {type(value).__name__}")
    if value.dim() != wanted:
        raise ValueError(f"{op}: {name} must have shape {dims}, got {describe(value)}")


def check_shape(op: str, name: str, value: Tensor, dims: str, wanted: Sequence[int]) -> None:
    if tuple(value.shape) != tuple(wanted):
        raise ValueError(f"{op}: {name} must have shape {dims} = {tuple(wanted)}, got {describe(value)}")


def check_dtype(op: str, name: str, value: Tensor, allowed: Sequence[torch.dtype]) -> None:
    if value.dtype not in allowed:
        names = " or ".join(str(d).removeprefix("torch.") for d in allowed)
        raise TypeError(f"{op}: {name} must be {names}, got {describe(value)}")


def check_device(op: str, name: str, value: Tensor, like: Tensor) -> None:
    if value.device != like.device:
        raise ValueError(f"{op}: {name} must be on {like.device} like the first argument, got {describe(value)}")


def check_mask(op: str, name: str, value: Tensor | None, like: Tensor, wanted: Sequence[int]) -> None:
    """An optional bool mask (B, M)."""
    if value is None:
        return
    check_tensor(op, name, value, "(B, M)")
    check_shape(op, name, value, "(B, M)", wanted)
    check_dtype(op, name, value, (torch.bool,))
    check_device(op, name, value, like)
