"""Each degradation against its definition at the head of degradations.py: what it does, and how severe it may be."""

from __future__ import annotations

import numpy as np
import pytest
from degradation_draws import SEEDS, draws, picture, scan

from egformer_fast.data.degradations import FROM_ANOTHER, degrade


def test_noise_of_dense_kinds() -> None:
    image = np.full((3, 64, 64), 0.5, np.float32)
    image[:, 0, :2] = 0, 1
    results = draws("noise", 0.4 + 0.2 * image, "rgb")
    # So far from black and white, weak noise is hardly clipped: its spread is sigma.
    spreads = np.array([result.std() for result in results])
    assert 0.09 < spreads.min() < 0.12
    assert 0.35 < spreads.max() < 0.5  # sigma of 1 in a range of 1: most is clipped
    grey = np.mean([np.ptp(result, axis=0).max() < 1e-6 for result in results])
    assert 0.4 < grey < 0.6
    pure = np.mean(
        [
            abs(np.corrcoef(r.ravel(), picture(64, 64).ravel())[0, 1]) < 0.03
            for r in draws("noise", picture(64, 64), "sar")
        ]
    )
    assert 0.18 < pure < 0.33


def test_noise_of_sparse_kinds_is_points() -> None:
    image = scan(64, 64)
    results = draws("noise", image, "lidar")
    densities = np.array([(result != image).any(0).mean() for result in results])
    assert 0.03 < densities.min() < 0.08
    assert densities.max() > 0.9
    kept = [((result == image) & (image != 0)).sum() / (image != 0).sum() for result in results]
    assert 0.18 < np.mean(np.array(kept) == 0) < 0.33
    nothing = np.zeros((1, 32, 32), np.float32)
    assert all(result.any() and result.max() <= 1 for result in draws("noise", nothing, "lidar"))


def test_blur_of_a_point() -> None:
    spot = np.zeros((1, 97, 97), np.float32)
    spot[0, 48, 48] = 1
    lines, squares = [], []
    for result in draws("blur", spot, "rgb"):
        assert result.sum() == pytest.approx(1, abs=1e-4)
        rows, columns = np.nonzero(result[0])
        tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        if len(rows) == tall * wide and tall == wide:
            squares.append(tall)
        else:
            lines.append(len(rows))
            assert len(rows) <= 1.5 * max(tall, wide)
        assert abs(rows.mean() - 48) <= 0.5 and abs(columns.mean() - 48) <= 0.5
    assert (min(squares), max(squares)) == (3, 8)
    assert (min(lines), max(lines)) == (4, 12)
    assert 70 < len(squares) < 130
    flat = np.full((2, 20, 20), 0.3, np.float32)
    for result in draws("blur", flat, "rgb", 20):
        np.testing.assert_allclose(result, 0.3, rtol=1e-5)


def test_exposure_scales_the_light() -> None:
    ramp = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(1, 64, 64)
    gains = []
    for result in draws("overexposure", ramp, "rgb"):
        clipped = result == 1
        gain = (result[~clipped][1:] ** 2 / ramp[~clipped][1:] ** 2).mean()
        np.testing.assert_allclose(result, np.minimum(ramp * np.sqrt(gain), 1), atol=1e-4)
        gains.append(gain)
    assert 3 <= min(gains) + 1e-3 < 3.4 and 28 < max(gains) <= 32.01
    light = np.full((1, 64, 64), 0.8, np.float32)
    dark = draws("underexposure", light, "nir")
    levels = [np.square(result).mean() / 0.64 for result in draws("underexposure", light, "rgb")]
    assert 1 / 75 < min(levels) < 1 / 50 and 1 / 12 < max(levels) < 1 / 8
    assert all(0.005 < result.std() < 0.12 for result in dark)


def test_exposure_in_units_of_the_sensor() -> None:
    """Black is 0 where the sensor knows no less, else its least value; white its greatest."""
    image = picture()
    for name in ("overexposure", "underexposure"):
        for plain, scaled in zip(
            draws(name, image / image.max(), "nir", 10), draws(name, 50 * image / image.max(), "nir", 10), strict=True
        ):
            np.testing.assert_allclose(50 * plain, scaled, atol=1e-3)
        negative = image - 10
        assert all(result.min() >= negative.min() - 1e-5 for result in draws(name, negative, "nir", 10))


def test_a_channel_of_nothing_stays_black() -> None:
    image = picture()
    image[1] = 0
    for result in draws("overexposure", image, "nir", 10):
        assert np.isfinite(result).all() and not result[1].any()


def test_constant_values() -> None:
    image = picture()
    results = np.array(draws("constant", image, "rgb"))
    assert (results.std((2, 3)) < 1e-6).all()
    levels = results[:, :, 0, 0]
    for wanted in (np.zeros(3), np.ones(3), image.mean((1, 2))):
        assert 0.15 < np.isclose(levels, wanted, atol=1e-5).all(1).mean() < 0.35
    assert len(np.unique(levels.round(5))) > 60


