"""Nothing in the ops depends on the values of tensors, and no launcher reads one on the host: what a CUDA graph needs.

There is no GPU here: FakeTensors on "cuda" stand for its tensors. A FakeTensor has no values, so that whatever would
read one (.item(), a branch, nonzero) raises. That the kernels themselves replay in a graph is not tested.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton", reason="Triton is not installed")

from egformer_fast import modality_attention, modality_drop, modality_score  # noqa: E402
from egformer_fast.triton import _attention_configs  # noqa: E402
from egformer_fast.triton import modality_attention as attention  # noqa: E402
from egformer_fast.triton import modality_drop as drop  # noqa: E402
from egformer_fast.triton import modality_score as score  # noqa: E402

SYNCHRONISING = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "masked_select", "unique", "equal")


def inputs(device: str = "cuda"):
    """No gradient is asked for: autograd's engine would look for the GPU. Backward ops are called as they are."""
    x = torch.empty(2, 4, 9, 16, device=device)
    weights = [torch.empty(s, device=device) for s in ((8, 16), (8,), (8,), ())]
    return x, weights, torch.empty(2, 4, device=device, dtype=torch.bool)


def fuse(x, weights, present, keep: int):
    """Score, drop, and attend from what is fused to what survives; then each op's backward."""
    ops = torch.ops.egformer_fast
    scores, pooled = ops.modality_score(x, *weights, present)
    survivors, fused, index, weight = modality_drop(x, scores, keep, present, threshold=0.5)
    slot = torch.where(index >= 0, torch.arange(keep, device=x.device), -1)
    q, kv, bias = fused.unsqueeze(1), survivors.unsqueeze(2), weight.clamp_min(1e-30).log()
    out, lse = modality_attention(q, kv, kv, slot, bias)
    attention = ops.modality_attention_backward(out, q, kv, kv, slot, bias, out, lse, 0.25)
    dropped = ops.modality_drop_backward(survivors, fused, weight, x, scores, index, weight)
    scored = ops.modality_score_backward(scores, pooled, *weights, present)
    return survivors, fused, index, weight, out, lse, *attention, *dropped, *scored


class Calls(TorchDispatchMode):
    """Counts what is called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names[function.name().split("::")[1].split(".")[0]] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_shapes_follow_from_keep_alone(keep):
    """Forward and backward on a GPU that is not there: no symbol for a size that only the values would tell."""
    shapes = ShapeEnv()
    with FakeTensorMode(shape_env=shapes), Calls() as calls:
        outputs = fuse(*inputs(), keep)
    assert [tuple(t.shape) for t in outputs[:6]] == [
        (2, keep, 9, 16), (2, 9, 16), (2, keep), (2, keep), (2, 1, 9, 16), (2, 1, 9)
    ]  # fmt: skip
    assert all(t.device.type == "cuda" and all(type(n) is int for n in t.shape) for t in outputs)
    assert not shapes.pending_fresh_unbacked_symbols and not shapes.deferred_runtime_asserts
    ours = {f"modality_{op}{way}" for op in ("score", "drop", "attention") for way in ("", "_backward")}
    assert ours <= set(calls.names) and not set(calls.names) & set(SYNCHRONISING)


def test_a_value_read_on_the_host_would_be_seen():
    with FakeTensorMode():
        x, weights, present = inputs()
        with pytest.raises(DataDependentOutputException):
            modality_score(x, *weights, present).max().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_launchers_read_nothing_on_the_host(monkeypatch, dtype):
    """The launchers themselves on FakeTensors, with launches recorded: the same kernels and shapes every time."""
    launched = []

    def record(kernel, programs, *args, **options):
        launched.append((kernel.fn.__name__, programs))

    for module in (attention, drop, score):
        monkeypatch.setattr(module, "launch", record)
    monkeypatch.setattr(_attention_configs, "architecture", lambda: "sm_90")
    with FakeTensorMode(), Calls() as calls:
        x = torch.empty(2, 4, 1024, 64, device="cuda", dtype=dtype)
        weights = [torch.empty(s, device="cuda", dtype=dtype) for s in ((16, 64), (16,), (16,), ())]
        present, index = torch.empty(2, 4, device="cuda", dtype=torch.bool), torch.empty(2, 3, device="cuda").long()
        scores, pooled = score.modality_score(x, *weights, present)
        score.modality_score_backward(scores, pooled, *weights, present)
        outputs = drop.modality_drop(x, scores, 3, present, None, 0.5, True, True)
        drop.modality_drop_backward(outputs[0], outputs[1], outputs[3], x, scores, *outputs[2:])
        q, k = (torch.empty(s, device="cuda", dtype=dtype) for s in ((2, 2, 1024, 32), (2, 4, 2, 64, 32)))
        out, lse = attention.modality_attention(q, k, k, index, outputs[3], 0.1)
        attention.modality_attention_backward(out, q, k, k, index, outputs[3], out, lse, 0.1)
    assert [name for name, _ in launched] == (
        "_pool _score _score_backward _weight_gradients _drop _drop_backward _score_gradient _attend row_dots "
        "query_gradient key_gradients"
    ).split()
    assert all(programs > 0 for _, programs in launched)
    assert not set(calls.names) & set(SYNCHRONISING)
