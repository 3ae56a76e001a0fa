"""Every degradation: fixed values from a seed, what holds for any image, and what may be expected of a sensor."""

from __future__ import annotations

import numpy as np
import pytest
from degradation_draws import draws, picture, scan
from hypothesis import given
from hypothesis import strategies as st

from egformer_fast.data.degradations import DEGRADATIONS, applicable, degrade
from egformer_fast.data.modality import KINDS, SPARSE_KINDS

# (mean, root of the mean square, mean times a weight that grows along rows and columns) of seeds 0 to 3.
GOLDEN: dict[tuple[str, str], list[tuple[float, float, float]]] = {
    ("noise", "rgb"): [
        (0.500632, 0.584772, 0.166916),
        (0.497106, 0.592671, 0.165741),
        (0.502732, 0.655951, 0.167336),
        (0.668454, 0.760565, 0.222683),
    ],
    ("noise", "lidar"): [
        (0.11392, 0.270292, 0.03757),
        (0.187572, 0.340884, 0.06322),
        (0.103264, 0.258462, 0.034217),
        (0.340491, 0.452342, 0.113747),
    ],
    ("blur", "rgb"): [
        (0.49999, 0.538152, 0.16678),
        (0.49997, 0.502551, 0.166704),
        (0.499992, 0.518869, 0.166783),
        (0.499967, 0.510586, 0.16671),
    ],
    ("overexposure", "rgb"): [
        (0.872887, 0.899777, 0.29104),
        (0.845362, 0.880021, 0.281877),
        (0.784086, 0.835634, 0.261477),
        (0.734781, 0.798569, 0.245058),
    ],
    ("underexposure", "rgb"): [
        (0.112993, 0.132559, 0.037664),
        (0.100828, 0.12352, 0.033569),
        (0.081022, 0.096574, 0.026994),
        (0.069156, 0.08306, 0.023066),
    ],
    ("constant", "rgb"): [
        (1.0, 1.0, 0.333341),
        (0.580059, 0.593337, 0.193358),
        (1.0, 1.0, 0.333341),
        (0.0, 0.0, 0.0),
    ],
    ("frozen", "rgb"): [
        (0.518748, 0.590655, 0.167748),
        (0.502327, 0.576502, 0.166962),
        (0.47002, 0.54778, 0.14983),
        (0.459483, 0.538083, 0.143884),
    ],
    ("thinned", "lidar"): [
        (0.013188, 0.093304, 0.006378),
        (0.017527, 0.107851, 0.005787),
        (0.025061, 0.128624, 0.006643),
        (0.030339, 0.141526, 0.01163),
    ],
    ("thinned", "depth"): [
        (0.078208, 0.227257, 0.030233),
        (0.103151, 0.26121, 0.034783),
        (0.148513, 0.313123, 0.04881),
        (0.183622, 0.348134, 0.061421),
    ],
    ("shifted", "rgb"): [
        (0.501934, 0.576156, 0.166603),
        (0.501156, 0.575474, 0.166891),
        (0.494951, 0.570053, 0.162182),
        (0.490898, 0.566499, 0.158645),
    ],
    ("swapped", "depth"): [
        (0.49999, 0.574448, 0.16679),
        (0.49999, 0.574448, 0.16679),
        (0.49999, 0.574448, 0.16679),
        (0.49999, 0.574448, 0.16679),
    ],
    ("jitter", "lidar"): [
        (0.075682, 0.223091, 0.025042),
        (0.074886, 0.221492, 0.024937),
        (0.076713, 0.224679, 0.02565),
        (0.077244, 0.225402, 0.025472),
    ],
    ("lowres", "event"): [
        (0.084375, 0.087327, 0.028136),
        (0.083848, 0.095585, 0.027291),
        (0.084375, 0.087327, 0.028136),
        (0.084313, 0.090358, 0.027169),
    ],
    ("overexposure", "nir"): [
        (0.802209, 0.821801, 0.267466),
        (0.778619, 0.804781, 0.25961),
        (0.72624, 0.767096, 0.242176),
        (0.684431, 0.736286, 0.228252),
    ],
    ("shifted", "event"): [
        (0.070539, 0.215736, 0.025799),
        (0.064068, 0.205637, 0.021186),
        (0.05985, 0.19878, 0.011979),
        (0.053745, 0.188371, 0.010735),
    ],
}


@pytest.mark.parametrize(("name", "kind"), GOLDEN)
def test_fixed_values(name: str, kind: str) -> None:
    image = (scan if kind in ("lidar", "event") else picture)(128, 160)
    weight = np.linspace(0, 1, image[0].size).reshape(image[0].shape) ** 2
    other = image[..., ::-1] if name == "swapped" else None
    found = []
    for seed in range(4):
        result = degrade(name, image, kind, np.random.default_rng(seed), other)
        found.append((result.mean(), np.sqrt(np.square(result).mean()), (result * weight).mean()))
    np.testing.assert_allclose(found, GOLDEN[name, kind], rtol=0, atol=1e-5)