def test_frozen_and_swapped_take_the_other_image() -> None:
    image, other = picture(), scan()
    for name in FROM_ANOTHER:
        np.testing.assert_array_equal(degrade(name, image, "rgb", np.random.default_rng(0), other), other)
    moved = degrade("frozen", image, "rgb", np.random.default_rng(0))
    assert not np.array_equal(moved, image)


def test_thinned_keeps_some_returns() -> None:
    image = scan(64, 63)
    lost, by_line = [], 0
    for result in draws("thinned", image, "lidar"):
        gone = ((image != 0) & (result == 0)).any(0)
        np.testing.assert_array_equal(result, np.where(gone, 0, image))
        lost.append(gone.sum() / image[0].astype(bool).sum())
        by_line += set(gone.sum(1)) == {0, 21}
    assert 0.6 <= min(lost) < 0.65 and 0.95 < max(lost) <= 1
    assert np.median(lost) == pytest.approx(0.79, abs=0.05)
    assert 70 < by_line < 130


def moves_of(name: str) -> set[tuple[int, int]]:
    """By how many pixels a picture of 101x201 was moved down and across, from what its middle shows then."""
    place = np.indices((101, 201)).astype(np.float32)
    results = [degrade(name, place, "sar", np.random.default_rng(seed)) for seed in SEEDS]
    for result in results:
        down, across = np.int64([50, 100]) - result[:, 50, 100].astype(int)
        rows, columns = np.clip(np.arange(101) - down, 0, 100), np.clip(np.arange(201) - across, 0, 200)
        np.testing.assert_array_equal(result, place[:, rows][:, :, columns])
    return {(50 - int(result[0, 50, 100]), 100 - int(result[1, 50, 100])) for result in results}


@pytest.mark.parametrize(("name", "least", "most"), [("shifted", 0.08, 0.25), ("frozen", 0.25, 0.5)])
def test_shifted_moves_the_image(name: str, least: float, most: float) -> None:
    moves = moves_of(name)
    down, across = np.array(list(moves)).T
    for steps, side in ((down, 101), (across, 201)):
        lengths = np.abs(steps[steps != 0]) / side
        assert least - 0.005 < lengths.min() < least + 0.02
        assert most - 0.02 < lengths.max() < most + 0.005
        assert steps.min() < 0 < steps.max()
    assert {(d != 0, a != 0) for d, a in moves} == {(True, True), (True, False), (False, True)}


def test_what_enters_at_the_edge() -> None:
    """A camera repeats its edge; a scanner has no returns there."""
    flat = np.full((2, 30, 30), 0.4, np.float32)
    assert all(np.array_equal(result, flat) for result in draws("shifted", flat, "rgb", 10))
    assert all(np.array_equal(result, flat) for result in draws("shifted", flat, "depth", 10))
    for result in draws("shifted", flat, "lidar", 10):
        assert set(np.unique(result)) == {np.float32(0), np.float32(0.4)}


def test_jitter_scatters_returns() -> None:
    spot = np.zeros((2, 170, 85), np.float32)
    spot[:, 85, 42], spot[:, 0, 0] = 0.5, 1
    moves, values = [], []
    for result in draws("jitter", spot, "lidar"):
        around = result[:, 60:110, 20:65]
        row, column = np.argwhere(around.any(0))[0]
        moves.append((row - 25, column - 22))
        values += [*around[:, row, column]]
    down, across = np.array(moves).T
    assert 1.7 < down.std() < 3.2 and 0.9 < across.std() < 1.7  # of sides of 170 and 85 pixels
    assert 0.03 < np.std(values) / 0.5 < 0.07
    assert len(set(np.round(values, 5))) > 300
    assert np.mean(values) == pytest.approx(0.5, abs=0.01)
    dense = scan(128, 128)
    for result in draws("jitter", dense, "lidar", 20):
        assert 0.6 < (result != 0).sum() / (dense != 0).sum() <= 1


def test_lowres_is_the_mean_of_blocks() -> None:
    image = picture(40, 43, 2)
    blocks = set()
    for result in draws("lowres", image, "event", 60):
        widths = np.flatnonzero(np.diff(result, axis=2).any((0, 1)))
        block = int(widths[0]) + 1
        blocks.add(block)
        rows, columns = np.arange(40) // block, np.arange(43) // block
        for row, column in ((0, 0), (1, 2), (40 // block - 1, 43 // block - 1)):
            inside = (rows == row)[:, None] & (columns == column)
            np.testing.assert_allclose(result[:, inside].T - image[:, inside].mean(1), 0, atol=1e-6)
    assert blocks == set(range(3, 9))
