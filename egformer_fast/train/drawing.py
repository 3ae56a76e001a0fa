"""Pillow building blocks of the pictures: coloured labels, overlays, score panels, legends, rows of tiles.

Pillow alone, so that a training run draws its grids without matplotlib, and fast enough to do so at every evaluation.
Images are uint8 (H, W, 3) arrays or PIL images in RGB; labels are integer (H, W) arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Array = NDArray[np.generic]
Picture = Image.Image
Color = tuple[int, int, int]

PAPER: Color = (255, 255, 255)
INK: Color = (28, 30, 36)
MUTED: Color = (112, 117, 128)
LINE: Color = (218, 221, 227)
KEPT: Color = (32, 106, 194)
DROPPED: Color = (188, 194, 204)
HATCH: tuple[Color, Color] = ((236, 237, 240), (214, 216, 222))


@lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def clipped(text: str, size: int, width: float) -> str:
    """The text, cut with dots to at most `width` pixels."""
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def hatch(height: int, width: int) -> Array:
    """uint8 (H, W, 3): the diagonal stripes that stand for "nothing here"."""
    stripe = max(2, min(height, width) // 24)
    rows, columns = np.indices((height, width))
    return np.array(HATCH, dtype=np.uint8)[(rows + columns) // stripe % 2]


def colored(label: Array, palette: Array, ignore_index: int = 255) -> Array:
    """Label (H, W) -> its colours, uint8 (H, W, 3); ignored pixels are hatched."""
    inside = label != ignore_index
    image = hatch(*label.shape)
    image[inside] = palette[label[inside]]
    return image


def overlay(image: Array, label: Array, palette: Array, ignore_index: int = 255, opacity: float = 0.45) -> Array:
    """The image tinted by the label's colours, uint8 (H, W, 3), with full colour along the borders of regions."""
    inside = label != ignore_index
    border = np.zeros_like(inside)
    for axis in (0, 1):
        change = np.diff(label.astype(np.int64), axis=axis) != 0
        border |= np.pad(change, [(0, 1) if axis == other else (0, 0) for other in (0, 1)])
        border |= np.pad(change, [(1, 0) if axis == other else (0, 0) for other in (0, 1)])
    alpha = np.where(border, 1.0, opacity)[..., None] * inside[..., None]
    tint = np.zeros_like(image)
    tint[inside] = palette[label[inside]]
    return np.rint(alpha * tint + (1 - alpha) * image).astype(np.uint8)


def palette_png(label: Array, palette: Array) -> Picture:
    """A palette-mode image whose pixel values are the class numbers; 255 (ignore) shows as light grey.

    Raises:
        ValueError: more than 255 classes do not fit 8 bits beside the ignore index.
    """
    if len(palette) > 255:
        raise ValueError(f"label PNG: {len(palette)} classes, an 8-bit image holds 255 and the ignore index")
    colors = np.full((256, 3), 0, dtype=np.uint8)
    colors[: len(palette)], colors[255] = palette, HATCH[0]
    image = Image.fromarray(label.astype(np.uint8))
    image.putpalette(colors.tobytes())
    return image


def tile(image: Array, size: tuple[int, int], smooth: bool = True) -> Picture:
    """The image scaled to (width, height) with a thin frame; smooth=False for label colours."""
    picture = Image.fromarray(image)
    if smooth:
        picture = picture.resize(
            size, Image.Resampling.LANCZOS if size[0] < picture.width else Image.Resampling.BICUBIC
        )
    else:
        picture = picture.resize(size, Image.Resampling.NEAREST)
    ImageDraw.Draw(picture).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=LINE)
    return picture


