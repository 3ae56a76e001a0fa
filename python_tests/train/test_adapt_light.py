"""Light and noise of normalised frames: changed at random, or taken from the other domain."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from egformer_fast.data import FolderDataset
from egformer_fast.train.adapt.light import colour_turn, jittered, no_return, normal, restyled, thinned
from egformer_fast.train.adapt.views import View

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import miniature_muses

NAMES = ["rgb", "depth", "lidar"]

COLOURED = ["rgb"]
ABSENT = {"depth": torch.tensor([-0.5]), "lidar": torch.tensor([0.25])}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noisy(seed: int = 0) -> View:
    """40 frames of 16 x 16 pixels, the depth of a quarter of each without a return."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {name: torch.randn(40, 3 if name == "rgb" else 1, 16, 16, generator=generator) for name in NAMES}
    inputs["depth"][:, :, :4] = -0.5
    return View(inputs, torch.ones(40, 3, dtype=torch.bool), torch.zeros(40, 16, 16, dtype=torch.int64))


def test_every_sensor_is_changed_for_itself_in_the_share_of_frames_asked_for() -> None:
    before = noisy()
    after = jittered(before, ABSENT, COLOURED, 0.3, 0.8, rng())
    for name in NAMES:
        moved = (after.inputs[name] - before.inputs[name]).flatten(1).abs().mean(1)
        assert 0 < moved.max() < (1.5 if name == "rgb" else 1)
    changed = (after.inputs["rgb"] != before.inputs["rgb"]).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(0.8, abs=0.15)
    dropped = ((after.inputs["lidar"] == 0.25) & (before.inputs["lidar"] != 0.25)).flatten(1).any(1)
    assert dropped.any()
    assert dropped.float().mean() < 0.95  # a frame that is not changed loses no returns either


@pytest.mark.parametrize(("strength", "p"), [(0.0, 1.0), (0.5, 0.0)])
def test_without_strength_or_frames_nothing_is_changed(strength: float, p: float) -> None:
    before = noisy()
    after = jittered(before, ABSENT, COLOURED, strength, p, rng())
    for name in NAMES:
        assert torch.equal(after.inputs[name], before.inputs[name]), name


def test_a_scan_loses_returns_and_other_sensors_stay() -> None:
    before = noisy()
    after = thinned(before, {"lidar": ABSENT["lidar"]}, 0.6, 0.75, rng())
    for name in ("rgb", "depth"):
        assert torch.equal(after.inputs[name], before.inputs[name]), name
    lost = (after.inputs["lidar"] == 0.25).flatten(1).float().mean(1)
    kept = after.inputs["lidar"] != 0.25
    assert torch.equal(after.inputs["lidar"][kept], before.inputs["lidar"][kept])
    assert (lost > 0).float().mean() == pytest.approx(0.75, abs=0.15)  # the share of the frames
    thin = lost[lost > 0]
    assert 0.45 < thin.max() < 0.7 and thin.min() < 0.15 and thin.mean() == pytest.approx(0.3, abs=0.07)
    assert thinned(before, {"lidar": ABSENT["lidar"]}, 0.0, 1.0, rng()) is before


def test_scans_are_thinned_in_the_order_of_their_names_given() -> None:
    """One generator for all of them: another order in another process would not resume to the same bits."""
    names = [f"scanner_{number}" for number in range(6)]
    view = replace(noisy(), inputs={name: torch.ones(40, 1, 16, 16) for name in names})
    together = thinned(view, dict.fromkeys(names, ABSENT["lidar"]), 0.5, 0.8, rng())
    one_by_one, generator = view, rng()
    for name in names:
        one_by_one = thinned(one_by_one, {name: ABSENT["lidar"]}, 0.5, 0.8, generator)
    for name in names:
        assert torch.equal(together.inputs[name], one_by_one.inputs[name]), name
    assert thinned(replace(view, inputs={}), dict.fromkeys(names, ABSENT["lidar"]), 0.5, 0.8, rng()).inputs == {}


def test_all_channels_of_a_return_are_lost_together() -> None:
    view = replace(noisy(), inputs={"radar": torch.ones(40, 3, 16, 16)})
    after = thinned(view, {"radar": torch.tensor([0.0, -1.0, 0.5])}, 0.5, 1.0, rng()).inputs["radar"]
    lost = after[:, 0] == 0
    assert lost.any() and torch.equal(lost, after[:, 1] == -1) and torch.equal(lost, after[:, 2] == 0.5)


def test_a_sparse_sensor_keeps_its_holes_and_gets_more() -> None:
    before = noisy()
    after = jittered(before, ABSENT, COLOURED, 0.5, 1.0, rng())
    assert (after.inputs["depth"][:, :, :4] == -0.5).all()
    holes = (after.inputs["lidar"] == 0.25).float().mean()
    assert 0.02 < holes < 0.25
    assert not (after.inputs["rgb"] == 0).any()


def test_noise_of_a_device_follows_from_the_generator(any_device: str) -> None:
    one, again, other = (normal((3, 40, 50), rng(seed), torch.device(any_device)) for seed in (5, 5, 6))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.dtype == torch.float32 and one.device.type == any_device
    assert one.mean().abs() < 0.05 and (one.std() - 1).abs() < 0.05