def test_every_name_has_fixed_values() -> None:
    assert {name for name, _ in GOLDEN} == set(DEGRADATIONS)


@given(
    st.sampled_from(list(DEGRADATIONS)),
    st.sampled_from(KINDS),
    st.integers(1, 6),
    st.integers(16, 40),
    st.integers(16, 40),
    st.sampled_from([(1.0, 0.0), (300.0, -20.0), (0.01, 5.0), (0.0, 0.0), (0.0, 0.4), (1e30, -1e29)]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_image_of_any_kind(
    name: str, kind: str, channels: int, height: int, width: int, scale: tuple[float, float], sparse: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = (rng.uniform(0.05, 0.95, (channels, height, width)) * scale[0] + scale[1]).astype(np.float32)
    if sparse:
        image *= rng.random((height, width)) < 0.2
    other = np.roll(image[..., ::-1], 1, -1) + 0.125
    before, other_before = image.copy(), other.copy()
    result, again = (degrade(name, image, kind, np.random.default_rng(seed), other) for _ in range(2))
    assert (result.shape, result.dtype) == (image.shape, np.float32)
    assert result.flags.c_contiguous
    assert np.isfinite(result).all()
    np.testing.assert_array_equal(result, again)
    np.testing.assert_array_equal(image, before)
    assert not np.shares_memory(result, image) and not np.shares_memory(result, other)
    result[:] = 7
    np.testing.assert_array_equal(other, other_before)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_with_something_in_it_is_changed(kind: str) -> None:
    for name in applicable(kind):
        for image in (picture(), scan()):
            if name == "overexposure" and not image.all():
                continue  # what is black stays black, the rest may be white already
            assert not any(np.array_equal(result, image) for result in draws(name, image, kind, 40)), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DEGRADATIONS)
def test_the_smallest_images_and_empty_ones(name: str, kind: str) -> None:
    for shape in ((1, 1, 1), (2, 1, 5), (1, 3, 2), (6, 32, 32)):
        for image in (np.zeros(shape, np.float32), np.ones(shape, np.float32)):
            for result in draws(name, image, kind, 8):
                assert result.shape == shape
                assert np.isfinite(result).all()


@pytest.mark.parametrize("name", ["noise", "overexposure", "underexposure", "constant", "jitter"])
def test_values_stay_in_the_range_of_the_sensor(name: str) -> None:
    metres = 40 + 100 * picture()
    for kind in KINDS:
        image, low, high = (picture(), 0, 1) if kind == "rgb" else (metres, 0, metres.max())
        if name == "noise" and kind not in SPARSE_KINDS | {"rgb"}:
            low = metres.min()
        for result in draws(name, image, kind, 40):
            assert result.min() >= low - 1e-4 and result.max() <= high + 1e-4, kind


# What may be expected of a kind


def test_applicable_names_are_known_for_all_kinds() -> None:
    for kind in KINDS:
        names = applicable(kind)
        assert set(names) <= set(DEGRADATIONS)
        assert len(set(names)) == len(names) >= 5
        assert names == tuple(name for name in DEGRADATIONS if name in names)
        assert {"noise", "constant", "frozen", "shifted", "swapped"} <= set(names)
        assert ("thinned" in names) == (kind in SPARSE_KINDS)
        assert ("jitter" in names) == (kind in ("lidar", "radar"))
        assert ("overexposure" in names) == ("underexposure" in names) == (kind in ("rgb", "nir"))
        assert ("blur" in names) == (kind not in SPARSE_KINDS)


# Arguments


def test_mistakes_are_named() -> None:
    image, rng = picture(), np.random.default_rng(0)
    with pytest.raises(ValueError, match="unknown degradation 'blurr'; did you mean 'blur'"):
        degrade("blurr", image, "rgb", rng)
    with pytest.raises(ValueError, match="unknown kind 'rbg'; did you mean 'rgb'"):
        degrade("blur", image, "rbg", rng)
    with pytest.raises(ValueError, match=r"image must be \(C, H, W\) and not empty, found \(16, 20\)"):
        degrade("blur", image[0], "rgb", rng)
    with pytest.raises(ValueError, match=r"other must be of the image's shape \(3, 16, 20\), found \(3, 16, 19\)"):
        degrade("swapped", image, "rgb", rng, image[..., :19])
    with pytest.raises(ValueError, match="'swapped' wants `other`.*found None"):
        degrade("swapped", image, "rgb", rng)
