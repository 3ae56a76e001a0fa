"""What the student sees of a target frame: mixed, jittered, masked, with sensors lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from egformer_fast.train.adapt.views import View, block_mask, class_mask, class_mix, drop_sensors, masked, with_holes_of

NAMES = ["rgb", "depth", "lidar"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def view(value: float, present: list[list[bool]], label: int = 0, size: int = 16) -> View:
    """Every pixel of every sensor is `value`."""
    batch = len(present)
    inputs = {name: torch.full((batch, 3 if name == "rgb" else 1, size, size), value) for name in NAMES}
    return View(inputs, torch.tensor(present), torch.full((batch, size, size), label))


def four_classes(size: int = 16) -> torch.Tensor:
    """(1, size, size): a class in each quarter, a corner of it ignored."""
    label = torch.zeros(1, size, size, dtype=torch.int64)
    half = size // 2
    label[:, half:] += 2
    label[:, :, half:] += 1
    label[:, :2, :2] = 255
    return label


@pytest.mark.parametrize("seed", range(8))
def test_half_of_the_classes_of_a_label_are_pasted_whole(seed: int) -> None:
    label = four_classes()
    mask = class_mask(label, 255, rng(seed))
    pasted = {number for number in range(4) if mask[label == number].any()}
    assert len(pasted) == 2
    assert all(mask[label == number].all() for number in pasted)
    assert not mask[label == 255].any()


def test_an_odd_number_of_classes_is_rounded_up_and_an_unlabelled_frame_pastes_nothing() -> None:
    label = torch.stack([torch.arange(3).repeat_interleave(2).expand(6, 6), torch.full((6, 6), 255)])
    mask = class_mask(label, 255, rng())
    assert len(label[0][mask[0]].unique()) == 2
    assert not mask[1].any()


def test_all_sensors_are_mixed_at_the_same_pixels_with_labels_and_weights() -> None:
    source = replace(view(1.0, [[True, True, True]]), label=four_classes())
    target = replace(view(-1.0, [[True, True, True]], label=7), weight=torch.full((1, 16, 16), 0.25))
    mixed = class_mix(source, target, 255, NAMES, rng())
    pasted = mixed.label != 7
    assert 0 < pasted.sum() < 256
    for image in mixed.inputs.values():
        assert torch.equal(image, torch.where(pasted.unsqueeze(1), 1.0, -1.0).expand_as(image))
    assert torch.equal(mixed.label[pasted], source.label[pasted])
    assert mixed.weight is not None
    assert torch.equal(mixed.weight, torch.where(pasted, 1.0, 0.25))


def test_what_is_pasted_into_padding_is_none() -> None:
    padding = torch.zeros(1, 16, 16, dtype=torch.bool)
    padding[:, :, 12:] = True
    source = replace(view(1.0, [[True] * 3]), label=four_classes())
    target = replace(view(-1.0, [[True] * 3], label=7), padding=padding)
    mixed = class_mix(source, target, 255, NAMES, rng())
    assert torch.equal(mixed.inside, (mixed.label != 7) | ~padding)
    assert (~mixed.inside).any()
    assert view(0.0, [[True] * 3]).inside.all()


def test_a_sensor_that_one_domain_lacks_is_missing_in_the_mix() -> None:
    source = replace(view(1.0, [[True, True, False]] * 2), label=four_classes().expand(2, -1, -1))
    target = view(-1.0, [[True, False, True], [False, False, True]], label=7)
    mixed = class_mix(source, target, 255, NAMES, rng())
    # The second pair has no sensor in common: the target's frame stays as it is.
    assert mixed.present.tolist() == [[True, False, False], [False, False, True]]
    assert (mixed.label[1] == 7).all()
    assert (mixed.inputs["lidar"][1] == -1).all()
    assert "depth" not in mixed.inputs


def test_holes_take_the_value_of_the_other_data_set() -> None:
    frames = view(1.0, [[True, True, True]])
    frames.inputs["depth"][0, 0, :4] = -0.5
    frames.inputs["rgb"][0, 0, :4] = -0.5
    moved = with_holes_of(frames, {"depth": torch.tensor([-0.5])}, {"depth": torch.tensor([-2.0])})
    assert (moved.inputs["depth"][0, 0, :4] == -2).all()
    assert (moved.inputs["depth"][0, 0, 4:] == 1).all()
    assert torch.equal(moved.inputs["rgb"], frames.inputs["rgb"])
    assert (frames.inputs["depth"][0, 0, :4] == -0.5).all()


def test_blocks_are_hidden_whole_and_at_the_ratio() -> None:
    mask = block_mask((50, 70), 40, 16, 0.7, rng())
    assert mask.shape == (40, 1, 50, 70)
    blocks = mask[:, 0, :48, :64].unflatten(2, (4, 16)).unflatten(1, (3, 16))
    share = blocks.float().mean((2, 4))
    assert set(share.unique().tolist()) == {0.0, 1.0}
    assert share.mean() == pytest.approx(0.7, abs=0.06)


def test_masking_hides_the_same_pixels_of_every_sensor() -> None:
    hidden = masked(view(2.0, [[True, True, True]] * 3), 4, 0.5, rng())
    shown = hidden.inputs["depth"] != 0
    assert 0.2 < shown.float().mean() < 0.8
    for image in hidden.inputs.values():
        assert torch.equal(image, torch.where(shown, 2.0, 0.0).expand_as(image))


def test_sensors_are_lost_but_never_the_last() -> None:
    full = view(1.0, [[True, True, False]] * 300)
    kept = drop_sensors(full, 0.5, NAMES, rng()).present
    assert kept.any(1).all()
    assert not kept[:, 2].any()
    # Lost with probability 1/2, but for half of the quarter of frames that would lose both.
    assert kept[:, 0].float().mean() == pytest.approx(0.5 + 0.25 / 2, abs=0.08)
    assert torch.equal(drop_sensors(full, 0.0, NAMES, rng()).present, full.present)
    alone = drop_sensors(view(1.0, [[True, True, True]]), 1.0, NAMES, rng())
    assert alone.present.sum() == 1
    assert list(alone.inputs) == [name for name, there in zip(NAMES, alone.present[0], strict=True) if there]


def test_a_blind_frame_stays_blind() -> None:
    blind = drop_sensors(view(1.0, [[False, False, False]]), 0.9, NAMES, rng())
    assert not blind.present.any()
    assert blind.inputs
