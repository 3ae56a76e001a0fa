"""The implementations of an op that are timed against each other: what one would write in PyTorch, and our backends.

    eager          the expressions of benchmarks/ops_cases.py; for attention the softmax written out over gathered keys
    compile        torch.compile of it, static shapes
    sdpa           attention: gather, then scaled_dot_product_attention with the bias as a float mask
    sdpa compile   torch.compile of that
    flex           attention: FlexAttention over all modalities, a block mask that skips dropped ones and the bias as a
                   score modification; mask included in the call, since every frame keeps other modalities
    flex gathered  attention: gather, then FlexAttention with the bias as a score modification
    cuda, triton   our backends that can run on the device (on the CPU: cpu and reference)

Without a GPU, torch.compile stops before code generation ("aot_eager"): the rehearsal is of the calls, not of the code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.device import is_gpu
from benchmarks.ops_cases import Call, Case, gathered
from egformer_fast import use_backend
from egformer_fast.ops import _backend


@dataclass(frozen=True)
class Implementation:
    kind: str  # "eager", "baseline", "ours": which rule of agree.py holds
    call: Call  # of the case's inputs


def eager_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, index: Tensor) -> Tensor:
    keys, values = gathered(index, k, v)
    logits = q @ keys.mT * q.shape[-1] ** -0.5 + bias.repeat_interleave(k.shape[3], 1)[:, None, None, :].to(q.dtype)
    return logits.softmax(-1) @ values


def flex_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, index: Tensor) -> Tensor:
    from torch.nn.attention import flex_attention as flex

    batch, modalities, _, tokens, _ = k.shape
    kept = torch.zeros(batch, modalities, dtype=torch.bool, device=k.device).scatter(1, index, True)
    prior = torch.zeros(batch, modalities, dtype=bias.dtype, device=k.device).scatter(1, index, bias)

    def is_kept(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return kept[b, key // tokens]

    def with_prior(logit: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return logit + prior[b, key // tokens]

    keys, values = (t.transpose(1, 2).flatten(2, 3) for t in (k, v))
    mask = flex.create_block_mask(is_kept, batch, None, q.shape[2], keys.shape[2], device=k.device)
    return flex.flex_attention(q, keys, values, score_mod=with_prior, block_mask=mask)


def flex_gathered(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, index: Tensor) -> Tensor:
    from torch.nn.attention import flex_attention as flex

    tokens = k.shape[3]

    def with_bias(logit: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return logit + bias[b, key // tokens]

    return flex.flex_attention(q, *gathered(index, k, v), score_mod=with_bias)


def compiler(device: str) -> str:
    """What torch.compile uses as its backend."""
    return "inductor" if is_gpu(device) else "aot_eager"


@functools.cache
def compiled(plain: Call, backend: str) -> Call:
    torch._dynamo.config.recompile_limit = 256  # one static graph a shape
    return torch.compile(plain, dynamic=False, backend=backend)


def usable_backends(device: str) -> list[str]:
    """Our backends that can serve the device, fastest first; the reference is what they are held to, on a GPU."""
    kind = torch.device(device).type
    found = [name for name in _backend.BACKENDS if _backend.refusal(name, kind) is None]
    return [name for name in found if name != "reference"] if is_gpu(device) else found


def refusals(device: str) -> dict[str, str]:
    """Why the other backends can't."""
    kind = torch.device(device).type
    reasons = {name: _backend.refusal(name, kind) for name in _backend.BACKENDS}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def on_backend(name: str, ours: Call) -> Call:
    def call(*inputs: Tensor) -> Any:
        with use_backend(name):
            return ours(*inputs)

    return call


def implementations(op: str, case: Case, device: str) -> dict[str, Implementation]:
    """Name -> implementation of a case; the first one is "eager", which ratios are taken to."""
    backend = compiler(device)

    def of(plain: Call) -> Callable[..., Any]:
        return lambda *inputs: plain(*inputs, *case.constants)

    expressions = {"eager": case.plain, "compile": compiled(case.plain, backend)}
    if op == "modality_attention":
        expressions = {
            "eager": eager_attention,
            "compile": compiled(eager_attention, backend),
            "sdpa": case.plain,
            "sdpa compile": compiled(case.plain, backend),
            "flex": compiled(flex_attention, backend),
            "flex gathered": compiled(flex_gathered, backend),
        }
    found = {n: Implementation("eager" if n == "eager" else "baseline", of(e)) for n, e in expressions.items()}
    return found | {n: Implementation("ours", on_backend(n, case.ours)) for n in usable_backends(device)}
