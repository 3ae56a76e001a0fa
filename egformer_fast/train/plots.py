"""Bar charts by Pillow: shares, one row a thing that was measured, one bar a series."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from egformer_fast.train.drawing import INK, KEPT, LINE, MUTED, PAPER, Color, Picture, clipped, font, legend

SERIES: tuple[Color, ...] = (KEPT, (226, 133, 36), (76, 153, 98))
TEXT = 13


def bar_chart(
    title: str,
    rows: Sequence[tuple[str, Sequence[float | None]]],
    series: Sequence[str],
    mark: float | None = None,
    width: int = 900,
) -> Picture:
    """Horizontal bars under a title and a legend, each with its number, on an axis from 0 to the next tenth.

    Args:
        rows: (name, a value in [0, 1] for each series, None where there is none).
        series: their names, at most as many as SERIES has colours.
        mark: where a vertical line goes, behind the bars.

    Raises:
        ValueError: more series than colours, or a row of another length.
    """
    if len(series) > len(SERIES) or any(len(values) != len(series) for _, values in rows):
        raise ValueError(f"bar_chart: wanted rows of {len(series)} values, no more than {len(SERIES)}")
    names = min(width // 2, int(max((font(TEXT).getlength(name) for name, _ in rows), default=0)) + TEXT)
    key = legend(width, series, SERIES[: len(series)], TEXT)
    above = int(TEXT * 2.2) + key.height
    step = TEXT * len(series) + TEXT // 2
    height = above + len(rows) * step + TEXT * 2
    picture = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((0, TEXT), title, INK, font(TEXT + 2), anchor="lm")
    picture.paste(key, (0, int(TEXT * 2.2)))
    largest = max((value for _, values in rows for value in values if value is not None), default=0)
    tenths = max(1, math.ceil(10 * max(largest, mark or 0)))
    scale = (width - names - TEXT * 4) * 10 / tenths  # room for the number of the longest bar
    for tick in range(0, tenths + 1, 1 if tenths <= 5 else 2):
        at = names + scale * tick / 10
        draw.line((at, above, at, height - TEXT * 2), fill=LINE)
        draw.text((at, height - TEXT), f"{tick / 10:g}", MUTED, font(TEXT - 2), anchor="mm")
    if mark is not None:
        draw.line((names + scale * mark, above, names + scale * mark, height - TEXT * 2), fill=MUTED)
    for number, (name, values) in enumerate(rows):
        top = above + TEXT / 4 + number * step
        draw.text((0, top + TEXT * len(series) / 2), clipped(name, TEXT, names - 6), INK, font(TEXT), anchor="lm")
        _bars(draw, (names, top), values, scale)
    return picture


def _bars(draw: ImageDraw.ImageDraw, at: tuple[float, float], values: Sequence[float | None], scale: float) -> None:
    """The bars of a row, one under the other. at: left end and top of the first."""
    left, top = at
    for number, (value, color) in enumerate(zip(values, SERIES, strict=False)):
        if value is not None:
            upper, right = top + number * TEXT, left + scale * value
            draw.rectangle((left, upper + 1, right, upper + TEXT - 2), fill=color)
            end, small = (right + 5, upper + TEXT / 2), font(TEXT - 2)
            draw.text(end, f"{value:.3f}", INK, small, anchor="lm", stroke_width=2, stroke_fill=PAPER)
