"""One module that uses all three ops, through whatever records, fakes or recomputes it: equal results."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from egformer_fast.nn import ModalFusion

SIZE = (6, 7)


class Fusion(nn.Module):
    """A fusion block whose attention is not silent: proj would start at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.fusion = ModalFusion(channels=16, keep=2, heads=2, reduction=2)
        nn.init.normal_(self.fusion.attention.proj.weight)

    def forward(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fused = self.fusion(x, SIZE, present)
        return fused.fused, fused.survivors, fused.weight


def example(batch: int, device: str) -> tuple[Tensor, Tensor]:
    present = torch.rand(batch, 4, device=device) < 0.8
    return torch.randn(batch, 4, SIZE[0] * SIZE[1], 16, device=device), present


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_fullgraph(device, dynamic):
    module = Fusion().to(device)
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic)
    for batch in (2, 3):
        x, present = example(batch, device)
        grads = []
        for run in (module, compiled):
            leaf = x.clone().requires_grad_()
            outputs = run(leaf, present)
            module.zero_grad()
            sum(t.square().sum() for t in outputs).backward()
            grads.append([*outputs, leaf.grad, module.fusion.score.fc1.weight.grad.clone()])
        for eager, graph in zip(*grads, strict=True):
            torch.testing.assert_close(graph, eager, rtol=1e-4, atol=1e-5)


def test_export(device):
    module = Fusion().to(device).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(module, example(2, device), dynamic_shapes=({0: batch}, {0: batch}))
    for count in (2, 5):
        x, present = example(count, device)
        for exported, eager in zip(program.module()(x, present), module(x, present), strict=True):
            torch.testing.assert_close(exported, eager)
    names = {str(node.target) for node in program.graph.nodes}
    for op in ("modality_score", "modality_drop", "modality_attention"):
        assert any(op in name for name in names), f"{op} is not in the exported graph"


def test_make_fx(device):
    module = Fusion().to(device).eval()
    graph = make_fx(module)(*example(2, device))
    x, present = example(2, device)
    for traced, eager in zip(graph(x, present), module(x, present), strict=True):
        torch.testing.assert_close(traced, eager)


def test_fake_tensors(device):
    with FakeTensorMode(), torch.device(device):
        shapes = [tuple(t.shape) for t in Fusion()(*example(2, device))]
    assert shapes == [tuple(t.shape) for t in Fusion().to(device)(*example(2, device))]


def test_activation_checkpointing(device):
    module, (x, present) = Fusion().to(device), example(2, device)
    grads = []
    for run in (module, lambda *args: checkpoint(module, *args, use_reentrant=False)):
        leaf = x.clone().requires_grad_()
        module.zero_grad()
        sum(t.square().sum() for t in run(leaf, present)).backward()
        grads.append([leaf.grad, *(p.grad for p in module.parameters())])
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=0, atol=0)


def test_autocast_trains(device):
    module = Fusion().to(device)
    x, present = example(2, device)
    present[:] = True
    with torch.autocast(device, dtype=torch.bfloat16):
        fused, survivors, weight = module(x, present)
    assert weight.dtype == torch.float32 and survivors.dtype == torch.float32
    (fused.float().square().sum() + survivors.sum()).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in module.parameters())