def test_the_same_generator_gives_the_same_views() -> None:
    one, other = (jittered(noisy(), ABSENT, COLOURED, 0.3, 0.8, rng(3)) for _ in range(2))
    assert all(torch.equal(one.inputs[name], other.inputs[name]) for name in NAMES)


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0, -1.3])
@pytest.mark.parametrize("saturation", [0.5, 1.0, 1.5])
def test_a_colour_turn_keeps_grey_and_scales_the_distance_from_it(angle: float, saturation: float) -> None:
    turn = colour_turn(angle, saturation)
    grey, colour = torch.full((3,), 0.3), torch.tensor([0.9, -0.2, -0.7])  # the second is orthogonal to the first
    torch.testing.assert_close(turn @ grey, grey)
    torch.testing.assert_close((turn @ colour).norm(), saturation * colour.norm())
    cosine = torch.dot(turn @ colour, colour) / (saturation * colour.norm() ** 2)
    assert cosine.item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_a_turn_of_a_third_of_the_circle_exchanges_the_channels() -> None:
    colour = torch.tensor([0.1, 0.2, 0.3])
    torch.testing.assert_close(colour_turn(2 * math.pi / 3, 1.0) @ colour, torch.tensor([0.3, 0.1, 0.2]))


@pytest.mark.parametrize(("coloured", "turned"), [(["rgb"], True), ([], False)])
def test_only_rgb_is_turned_in_colour(coloured: list[str], turned: bool) -> None:
    """Light and noise alone leave the mean difference of two channels as it is."""
    colour = torch.tensor([1.0, -1.0, 0.0])[:, None, None].expand(40, 3, 16, 16)
    before = replace(noisy(), inputs={"rgb": colour})
    after = jittered(before, {}, coloured, 0.3, 1.0, rng()).inputs["rgb"]
    apart = (after[:, 0] - after[:, 1]).mean((1, 2))
    assert ((apart - 2).abs() > 0.05).float().mean() == (pytest.approx(1, abs=0.2) if turned else 0)


def test_a_restyled_frame_has_the_mean_and_spread_of_its_partner() -> None:
    source, target = noisy(), noisy(1)
    target = replace(target, inputs={name: 3 * image + 2 for name, image in target.inputs.items()})
    styled = restyled(source, target, ABSENT, NAMES, 1.0, rng())
    for statistic in (torch.mean, torch.std):
        torch.testing.assert_close(statistic(styled.inputs["rgb"], (2, 3)), statistic(target.inputs["rgb"], (2, 3)))
    for sparse in ("depth", "lidar"):
        assert torch.equal(styled.inputs[sparse], source.inputs[sparse])
    assert torch.equal(styled.label, source.label)


def test_padding_takes_no_part_in_a_restyling() -> None:
    """A frame of which half is padding, restyled by one of the same statistics, stays what it is."""
    target = noisy()
    padding = torch.zeros(40, 16, 32, dtype=torch.bool)
    padding[..., 16:] = True
    inputs = {name: F.pad(image, (0, 16), value=-7.0) for name, image in target.inputs.items()}
    source = replace(target, inputs=inputs, label=F.pad(target.label, (0, 16), value=255), padding=padding)
    for one, other in ((source, target), (source, source), (target, source)):
        torch.testing.assert_close(restyled(one, other, ABSENT, NAMES, 1.0, rng()).inputs, one.inputs)


def test_holes_of_muses_are_what_stands_for_no_return(tmp_path: Path) -> None:
    """Its files have a shift, and holes that are written as the value 0."""
    miniature_muses.write_projected(tmp_path, "png")
    frames = FolderDataset("muses", tmp_path, "train")
    for name in ("lidar", "radar"):
        image = frames[0]["inputs"][name]
        share = (image == no_return(frames.sensors[name])[:, None, None]).all(0).float().mean()
        assert 0.3 < share < 0.9, name


def test_frames_are_restyled_in_the_share_asked_for_and_never_by_a_sensor_that_is_not_there_or_dead() -> None:
    source, target = noisy(), noisy(1)
    some = restyled(source, target, ABSENT, NAMES, 0.5, rng())
    changed = (some.inputs["rgb"] != source.inputs["rgb"]).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(0.5, abs=0.2)
    missing = target.present.clone()
    missing[:10, 0] = False
    image = target.inputs["rgb"].clone()
    image[10:20] = -1.5
    worn = source.inputs["rgb"].clone()
    worn[20:30] = 0.5
    source = replace(source, inputs={**source.inputs, "rgb": worn})
    target = replace(target, present=missing, inputs={**target.inputs, "rgb": image})
    styled = restyled(source, target, ABSENT, NAMES, 1.0, rng()).inputs["rgb"]
    assert torch.equal(styled[:30], source.inputs["rgb"][:30])
    assert (styled[30:] != source.inputs["rgb"][30:]).flatten(1).any(1).all()
    assert torch.isfinite(styled).all()
    without = replace(target, inputs={name: target.inputs[name] for name in ("depth", "lidar")})
    assert torch.equal(restyled(source, without, ABSENT, NAMES, 1.0, rng()).inputs["rgb"], source.inputs["rgb"])
