"""Augmentation is joint: the label, fed as a sensor too, goes through everything alike; and it does what it says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egformer_fast.data import (
    Compose,
    Frame,
    Photometric,
    RandomFlip,
    RandomMissing,
    RandomQuarterTurn,
    RandomScaleCrop,
    RandomZeroed,
    Resize,
    Transform,
)
from egformer_fast.data.transforms import deterministic_part, resize

SIDES = st.integers(1, 24)
SEEDS = st.integers(0, 2**32 - 1)
GEOMETRY: list[Transform] = [
    RandomFlip(True, True),
    RandomQuarterTurn(),
    RandomScaleCrop(12),
    RandomScaleCrop((9, 17), (0.3, 3.0)),
    RandomScaleCrop(16, (0.5, 0.5)),
    Resize((11, 5)),
    Compose([RandomScaleCrop(10), RandomFlip(True, True), RandomQuarterTurn()]),
]


def frame(height: int, width: int, seed: int = 0) -> Frame:
    """The label is fed as a sparse sensor; `place` holds row and column + 1, a plane that bilinear sampling keeps."""
    label = np.random.default_rng(seed).integers(1, 255, (height, width)).astype(np.uint8)
    rows, columns = np.indices((height, width), dtype=np.float32) + 1
    place = np.stack([rows, columns])
    maps = {"twin": label[None].astype(np.float32), "place": place, "near": place}
    kinds = {"twin": "lidar", "place": "sar", "near": "depth"}
    return Frame(maps, label, kinds, dict.fromkeys(maps, True))


def sensors(count: int, value: float = 0.5, kind: str = "sar", present: Sequence[bool] = ()) -> Frame:
    names = [f"s{n}" for n in range(count)]
    maps = {name: np.full((3, 4, 4), value, np.float32) for name in names}
    here = dict(zip(names, present, strict=True)) if present else dict.fromkeys(names, True)
    return Frame(maps, np.zeros((4, 4), np.uint8), dict.fromkeys(names, kind), here)


@given(st.sampled_from(GEOMETRY), SIDES, SIDES, SEEDS)
def test_geometry_is_joint(transform: Transform, height: int, width: int, seed: int) -> None:
    source = frame(height, width, seed)
    result = transform(source, np.random.default_rng(seed))
    label, twin, near = result.label, result.maps["twin"], result.maps["near"]
    assert label.dtype == np.uint8
    assert twin.shape == (1, *label.shape)
    inside = label != 255
    np.testing.assert_array_equal(twin[0], np.where(inside, label, 0))
    for image in result.maps.values():
        assert image.dtype == np.float32
        assert not image[:, ~inside].any()
    padding = np.zeros(label.shape, bool) if result.padding is None else result.padding
    np.testing.assert_array_equal(padding, ~inside)
    # Every pixel of the label comes from the place that the depth-like map names.
    rows, columns = near[:, inside].astype(int) - 1
    np.testing.assert_array_equal(label[inside], source.label[rows, columns])


@given(st.sampled_from(GEOMETRY), SIDES, SIDES, SEEDS)
def test_bilinear_maps_stay_aligned_with_the_label(transform: Transform, height: int, width: int, seed: int) -> None:
    """On a plane bilinear sampling is exact, so it is half a pixel at most from the nearest pixel."""
    result = transform(frame(height, width, seed), np.random.default_rng(seed))
    inside = result.label != 255
    offset = abs(result.maps["place"] - result.maps["near"])[:, inside]
    assert offset.max(initial=0) <= 0.5 + 1e-4


@given(SIDES, SIDES, SEEDS, st.sampled_from([(7, 7), (20, 3), (1, 30)]))
def test_scale_crop_size_padding_and_scale(height: int, width: int, seed: int, size: tuple[int, int]) -> None:
    result = RandomScaleCrop(size, (0.7, 0.7))(frame(height, width), np.random.default_rng(seed))
    inside = result.label != 255
    assert inside.shape == size
    for axis, (length, target) in enumerate(zip((height, width), size, strict=True)):
        along = inside.any(1 - axis)
        window = max(1, round(target / 0.7))
        assert along.sum() == (target if window <= length else max(1, round(length * target / window)))
        assert np.ptp(np.flatnonzero(along)) == along.sum() - 1
        near = result.maps["near"][axis][inside]
        assert np.ptp(near) <= min(window, length) - 1


def test_scale_crop_reaches_all_places_and_scales() -> None:
    source, crop = frame(40, 40), RandomScaleCrop(10, (0.5, 2.0))
    results = [crop(source, np.random.default_rng(seed)).maps["near"] for seed in range(400)]
    spans = np.array([np.ptp(result[0]) + 1 for result in results])
    # At 0.5 every other one of 20 source rows is taken.
    assert (spans.min(), spans.max()) == (5, 19)
    assert min(result[1].min() for result in results) == 1
    assert max(result[1].max() for result in results) == 40


def test_whole_window_is_untouched() -> None:
    source = frame(8, 8)
    result = RandomScaleCrop(8, (1.0, 1.0))(source, np.random.default_rng(0))
    np.testing.assert_array_equal(result.label, source.label)
    np.testing.assert_array_equal(result.maps["place"], source.maps["place"])


def test_flips_and_turns_are_the_named_ones() -> None:
    source = frame(4, 4)
    label = source.label

    def results(transform: Transform) -> set[bytes]:
        return {transform(source, np.random.default_rng(seed)).label.tobytes() for seed in range(60)}

    assert results(RandomFlip(True, False)) == {label.tobytes(), label[:, ::-1].tobytes()}
    assert results(RandomFlip(False, True)) == {label.tobytes(), label[::-1].tobytes()}
    assert len(results(RandomFlip(True, True))) == 4
    assert results(RandomFlip(False, False)) == {label.tobytes()}
    assert results(RandomQuarterTurn()) == {np.rot90(label, turns).tobytes() for turns in range(4)}
    oblong = frame(3, 5)
    turned = {RandomQuarterTurn()(oblong, np.random.default_rng(seed)).label.tobytes() for seed in range(60)}
    assert turned == {oblong.label.tobytes(), oblong.label[::-1, ::-1].tobytes()}


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_resize_of_equal_size_and_back(mode: str) -> None:
    image = np.random.default_rng(0).random((2, 5, 7), np.float32)
    assert resize(image, (5, 7), mode) is image
    doubled = resize(image, (10, 14), mode)
    if mode == "nearest":
        np.testing.assert_array_equal(doubled, image.repeat(2, 1).repeat(2, 2))
    else:
        np.testing.assert_allclose(resize(doubled, (5, 7), mode)[:, 1:-1, 1:-1], _smoothed(image), rtol=1e-5)


def _smoothed(image: np.ndarray) -> np.ndarray:
    """Twice as large and back weighs the neighbours along an axis by 1-6-1."""
    image = (image[:, :-2] + 6 * image[:, 1:-1] + image[:, 2:]) / 8
    return (image[..., :-2] + 6 * image[..., 1:-1] + image[..., 2:]) / 8


def test_inputs_are_never_written_to() -> None:
    transforms = [*GEOMETRY, Photometric(1.0, blur=1.0), RandomMissing(0.5), RandomZeroed(0.5)]
    for source, same in ((frame(16, 16), frame(16, 16)), (sensors(2, 0.5, "rgb"), sensors(2, 0.5, "rgb"))):
        for transform in transforms:
            for seed in range(5):
                transform(source, np.random.default_rng(seed))
        np.testing.assert_array_equal(source.label, same.label)
        for name, image in source.maps.items():
            np.testing.assert_array_equal(image, same.maps[name])


# Light and colour


def test_photometric_touches_rgb_alone() -> None:
    both = Frame(
        {"rgb": np.full((3, 8, 8), 0.4, np.float32), "sar": np.full((3, 8, 8), 0.4, np.float32)},
        np.zeros((8, 8), np.uint8), {"rgb": "rgb", "sar": "sar"}, {"rgb": True, "sar": True},
    )  # fmt: skip
    result = Photometric(1.0)(both, np.random.default_rng(0))
    assert result.maps["sar"] is both.maps["sar"]
    assert result.label is both.label
    assert not np.allclose(result.maps["rgb"], 0.4)


def test_photometric_strengths() -> None:
    """Each alone, against its definition: grey, spread and level scaled by one factor of the given range."""
    image = np.random.default_rng(1).uniform(0.4, 0.6, (3, 16, 16)).astype(np.float32)
    source = Frame({"rgb": image}, np.zeros((16, 16), np.uint8), {"rgb": "rgb"}, {"rgb": True})
    grey = np.tensordot([0.299, 0.587, 0.114], image, 1)
    centres = {"brightness": 0.0, "contrast": grey.mean(), "saturation": grey}
    for name, centre in centres.items():
        strengths = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0} | {name: 0.3}
        factors = []
        for seed in range(200):
            result = Photometric(1.0, **strengths)(source, np.random.default_rng(seed)).maps["rgb"]
            ratio = (result - centre) / (image - centre)
            factor = np.median(ratio)
            np.testing.assert_allclose(result, centre + factor * (image - centre), atol=1e-5)
            factors.append(factor)
        assert 0.7 <= min(factors) + 1e-4 < 0.73
        assert 1.27 < max(factors) - 1e-4 <= 1.3


def test_photometric_clips_and_blurs() -> None:
    bright = sensors(1, 0.95, "rgb")
    results = [Photometric(1.0, 1.0)(bright, np.random.default_rng(seed)).maps["s0"] for seed in range(50)]
    assert max(result.max() for result in results) == 1
    assert min(result.min() for result in results) >= 0
    spot = np.zeros((3, 5, 5), np.float32)
    spot[:, 2, 2] = 16
    source = Frame({"s0": spot}, np.zeros((5, 5), np.uint8), {"s0": "rgb"}, {"s0": True})
    blurred = Photometric(0.0, blur=1.0)(source, np.random.default_rng(0)).maps["s0"]
    np.testing.assert_array_equal(blurred[0, 1:4, 1:4], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    assert Photometric(0.0)(source, np.random.default_rng(0)).maps["s0"] is spot


# Missing and dead sensors


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.floats(0, 1), st.floats(0, 1), SEEDS, st.booleans())
def test_one_live_sensor_always_stays(
    present: list[bool], missing: float, zeroed: float, seed: int, missing_first: bool
) -> None:
    source = sensors(len(present), present=present)
    steps: list[Transform] = [RandomMissing(missing), RandomZeroed(zeroed)]
    result = Compose(steps if missing_first else steps[::-1])(source, np.random.default_rng(seed))
    assert all(before or not after for before, after in zip(present, result.present.values(), strict=True))
    assert len(result.live) >= (1 if any(present) else 0)
    for name, image in result.maps.items():
        assert image.any() == (name not in result.dead)


def test_missing_and_zeroed_rates() -> None:
    source = sensors(4)
    missing = [sum(RandomMissing(0.25)(source, np.random.default_rng(n)).present.values()) for n in range(2000)]
    zeroed = [len(RandomZeroed(0.25)(source, np.random.default_rng(n)).live) for n in range(2000)]
    # All four are hit in 0.4 % of the frames, where one stays; the mean's standard error is 0.02.
    assert np.mean(missing) == pytest.approx(3.004, abs=0.07)
    assert np.mean(zeroed) == pytest.approx(3.004, abs=0.07)


def test_with_certainty_one_of_all_stays() -> None:
    source = sensors(3)
    kept = {tuple(RandomMissing(1.0)(source, np.random.default_rng(n)).live) for n in range(50)}
    assert kept == {("s0",), ("s1",), ("s2",)}


# Arguments


def test_deterministic_part() -> None:
    nested = Compose([Resize(4), RandomFlip(), Compose([Resize((2, 3)), RandomMissing(0.1)])])
    assert deterministic_part(nested).transforms == [Resize(4), Resize((2, 3))]
    assert deterministic_part(RandomFlip()).transforms == []
    assert deterministic_part(None).transforms == []


@pytest.mark.parametrize("size", [0, -1, (4,), (4, 0), (4, 4, 4), (1.5, 2)])
def test_wrong_sizes(size: object) -> None:
    for kind in (Resize, RandomScaleCrop):
        with pytest.raises(ValueError, match=f"{kind.__name__}: size must be"):
            kind(size)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [(0, 1), (2, 1), (1,), (1, float("inf")), (float("nan"), 1)])
def test_wrong_scales(scale: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="RandomScaleCrop: scale must be"):
        RandomScaleCrop(4, scale)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_wrong_probabilities(value: float) -> None:
    for make in (RandomMissing, RandomZeroed, Photometric, lambda value: Photometric(blur=value)):
        with pytest.raises(ValueError, match="must be from 0 to 1, found"):
            make(value)
