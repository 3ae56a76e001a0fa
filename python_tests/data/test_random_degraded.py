"""RandomDegraded: which sensors it hits, what it tells of them, and where it takes other frames from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egformer_fast.data import Compose, Frame, RandomDegraded, RandomFlip, RandomMissing, RandomScaleCrop, RandomZeroed
from egformer_fast.data.degradations import applicable, degrade
from egformer_fast.data.modality import KINDS

SEEDS = st.integers(0, 2**32 - 1)


def sensors(kinds: Sequence[str], size: tuple[int, int] = (16, 16), seed: int = 0, value: float | None = None) -> Frame:
    """Sensors s0, s1, ... of random values in 0.2..0.8, or all of one value."""
    rng = np.random.default_rng(seed)
    names = [f"s{number}" for number in range(len(kinds))]
    maps = {name: rng.uniform(0.2, 0.8, (3, *size)).astype(np.float32) for name in names}
    maps = maps if value is None else {name: np.full_like(image, value) for name, image in maps.items()}
    return Frame(maps, np.zeros(size, np.uint8), dict(zip(names, kinds, strict=True)), dict.fromkeys(names, True))


def drawn(frame: Frame, p: float = 1.0, seed: int = 0) -> Frame:
    return RandomDegraded(p)(frame, np.random.default_rng(seed))


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.booleans()), min_size=1, max_size=5), st.floats(0, 1), SEEDS)
def test_the_last_clean_sensor_stays(sensor_list: list[tuple[str, bool]], p: float, seed: int) -> None:
    kinds, here = zip(*sensor_list, strict=True)
    source = replace(sensors(kinds, seed=seed), other=lambda rng: sensors(kinds, seed=int(rng.integers(1000))))
    source = replace(source, present=dict(zip(source.maps, here, strict=True)))
    result = drawn(source, p, seed)
    assert result.present == source.present and result.dead == source.dead
    assert result.degraded <= set(source.live)
    assert not source.live or result.clean
    for name, image in result.maps.items():
        assert (image.shape, image.dtype) == (source.maps[name].shape, np.float32)
        assert np.isfinite(image).all()
        assert np.array_equal(image, source.maps[name]) == (name not in result.degraded)


def test_never_and_always() -> None:
    source = sensors(["rgb", "sar", "nir", "depth"])
    for seed in range(20):
        never, always = drawn(source, 0, seed), drawn(source, 1, seed)
        assert not never.degraded and all(never.maps[name] is source.maps[name] for name in source.maps)
        assert len(always.degraded) == 3
    assert {drawn(source, 1, seed).clean[0] for seed in range(60)} == {"s0", "s1", "s2", "s3"}
    assert all(not drawn(sensors(["rgb"]), 1, seed).degraded for seed in range(20))


def test_share_of_the_sensors() -> None:
    source = sensors(["rgb", "sar", "nir", "thermal"])
    hit = [len(drawn(source, 0.3, seed).degraded) for seed in range(1000)]
    assert np.mean(hit) == pytest.approx(4 * 0.3 - 0.3**4, abs=0.12)


def test_sensors_that_were_degraded_before_are_left_and_counted() -> None:
    """A frame of a known failure has one clean sensor less."""
    source = replace(sensors(["rgb", "sar", "nir"]), degraded=frozenset({"s0"}))
    for seed in range(40):
        result = drawn(source, 1, seed)
        assert result.maps["s0"] is source.maps["s0"]
        assert result.degraded in ({"s0", "s1"}, {"s0", "s2"})
    all_degraded = replace(source, degraded=frozenset(source.maps))
    assert drawn(all_degraded).maps == source.maps


def test_missing_and_dead_sensors_are_left() -> None:
    source = sensors(["rgb", "sar", "nir", "thermal"])
    source = replace(source, present={**source.present, "s1": False}, dead=frozenset({"s2"}))
    for seed in range(40):
        result = drawn(source, 1, seed)
        assert result.maps["s1"] is source.maps["s1"] and result.maps["s2"] is source.maps["s2"]
        assert result.degraded in ({"s0"}, {"s3"})


def test_the_same_generator_gives_the_same_frame() -> None:
    source = replace(sensors(["rgb", "lidar", "event"]), other=lambda rng: sensors(["rgb", "lidar", "event"], seed=5))
    steps = Compose([RandomScaleCrop(12), RandomFlip(), RandomMissing(0.2), RandomDegraded(0.5), RandomZeroed(0.2)])
    one, two, third = (steps(source, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (one.degraded, one.dead) == (two.degraded, two.dead)
    for name in source.maps:
        np.testing.assert_array_equal(one.maps[name], two.maps[name])
    assert not all(np.array_equal(one.maps[name], third.maps[name]) for name in source.maps)


@pytest.mark.parametrize("kind", KINDS)
def test_all_ways_of_a_kind_are_drawn_evenly(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    noted = lambda name, *rest: seen.append(name) or degrade(name, *rest)  # noqa: E731
    monkeypatch.setattr("egformer_fast.data.random_degraded.degrade", noted)
    source = sensors([kind, kind])
    with_other = replace(source, other=lambda rng: sensors([kind, kind], seed=1))
    for seed in range(400):
        drawn(with_other, 1, seed)
    shares = {name: seen.count(name) / 400 for name in seen}
    assert set(shares) == set(applicable(kind))
    assert all(abs(share - 1 / len(shares)) < 0.08 for share in shares.values())
    seen.clear()
    for seed in range(200):
        drawn(source, 1, seed)
    assert set(seen) == set(applicable(kind)) - {"frozen", "swapped"}


def swapped_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every kind: half of the draws are swapped, half constant."""
    monkeypatch.setattr("egformer_fast.data.random_degraded.applicable", lambda kind: ("swapped", "constant"))


