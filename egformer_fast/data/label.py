"""The label files, classes and colours of a data set: `label` and `palette` of a description (see description.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .modality import read_template
from .section import Section

IGNORE = 255


@dataclass(frozen=True)
class Label:
    """The label files. `values` maps every allowed file value to its class, or to IGNORE. `space`: the name of the
    label space of the classes (see label_space.py)."""

    path: str
    values: Mapping[int, int]
    channel: int | None
    optional: bool
    space: str | None = None


def read_classes(top: Section) -> tuple[str, ...]:
    """The names under `classes`."""
    classes = tuple(top.texts("classes"))
    if not 1 <= len(classes) <= IGNORE or len(set(classes)) != len(classes):
        raise top.error("classes", f"wanted 1 to {IGNORE} distinct names", list(classes))
    return classes


def read_label_section(top: Section, num_classes: int) -> Label:
    section = top.sub("label", ("path", "values", "offset", "ignore", "channel", "optional", "space", "map_to"))
    if section.has("values") and section.has("offset"):
        raise section.error("offset", "wanted either values or offset, not both", section.raw["offset"])
    if section.has("values"):
        values = section.integer_map("values")
        ignore = section.integers("ignore", ())
    else:
        offset = section.integer("offset", 0)
        ignore = section.integers("ignore", (IGNORE,))
        values = {c - offset: c for c in range(num_classes) if c - offset not in ignore}
    for value, target in values.items():
        if not 0 <= target < num_classes:
            raise section.error("values", f"class of file value {value} must be 0 to {num_classes - 1}", target)
        if value in ignore:
            raise section.error("ignore", "this file value has a class as well", value)
    values |= dict.fromkeys(ignore, IGNORE)
    if not values:
        raise section.error("values", "wanted at least one file value", values)
    if any(not -(2**15) <= value < 2**16 for value in values):
        raise section.error("values", "wanted file values from -32768 to 65535", sorted(values))
    channel = section.integer("channel", None)
    return Label(read_template(section), values, channel, section.flag("optional", False), section.text("space", None))


def read_palette(top: Section, num_classes: int) -> np.ndarray:
    if not top.has("palette"):
        return default_palette(num_classes)
    rows = top.raw["palette"]
    good = isinstance(rows, list) and all(
        isinstance(row, list) and len(row) == 3 and all(type(v) is int and 0 <= v <= 255 for v in row) for row in rows
    )
    if not good or len(rows) != num_classes:
        raise top.error("palette", f"wanted {num_classes} colours [r, g, b] of 0 to 255, one a class", rows)
    return np.array(rows, np.uint8)


def default_palette(num_classes: int) -> np.ndarray:
    """(num_classes, 3) uint8, distinct: the bits of the class number + 1 dealt out to r, g, b, high bits first."""
    number = np.arange(1, num_classes + 1)[:, None]
    channel = np.arange(3)
    bits = [((number >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)]
    return np.sum(bits, axis=0).astype(np.uint8)
