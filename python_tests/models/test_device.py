"""Every tensor that the model makes follows its inputs' device: shown on the meta device, which like a GPU refuses to
mix with CPU tensors, so that a machine without a GPU finds a forgotten device argument."""

from __future__ import annotations

import pytest
import torch

from egformer_fast.models import egformer_b0

MODALITIES = {"rgb": 3, "sar": 1, "stokes": 5}


@pytest.mark.parametrize(
    "options",
    [{}, {"early_fusion": True}, {"rank": "batch", "gumbel": 1.0, "flow": "separate"}, {"keep": (2, 1, 1, 0)}],
    ids=str,
)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("given", [["rgb", "sar", "stokes"], ["sar", "stokes"]], ids=str)
def test_everything_stays_on_the_device_of_the_inputs(options, training, given):
    with torch.device("meta"):
        model = egformer_b0(5, MODALITIES, **options).train(training)
    model.validate = False
    inputs = {name: torch.empty(2, MODALITIES[name], 64, 96, device="meta") for name in given}
    present = torch.ones(2, 3, dtype=torch.bool, device="meta")
    logits, trace = model(inputs, present, trace=True)
    assert logits.shape == (2, 5, 64, 96)
    last = len(trace.stages) - 1
    tables = [trace.score_table(last), trace.weight_table(0), trace.kept_mask(last)]
    assert all(t.device.type == "meta" for t in (logits, *tables))
    if training:
        logits.sum().backward()
        assert all(p.grad is None or p.grad.device.type == "meta" for p in model.parameters())
