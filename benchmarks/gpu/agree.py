"""When an implementation counts as equal to the reference: a baseline that computes something else is a defect.

Errors are largest absolute differences to the reference backend in float64, tensor by tensor: outputs, or gradients
of all inputs. `plain` is the eager baseline in the dtype under test, eps that of the tensor in question.

    eager        in float64: error <= 1e-9 * largest value. In the dtype under test its error is the measure.
    a baseline   error <= 8 * error of plain + 16 eps * largest value
    our backend  error <= 2 * error of plain + 4 eps * largest value: the rule of python_tests/ops/op_cases.py

The largest value of a tensor that is zero but for rounding (the bias's gradient with one kept slot) says nothing: that
of all tensors stands in for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.ops_cases import Call

EXACT = 1e-9
FACTORS = {"ours": (2.0, 4.0), "baseline": (8.0, 16.0)}


def outputs_of(call: Call, inputs: Sequence[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        outputs = call(*inputs)
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def gradients_of(call: Call, inputs: Sequence[Tensor], upstream: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of all inputs from `upstream`, one dense gradient an output."""
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    outputs = call(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    torch.autograd.backward(outputs, [g.to(o.dtype) for g, o in zip(upstream, outputs, strict=True)])
    return [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]


def error_of(got: Tensor, exact: Tensor) -> float:
    """The largest absolute difference; infinite where either is not finite."""
    if got.shape != exact.shape:
        return math.inf
    difference = (got.double() - exact).abs()
    return math.inf if not bool(difference.isfinite().all()) else float(difference.max()) if got.numel() else 0.0


def disagreement(
    kind: str, got: Sequence[Tensor], exact: Sequence[Tensor], plain: Sequence[Tensor], names: Sequence[str]
) -> str | None:
    """What is wrong with the results of a "baseline" or "ours", or in float64 of "eager", in one sentence; or None."""
    if len(got) != len(exact):
        return f"gives {len(got)} results, the reference {len(exact)}"
    sizes = [float(e.abs().max()) if e.numel() else 0.0 for e in exact]
    for g, e, p, name, size in zip(got, exact, plain, names, sizes, strict=True):
        largest = size if size > EXACT * max(sizes) else max(sizes)
        if kind == "eager":
            bound = EXACT * largest
        else:
            factor, units = FACTORS[kind]
            bound = factor * error_of(p, e) + units * torch.finfo(g.dtype).eps * largest
        error = error_of(g, e)
        if not error <= bound < math.inf:
            return f"disagrees with the reference in {name}: error {error:.3e}, bound {bound:.3e}"
    return None