def empty_tile(size: tuple[int, int], note: str) -> Picture:
    """A hatched tile with a word in the middle: "missing", "no label"."""
    picture = tile(hatch(size[1], size[0]), size, smooth=False)
    ImageDraw.Draw(picture).text(
        (size[0] / 2, size[1] / 2),
        note,
        INK,
        font(max(11, size[0] // 14)),
        anchor="mm",
        stroke_width=2,
        stroke_fill=HATCH[0],
    )
    return picture


def score_panel(
    size: tuple[int, int], sensors: Sequence[str], score: Array, kept: Array, present: Array, text: int = 12
) -> Picture:
    """One row a sensor, one column a stage: a bar of the score 0..1, blue where the sensor was kept, else grey.

    score: (stages, S), NaN where the sensor was not scored (nothing is drawn). kept: (stages, S) bool. present: (S,)
    bool.
    """
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    width, height = size
    names = min(width * 0.34, max((font(text).getlength(name) for name in sensors), default=0) + text)
    stages = range(len(score))
    cell = (width - names) / max(1, len(score))
    top = text * 1.8
    row = min((height - top) / max(1, len(sensors)), text * 4.2)
    for stage in stages:
        draw.text((names + cell * (stage + 0.46), top / 2), f"stage {stage + 1}", MUTED, font(text), anchor="mm")
    for number, name in enumerate(sensors):
        middle = top + row * (number + 0.5)
        draw.text((0, middle), clipped(name, text, names - 4), INK, font(text), anchor="lm")
        if not present[number]:
            draw.text((names, middle), "missing", MUTED, font(text), anchor="lm")
        for stage in stages:
            _bar(
                draw,
                (names + cell * stage, middle),
                (cell * 0.92, row),
                score[stage, number],
                kept[stage, number],
                text,
            )
    return picture


def _bar(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], size: tuple[float, float], score: float, kept: bool, text: int
) -> None:
    """at: left end and middle; size: of the cell. The number stands above the bar where there is room for it."""
    if not math.isfinite(score):
        return
    (left, middle), (width, height) = at, size
    numbered = height >= text * 1.9
    thick = max(3.0, min(text * 0.6, height * 0.5))
    top = middle + (text * 0.25 if numbered else -thick / 2)
    draw.rectangle((left, top, left + width, top + thick), fill=(240, 241, 244))
    draw.rectangle((left, top, left + max(1.0, width * score), top + thick), fill=KEPT if kept else DROPPED)
    if numbered:
        draw.text((left, top - 3), f"{score:.2f}", KEPT if kept else MUTED, font(max(9, text - 1)), anchor="ls")


def legend(width: int, names: Sequence[str], colors: Sequence[Color], text: int = 12) -> Picture:
    """Colour patches with names, in as many lines as they need."""
    places, left, line = [], 0.0, 0
    for name in names:
        needed = text * 2.6 + font(text).getlength(name)
        if left and left + needed > width:
            left, line = 0.0, line + 1
        places.append((left, line))
        left += needed
    step = text * 1.8
    picture = Image.new("RGB", (width, math.ceil(step * (line + 1))), PAPER)
    draw = ImageDraw.Draw(picture)
    for (left, line), name, color in zip(places, names, colors, strict=True):
        middle = step * (line + 0.5)
        draw.rectangle((left, middle - text / 2, left + text, middle + text / 2), fill=color, outline=LINE)
        draw.text((left + text * 1.4, middle), name, INK, font(text), anchor="lm")
    return picture


@dataclass(frozen=True)
class Row:
    """Pictures side by side, a title above each, a heading above all; empty texts take no space."""

    pictures: Sequence[Picture]
    titles: Sequence[str] = ()
    heading: str = ""


def compose(rows: Sequence[Row], text: int = 12, gap: int = 6, margin: int = 12) -> Picture:
    """Stack rows on white paper."""
    above = [(text * 1.7 if row.heading else 0) + (text * 1.6 if row.titles else 0) for row in rows]
    heights = [
        math.ceil(top + max(picture.height for picture in row.pictures)) + gap
        for top, row in zip(above, rows, strict=True)
    ]
    widths = [sum(picture.width + gap for picture in row.pictures) - gap for row in rows]
    page = Image.new("RGB", (max(widths) + 2 * margin, sum(heights) - gap + 2 * margin), PAPER)
    draw = ImageDraw.Draw(page)
    top = margin
    for row, space, height in zip(rows, above, heights, strict=True):
        if row.heading:
            draw.text((margin, top + text * 0.8), clipped(row.heading, text, max(widths)), INK, font(text), anchor="lm")
        left = margin
        for number, picture in enumerate(row.pictures):
            if row.titles:
                title = clipped(row.titles[number], text, picture.width)
                draw.text((left, top + space - text * 0.8), title, MUTED, font(text), anchor="lm")
            page.paste(picture, (left, top + math.ceil(space)))
            left += picture.width + gap
        top += height
    return page
