"""Rare-class sampling: the probabilities, the frames and the crops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from egformer_fast.errors import DataError
from egformer_fast.train.adapt.rare_classes import (
    CROPS,
    RareClassFrames,
    RareClassStream,
    class_probability,
    eligible_frames,
    few_frames,
    pixels_of,
)

# Class 1 in every frame, class 0 in the last, class 2 in none.
COUNTS = np.array([[0, 100, 0]] * 9 + [[40, 60, 0]])


def test_probabilities_follow_the_softmax_of_one_minus_the_share() -> None:
    found = class_probability(COUNTS, 0.5)
    share = np.array([0.04, 0.96])
    wanted = np.exp((1 - share) / 0.5)
    np.testing.assert_allclose(found, [*(wanted / wanted.sum()), 0])


def test_a_cold_softmax_does_not_overflow() -> None:
    np.testing.assert_allclose(class_probability(COUNTS, 0.001), [1, 0, 0])


def test_nothing_labelled_is_refused() -> None:
    with pytest.raises(DataError, match="no pixel of the split is labelled"):
        class_probability(np.zeros((3, 2), np.int64), 0.1)


def stream(start: int = 0, rank: int = 0, pixels: int = 10) -> RareClassStream:
    return RareClassStream(COUNTS, pixels, 0.5, 4, seed=1, start=start, rank=rank)


def test_a_frame_is_drawn_for_a_class_that_it_has() -> None:
    keys = [key for batch in islice(stream(), 200) for key in batch]
    assert all(COUNTS[frame, wanted] >= 10 for _, frame, wanted in keys)
    rare = np.mean([wanted == 0 for _, _, wanted in keys])
    assert rare == pytest.approx(class_probability(COUNTS, 0.5)[0], abs=0.05)


def test_where_no_frame_has_enough_the_tenth_with_most_is_drawn() -> None:
    keys = [key for batch in islice(stream(pixels=10_000), 50) for key in batch]
    assert {frame for _, frame, wanted in keys if wanted == 0} == {9}
    rising = np.arange(41)[:, None]
    assert [list(frames) for frames in eligible_frames(rising, 100)] == [[37, 38, 39, 40]]
    assert [list(frames) for frames in eligible_frames(rising, 40)] == [[40]]
    assert [list(frames) for frames in eligible_frames(np.zeros((4, 1), np.int64), 1)] == [[]]


def test_classes_that_few_frames_have_enough_of_are_named() -> None:
    names = ("train", "road", "wall")
    assert few_frames(COUNTS, 40, names).endswith("few frames have 40 pixels (adapt.rare_pixels) of: train 1")
    assert few_frames(COUNTS, 70, names).endswith("of: train 0 (drawn from the 1 with most), road 9")
    assert few_frames(np.tile(COUNTS, (10, 1)), 10, names) == ""


def test_a_frame_must_have_twice_what_a_crop_must_have() -> None:
    """The published figures: 3000 pixels of a frame, 1500 of a crop of 512x512."""
    assert pixels_of(1500 / 512**2, COUNTS, [512, 512]) == 3000
    assert pixels_of(0.05, COUNTS, None) == 10
    assert pixels_of(0.0, COUNTS, None) == 1


def test_a_stream_goes_on_where_it_stopped_and_ranks_differ() -> None:
    whole = list(islice(stream(), 6))
    assert list(islice(stream(start=4), 2)) == whole[4:]
    assert list(islice(stream(rank=1), 6)) != whole


class Crops:
    """Each draw is a label of which a share, drawn too, is class 3."""

    def __init__(self) -> None:
        self.drawn: list[float] = []

    def samples(self, index: int, rngs: Iterable[np.random.Generator]) -> Iterator[dict[str, Any]]:
        for rng in rngs:
            count = int(rng.integers(0, 10))
            self.drawn.append(count / 100)
            label = torch.zeros(100, dtype=torch.int64)
            label[:count] = 3
            yield {"label": label}


@pytest.mark.parametrize("draw", range(20))
def test_the_first_crop_with_enough_of_the_class_is_taken(draw: int) -> None:
    crops = Crops()
    found = RareClassFrames(crops, 0, 0.05)[draw, 0, 3]
    share = float((found["label"] == 3).float().mean())
    assert share == pytest.approx(crops.drawn[-1] if share >= 0.05 else max(crops.drawn))
    assert all(earlier < 0.05 for earlier in crops.drawn[:-1])
    assert len(crops.drawn) <= CROPS


def test_without_such_a_crop_the_one_with_most_is_taken() -> None:
    crops = Crops()
    found = RareClassFrames(crops, 0, 0.5)[0, 0, 3]
    assert len(crops.drawn) == CROPS
    assert float((found["label"] == 3).float().mean()) == pytest.approx(max(crops.drawn))
