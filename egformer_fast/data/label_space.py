"""Label spaces: classes that several data sets share, and how each set's own classes become theirs.

A file label_spaces/NAME.yaml has `classes`, `palette` and `from`: source space -> {source class: class}. Source classes
that are not listed become IGNORE, so that two sets are trained and scored on what both of them label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from egformer_fast.errors import DataError
from egformer_fast.yaml_file import read_yaml

from .label import IGNORE, Label, read_classes, read_palette
from .section import Section, nearest

SPACES = Path(__file__).parent / "label_spaces"


@dataclass(frozen=True)
class LabelSpace:
    """palette: (num_classes, 3) uint8. sources: source space -> {source class: class}, by name."""

    name: str
    classes: tuple[str, ...]
    palette: np.ndarray
    sources: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Mapped:
    """Labels of one space in the classes of another.

    ignored: source classes without a counterpart, or void in the description already. empty: classes of the space that
    no label becomes.
    """

    label: Label
    space: LabelSpace
    ignored: tuple[str, ...]
    empty: tuple[str, ...]


def known_spaces() -> list[str]:
    """Names of the label spaces that come with the package."""
    return sorted(path.stem for path in SPACES.glob("*.yaml"))


def load_space(name: str) -> LabelSpace:
    """A label space by its name. Raises DataError for an unknown one, with the known ones."""
    if name not in known_spaces():
        raise DataError(f"no label space '{name}'; {nearest(name, known_spaces())}")
    path = SPACES / f"{name}.yaml"
    top = Section(read_yaml(path, "label space", DataError), str(path), "", ("classes", "palette", "from"))
    classes = read_classes(top)
    tables = top.sub("from")
    sources = {source: _table(tables, source, classes) for source in tables.raw}
    return LabelSpace(name, classes, read_palette(top, len(classes)), sources)


def map_labels(label: Label, classes: tuple[str, ...], name: str) -> Mapped:
    """Labels of a described data set, in the label space `name`.

    Args:
        label: of a description that says its own space (`label.space`). classes: of the same description.

    Raises DataError: an unknown space, labels that do not say theirs, or two spaces without a mapping.
    """
    space = load_space(name)
    if label.space is None:
        raise DataError(f"labels can be mapped to '{name}' only where `label.space` says which space they are in")
    sources = {**space.sources, name: {own: own for own in space.classes}}
    if label.space not in sources:
        raise DataError(
            f"label space '{name}' has no mapping from '{label.space}'; {nearest(label.space, list(sources))}"
        )
    table = sources[label.space]
    strangers = [source for source in table if source not in classes]
    if strangers:
        raise DataError(f"label space '{label.space}' has a class '{strangers[0]}', which the data set does not have")
    numbers = [space.classes.index(table[source]) if source in table else IGNORE for source in classes]
    values = {value: IGNORE if number == IGNORE else numbers[number] for value, number in label.values.items()}
    kept, filled = set(label.values.values()), set(values.values())
    return Mapped(
        Label(label.path, values, label.channel, label.optional, name),
        space,
        tuple(source for number, source in enumerate(classes) if number not in kept or source not in table),
        tuple(own for number, own in enumerate(space.classes) if number not in filled),
    )


def _table(tables: Section, source: str, classes: tuple[str, ...]) -> dict[str, str]:
    section = tables.sub(source)
    return {name: str(section.choice(name, classes)) for name in section.raw}
