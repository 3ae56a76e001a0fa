"""A modality more in a trained model: what it costs, what it leaves alone, and how it is saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from egformer_fast.models import EGFormer, egformer_b0

SHAPES = [{}, {"keep": (2, 1, 0, 0)}, {"flow": "separate", "keep": (2, 1, 1, 1)}]
shapes = pytest.mark.parametrize("options", SHAPES, ids=["merged", "beside", "separate"])


def frame(names: list[str], channels: int = 3) -> dict[str, torch.Tensor]:
    return {name: torch.randn(2, 3 if name != "sar" else channels, 32, 32) for name in names}


@shapes
@torch.inference_mode()
def test_what_was_there_does_not_change(options: dict[str, object]) -> None:
    model, inputs = egformer_b0(3, ["rgb", "depth"], **options).eval(), frame(["rgb", "depth"])
    expected = model(inputs)
    assert model.add_modality("sar", 2) is model
    assert model.modalities == {"rgb": 3, "depth": 3, "sar": 2} and not model.training
    assert model.keep[0] == 3
    torch.testing.assert_close(model(inputs), expected)
    _, trace = model(frame(["rgb", "depth", "sar"], 2), trace=True)
    assert trace.modalities == ("rgb", "depth", "sar")
    assert trace.score_table(0).isfinite().all()


def test_it_costs_its_stem_alone() -> None:
    model = egformer_b0(3, ["rgb", "depth"])
    before = sum(p.numel() for p in model.parameters())
    model.add_modality("sar", 2)
    assert sum(p.numel() for p in model.parameters()) - before == 2 * 49 * 32 + 3 * 32


@shapes
def test_it_learns_and_is_saved(options: dict[str, object], tmp_path: Path) -> None:
    model = egformer_b0(3, ["rgb", "depth"], **options).train().add_modality("sar", 2)
    inputs = frame(["rgb", "depth", "sar"], 2)
    model(inputs).square().mean().backward()
    assert (model.inputs.stems["sar"].proj.weight.grad != 0).any()
    model.eval().save_pretrained(tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(EGFormer.from_pretrained(tmp_path).eval()(inputs), model(inputs))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="there is a modality 'rgb' already"):
        egformer_b0(3, ["rgb"]).add_modality("rgb")
    with pytest.raises(ValueError, match="modality 'sar' must have at least 1 channel, got 0"):
        egformer_b0(3, ["rgb"]).add_modality("sar", 0)
    with pytest.raises(ValueError, match="early fusion has one patch embedding"):
        egformer_b0(3, ["rgb"], early_fusion=True).add_modality("sar")
