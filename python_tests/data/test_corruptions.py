"""Corruptions of the robustness protocols: golden values from a seed, their statistics, and what a draw depends on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egformer_fast.data.corruptions import draws, gaussian, randomly_zeroed, salt_and_pepper, zero_filled

RAMP = torch.arange(24.0).view(2, 3, 4) / 8 - 1


def test_golden_zeros_at_random() -> None:
    found = randomly_zeroed(RAMP, 0.5, draws(0, 3, "rgb", "rmm 0.5"))
    wanted = [
        [[0, -0.875, -0.75, -0.625], [0, -0.375, 0, 0], [0, 0, 0, 0.375]],
        [[0.5, 0.625, 0.75, 0.875], [1, 1.125, 1.25, 0], [0, 0, 0, 1.875]],
    ]
    assert found.tolist() == wanted


def test_golden_salt_and_pepper() -> None:
    found = salt_and_pepper(RAMP, 0.5, draws(0, 3, "rgb", "noise high"))
    wanted = [
        [[-1, 1.875, -0.75, -0.625], [-1, -0.375, -0.25, -0.125], [0, 0.125, -1, 0.375]],
        [[0.5, 0.625, 0.75, 0.875], [-1, -1, -1, 1.875], [-1, 1.625, 1.75, 1.875]],
    ]
    assert found.tolist() == wanted


def test_golden_gaussian() -> None:
    found = gaussian(RAMP, 0.5, draws(0, 3, "rgb", "noise high"))
    wanted = [
        [[-0.3317, -0.1969, -1.4492, -0.6591], [-0.0089, 0.6472, -0.0006, -0.6406], [0.8447, -0.1081, 0.5287, 0.2487]],
        [[0.8621, 1.0298, 0.8591, 1.6342], [1.6021, 0.6854, 1.2936, 0.9902], [1.6011, 1.0459, 1.3191, 1.6013]],
    ]
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=0, atol=6e-5)


def test_golden_draws() -> None:
    assert draws(0, 3, "rgb", "a").integers(1000, size=4).tolist() == [329, 682, 929, 549]


def test_a_draw_follows_from_seed_frame_modality_and_setting() -> None:
    def first(*key: object) -> float:
        return draws(*key).random()

    assert first(0, 3, "rgb", "a") == first(0, 3, "rgb", "a")
    others = [(1, 3, "rgb", "a"), (0, 4, "rgb", "a"), (0, 3, "depth", "a"), (0, 3, "rgb", "b"), (0, 3, "a", "rgb")]
    assert len({first(0, 3, "rgb", "a"), *(first(*key) for key in others)}) == 6


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_zeros_have_their_share_in_every_channel_for_itself(share: float) -> None:
    lost = randomly_zeroed(torch.ones(2, 100, 100), share, np.random.default_rng(0)) == 0
    spread = (share * (1 - share) / 10000) ** 0.5
    assert all(abs(float(channel.float().mean()) - share) < 4 * spread for channel in lost)
    both = float((lost[0] & lost[1]).float().mean())
    assert abs(both - share**2) < 4 * (share**2 * (1 - share**2) / 10000) ** 0.5


@pytest.mark.parametrize("density", [0.05, 0.1, 0.2])
def test_salt_and_pepper_are_half_each_drawn_with_replacement(density: float) -> None:
    image = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 100, 100)))
    noisy = salt_and_pepper(image, density, np.random.default_rng(0))
    salt, pepper = (((noisy == end) & (image != end)).double().mean() for end in (image.max(), image.min()))
    # Of n draws with replacement among N a share 1 - exp(-n / N) is hit; pepper covers some of the salt.
    hit = 1 - np.exp(-density / 2)
    assert float(pepper) == pytest.approx(hit, rel=0.01)
    assert float(salt) == pytest.approx(hit * (1 - hit), rel=0.03)
    assert float((noisy != image).double().mean()) == pytest.approx(float(salt + pepper))


def test_gaussian_has_its_spread_and_no_mean() -> None:
    noise = gaussian(torch.full((3, 100, 100), 7.0), 0.2, np.random.default_rng(0)) - 7
    assert float(noise.std()) == pytest.approx(0.2, rel=0.02)
    assert abs(float(noise.mean())) < 4 * 0.2 / 30000**0.5


def test_the_image_itself_stays() -> None:
    image = RAMP.clone()
    assert not zero_filled(image).any()
    for corruption in (randomly_zeroed, salt_and_pepper, gaussian):
        found = corruption(image, 0.5, np.random.default_rng(0))
        assert found.dtype == image.dtype
        assert not torch.equal(found, image)
    assert torch.equal(image, RAMP)
