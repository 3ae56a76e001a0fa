"""Learning to choose: a sensor that is pure noise is the first to be dropped (DESIGN section 4, last point)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from egformer_fast.models import EGFormer, egformer_b0
from egformer_fast.train.sampling import draw_keep, keep_rng

SIZE, BATCH, STEPS = 32, 8, 100


def scene(modalities: int, generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
    """Frames of random blobs; every sensor but the last shows them, each in its own contrast, the last is noise."""
    blobs = F.interpolate(torch.randn(BATCH, 1, 6, 6, generator=generator), (SIZE, SIZE), mode="bicubic")
    label = (blobs[:, 0] > 0).long()
    inputs = {}
    for m in range(modalities):
        noise = torch.randn(BATCH, 3, SIZE, SIZE, generator=generator)
        contrast = 1.5 - 0.25 * m
        inputs[f"sensor{m}"] = noise if m == modalities - 1 else contrast * (label.unsqueeze(1) - 0.5) + 0.3 * noise
    return inputs, label


def train(modalities: int) -> EGFormer:
    torch.manual_seed(0)
    names = [f"sensor{m}" for m in range(modalities)]
    model = egformer_b0(2, names, gumbel=0.5, drop_path=0.0, flow="separate").train()
    optimizer = torch.optim.AdamW(model.parameter_groups(0.01), lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        inputs, label = scene(modalities, generator)
        keep = draw_keep(model.keep, model.widest, keep_rng(0, step))
        F.cross_entropy(model(inputs, keep=keep), label).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize("modalities", [2, 4])
def test_pure_noise_is_dropped_first(modalities):
    model = train(modalities)
    generator = torch.Generator().manual_seed(2)
    first = next(stage for stage, keep in enumerate(model.keep) if keep < modalities)
    dropped = correct = frames = 0
    with torch.inference_mode():
        for _ in range(16):
            inputs, label = scene(modalities, generator)
            logits, trace = model(inputs, trace=True)
            dropped += int((~trace.kept_mask(first)[:, modalities - 1]).sum())
            correct += float((logits.argmax(1) == label).float().mean()) * BATCH
            frames += BATCH
    assert correct / frames > 0.85, "the model did not learn the scene at all"
    assert dropped / frames >= 0.95, f"the noise sensor was dropped first in {dropped} of {frames} frames"
