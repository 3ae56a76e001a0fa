"""The distance to the features of the starting weights."""

from __future__ import annotations

import pytest
import torch

from egformer_fast.models import egformer_b0
from egformer_fast.train.adapt.features import StartingFeatures, last_fused


@pytest.mark.parametrize("size", [(64, 96), (33, 64), (40, 33)])
def test_a_cell_counts_where_it_is_of_one_held_class(size: tuple[int, int]) -> None:
    """Also where a side is no multiple of a cell's, which the stages round up."""
    torch.manual_seed(0)
    model = egformer_b0(3, ["depth"]).eval()
    with torch.no_grad(), last_fused(model) as fused:
        model({"depth": torch.randn(1, model.modalities["depth"], *size)})
    height, width = (-(-length // 32) for length in size)
    assert fused[0].shape[1] == height * width
    label = torch.full((1, *size), 255)
    label[:, :, size[1] // 2 :] = 1
    start = torch.zeros_like(fused[0])
    moved = start.clone()
    moved.unflatten(1, (height, width))[:, :, -1] = 2.0
    expected = 2.0 * start.shape[2] ** 0.5
    apart = StartingFeatures(model, []).distance(moved, start, label)
    inside = StartingFeatures(model, [1])._cells(label, height * width).unflatten(1, (height, width))
    assert inside[..., -1].all()
    assert not inside[..., 0].any()
    assert apart.item() == pytest.approx(expected * height / float(inside.sum()), rel=1e-5)
    assert StartingFeatures(model, [2]).distance(moved, start, label).item() == 0