@pytest.mark.parametrize("kind", ["sar", "lidar"])
def test_another_frame_is_resized(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    swapped_only(monkeypatch)
    other = sensors([kind, kind], (8, 8), seed=3)
    source = replace(sensors([kind, kind]), other=lambda rng: other)
    enlarged = other.maps["s0"].repeat(2, 1).repeat(2, 2)
    results = [drawn(source, 1, seed).maps["s0"] for seed in range(40)]
    exact = [np.array_equal(image, enlarged) for image in results]
    near = [np.abs(image - enlarged).mean() < 0.15 and image.std() > 0.05 for image in results]
    # Returns of a scanner are never mixed; one stays clean in half of the frames, half of the rest are constant.
    assert any(exact) == (kind == "lidar")
    assert 3 < sum(near) < 20


def test_where_the_other_frame_lacks_the_sensor_another_way_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    swapped_only(monkeypatch)
    other = sensors(["rgb", "rgb"], seed=3)
    for poor in (replace(other, present={"s0": False, "s1": False}), replace(other, dead=frozenset({"s0", "s1"}))):
        source = replace(sensors(["rgb", "rgb"]), other=lambda rng, poor=poor: poor)
        for seed in range(20):
            result = drawn(source, 1, seed)
            assert all(result.maps[name].std((1, 2)).max() < 1e-6 for name in result.degraded)


def test_padding_stays() -> None:
    source = RandomScaleCrop(16, (0.5, 0.5))(sensors(["rgb", "lidar"]), np.random.default_rng(1))
    assert source.padding is not None and source.padding.mean() > 0.5
    for seed in range(40):
        result = drawn(source, 1, seed)
        assert all(not image[:, source.padding].any() for image in result.maps.values())


def test_what_changed_nothing_is_no_degradation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egformer_fast.data.random_degraded.applicable", lambda kind: ("thinned",))
    assert not drawn(sensors(["lidar", "lidar"], value=0.0)).degraded
    assert len(drawn(sensors(["lidar", "lidar"], value=0.5)).degraded) == 1


def test_the_frame_given_is_not_written_to() -> None:
    kinds = ["rgb", "lidar", "event", "depth", "thermal"]
    other, source, same = sensors(kinds, seed=2), sensors(kinds), sensors(kinds)
    for seed in range(60):
        result = drawn(replace(source, other=lambda rng: other), 1, seed)
        for name in result.degraded:
            result.maps[name][:] = 9
    for name in source.maps:
        np.testing.assert_array_equal(source.maps[name], same.maps[name])
        np.testing.assert_array_equal(other.maps[name], sensors(kinds, seed=2).maps[name])


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_wrong_probabilities(p: float) -> None:
    with pytest.raises(ValueError, match="RandomDegraded: p must be from 0 to 1, found"):
        RandomDegraded(p)
