"""Bar charts checked by their pixels."""

from __future__ import annotations

import numpy as np
import pytest

from egformer_fast.train.drawing import MUTED, Picture
from egformer_fast.train.plots import SERIES, bar_chart


def bars(picture: Picture, color: tuple[int, ...]) -> list[int]:
    """Lengths of the bars of a colour, from top to bottom; not the patch of the legend."""
    lengths = (np.asarray(picture) == np.array(color)).all(-1).sum(1)
    starts = [y for y in range(1, len(lengths)) if lengths[y] and not lengths[y - 1]]
    return [int(lengths[y + 3]) for y in starts if lengths[y + 3] > 15]


def test_bars_are_as_long_as_their_values() -> None:
    picture = bar_chart("a chart", [("one", [0.25, None]), ("two", [1.0, 0.5])], ["first", "second"])
    quarter, whole = bars(picture, SERIES[0])
    (half,) = bars(picture, SERIES[1])
    assert whole == pytest.approx(4 * quarter, abs=4)
    assert whole == pytest.approx(2 * half, abs=4)


def test_small_values_have_the_width_too() -> None:
    full, small, marked = (
        bars(bar_chart("a chart", [("one", [value])], ["first"], mark), SERIES[0])[0]
        for value, mark in ((1.0, None), (0.1, None), (0.1, 0.2))
    )
    assert small == full
    assert marked == pytest.approx(full / 2, abs=2)


def test_a_mark_goes_through_all_rows() -> None:
    rows = [(f"row {number}", [0.1]) for number in range(20)]
    plain, marked = (bar_chart("a chart", rows, ["only"], mark) for mark in (None, 0.5))
    assert plain.height == marked.height > 20 * 13
    grey = [(np.asarray(picture) == np.array(MUTED)).all(-1).sum(0).max() for picture in (plain, marked)]
    assert grey[1] > 20 * 13 > grey[0]


def test_rows_that_do_not_fit_the_series() -> None:
    with pytest.raises(ValueError, match="bar_chart: wanted rows of 2 values, no more than 3"):
        bar_chart("a chart", [("one", [0.5])], ["first", "second"])
