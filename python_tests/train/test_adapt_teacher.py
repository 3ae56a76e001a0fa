"""The teacher's two views: what it is shown, and that what it says of the second is put back into the frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from egformer_fast.train.adapt.teacher import probabilities
from egformer_fast.train.adapt.views import View

SIZE = (12, 20)


def view(**inputs: Tensor) -> View:
    present = torch.ones(len(next(iter(inputs.values()))), len(inputs), dtype=torch.bool)
    return View(inputs, present, torch.zeros(len(present), *SIZE, dtype=torch.int64))


def each_pixel(inputs: dict[str, Tensor], present: Tensor, trace: bool) -> tuple[Tensor, str]:
    """Class 1 where rgb is positive, class 0 elsewhere."""
    return torch.cat([-inputs["rgb"], inputs["rgb"]], 1) * 50, "trace"


def test_without_a_factor_the_frame_is_seen_once() -> None:
    frames = view(rgb=torch.randn(2, 1, *SIZE))
    probability, trace = probabilities(each_pixel, frames)
    assert torch.equal(probability, each_pixel(frames.inputs, frames.present, True)[0].softmax(1))
    assert trace == "trace"


@pytest.mark.parametrize("magnify", [0.5, 1.0, 1.5, 2.0])
def test_the_second_view_is_put_back_where_it_came_from(magnify: float) -> None:
    image = -torch.ones(1, 1, *SIZE)
    image[:, :, 4:8, 8:] = 1.0  # neither mirror image of itself nor thin
    probability, _ = probabilities(each_pixel, view(rgb=image), magnify=magnify)
    assert torch.equal(probability.argmax(1), (image[:, 0] > 0).long())
    torch.testing.assert_close(probability.sum(1), torch.ones(1, *SIZE))


def test_both_views_count_the_same_and_the_trace_is_of_the_frame() -> None:
    answers: Iterator[tuple[list[float], str]] = iter([([0.0, 0.0], "frame"), ([100.0, 0.0], "magnified")])

    def teacher(inputs: dict[str, Tensor], present: Tensor, trace: bool) -> Any:
        logits, name = next(answers)
        return torch.tensor(logits)[None, :, None, None].expand(1, 2, *inputs["rgb"].shape[2:]), name

    probability, trace = probabilities(teacher, view(rgb=torch.randn(1, 1, *SIZE)), magnify=1.5)
    torch.testing.assert_close(probability, torch.tensor([0.75, 0.25])[None, :, None, None].expand(1, 2, *SIZE))
    assert trace == "frame"


@pytest.mark.parametrize("magnify", [None, 2.0])
def test_the_second_view_lacks_sensors_and_the_mean_is_the_label(magnify: float | None) -> None:
    """A teacher that is as sure of class 1 as it has sensors: 1 of 2, then 0.5."""
    seen: list[tuple[list[str], Tensor, tuple[int, ...]]] = []

    def teacher(inputs: dict[str, Tensor], present: Tensor, trace: bool) -> Any:
        size = tuple(inputs["rgb"].shape[2:])
        seen.append((list(inputs), present, size))
        share = present.float().mean(1)[:, None, None, None].expand(len(present), 1, *size)
        return torch.cat([1 - share, share], 1).log(), "frame" if len(inputs) == 2 else "second"

    frames = view(rgb=torch.randn(3, 1, *SIZE), lidar=torch.randn(3, 1, *SIZE))
    without = View({"rgb": frames.inputs["rgb"]}, torch.tensor([[True, False]] * 3), frames.label)
    probability, trace = probabilities(teacher, frames, without, magnify)
    torch.testing.assert_close(probability[:, 1], torch.full((3, *SIZE), 0.75))
    assert [names for names, _, _ in seen] == [["rgb", "lidar"], ["rgb"]]
    assert torch.equal(seen[1][1], without.present)
    assert seen[1][2] == (SIZE if magnify is None else (24, 40))
    assert trace == "frame"


def test_ranges_are_not_mixed_and_angles_turn_with_the_mirror() -> None:
    seen: list[dict[str, Tensor]] = []

    def teacher(inputs: dict[str, Tensor], present: Tensor, trace: bool) -> Any:
        seen.append(inputs)
        return each_pixel(inputs, present, trace)

    lidar = torch.randint(0, 2, (1, 1, *SIZE)).float()
    angle = torch.tensor([0.6, -0.8])[None, :, None, None].expand(1, 2, *SIZE)
    dense = lidar.clone()
    probabilities(teacher, view(rgb=dense, lidar=lidar, aolp=angle), magnify=1.5, sparse=["lidar"], angles=["aolp"])
    second = seen[1]
    assert {name: tuple(image.shape[2:]) for name, image in second.items()} == dict.fromkeys(second, (18, 30))
    assert set(second["lidar"].unique().tolist()) == {0.0, 1.0}
    assert len(second["rgb"].unique()) > 2
    torch.testing.assert_close(second["aolp"][0, :, 0, 0], torch.tensor([-0.6, -0.8]))
