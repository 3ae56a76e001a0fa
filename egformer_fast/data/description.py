"""What a `dataset.yaml` says, checked before any image is opened.

    extends: deliver                       start from a shipped description, or from another file (see sources.py)
    name: ombria                           default: the file's name
    root_env: OMBRIA_ROOT                  environment variable with the root folder (optional)
    root: ../data                          used without it, relative to this file (optional; else this file's folder)
    modalities:                            in this order
      s2:
        path: "S2/{split}/{condition}/S2_{id}.png"     {id} may span folders, {condition} is one folder
        kind: rgb                          one of KINDS; sparse kinds are never interpolated
        channels: 3                        default 3 for rgb, else as many as are selected, or 1; one in a file fills 3
        scale: 255                         file values are divided by it (default: uint8 255, uint16 65535, else 1)
        shift: 100                         then subtracted (default 0)
        mean: [0.5, 0.5, 0.5]              after scaling; default ImageNet for rgb, else 0
        std: [0.2, 0.2, 0.2]               default ImageNet for rgb, else 1
        optional: true                     an absent file is a missing sensor (default false: an error)
        resize: nearest                    nearest or bilinear: where its files have another size than the label
        select: [3]                        channels of the file, from 0, alpha included (default: all but alpha)
        parts: [before, after]             files that {part} in the path gives, with equal shares of the channels
        angle: once                        kind aolp: the files hold sin and cos of the angle of polarisation (once), or
                                           of twice the angle (twice); two channels, read as the latter
        project: {format: points, ...}     raw recordings, projected into the picture (see raw/projection.py)
    label:
      path: "mask/{split}/{condition}/{id}.png"
      values: {0: 0, 255: 1}               file value -> class;  or  offset: -1  (class = file value + offset)
      ignore: [0, 255]                     file values that become IGNORE (default: 255 where `values` is not given)
      channel: 0                           which channel of a label file that has several
      optional: false                      true: a frame without label file is all IGNORE
      space: deliver25                     the label space that the classes are (see label_space.py)
      map_to: cityscapes19                 read labels in the classes of this space instead; `classes` stay the files'
    classes: [dry, flood]                              default: those of the label space that `label.space` names
    palette: [[200, 180, 120], [30, 100, 220]]         default: generated
    cut: {left: 192}                                   pixels to leave out of every file: left, right, top, bottom
    cases: [motionblur, lidarjitter]                   a frame is of the first case whose word its {id} holds; or
    cases: {day: D, night: N}                          name of the case: word
    failing: {lidarjitter: lidar}                      case: the modality that fails in its frames
    splits:
      train_all: train                     the folder that {split} stands for (null: the split's own name)
      test: {folder: test, list: lists/test.txt}       frame names from a file under the root, one a line; or paths of
                                                       a frame's files, as the templates have them; with
                                                       `skip: _flip`, lines that end so are left out
      hidden: {unlabelled: true, frames: 750}          labels are not read; `check-data` expects so many frames
      val: {of: train_all, share: 0.15, seed: 0}       a seeded share of a split named above
      train: {of: train_all, without: val}             the rest of it

A key that is not listed here is refused with the nearest valid one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from egformer_fast.errors import DataError

from .label import IGNORE, Label, default_palette, read_classes, read_label_section, read_palette
from .label_space import Mapped, known_spaces, load_space, map_labels
from .modality import IMAGENET_MEAN, IMAGENET_STD, KINDS, SPARSE_KINDS, Modality, read_modality
from .section import Section
from .sources import find_description, read_content

__all__ = [
    "IGNORE",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "KINDS",
    "SPARSE_KINDS",
    "Description",
    "Label",
    "Modality",
    "Split",
    "default_palette",
    "load_description",
    "map_description",
    "parse_description",
]


@dataclass(frozen=True)
class Split:
    """Where the frames of a split come from: a folder, a list file, or a part of the split `of` (then no folder).

    `frames`: how many the published split has. `skip`: lines of the list file that end so name no frame of it.
    """

    name: str
    folder: str | None = None
    list_file: str | None = None
    skip: str | None = None
    of: str | None = None
    share: float | None = None
    seed: int = 0
    without: str | None = None
    unlabelled: bool = False
    frames: int | None = None


@dataclass(frozen=True)
class Description:
    """A parsed `dataset.yaml`. `palette: (num_classes, 3)` uint8; `source` is the file it was read from; `cases`: name
    of a case -> the word in a frame's {id}; `failing`: name of a case -> the modality that fails in it; `mapped`: where
    the classes are not those of the files."""

    name: str
    source: Path
    root_env: str | None
    root: str | None
    modalities: dict[str, Modality]
    label: Label | None
    classes: tuple[str, ...]
    palette: np.ndarray
    splits: dict[str, Split]
    cases: dict[str, str] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)
    cut: tuple[int, int, int, int] = (0, 0, 0, 0)
    mapped: Mapped | None = None

    def templates(self) -> dict[str, str]:
        """Path template of every modality, and of the label under the key "label"."""
        paths = {name: modality.first_path for name, modality in self.modalities.items()}
        return paths | ({"label": self.label.path} if self.label else {})

    @property
    def has_conditions(self) -> bool:
        return any("{condition}" in path for path in self.templates().values())


def load_description(source: str | Path) -> Description:
    """Read and check a description: the path of a `dataset.yaml`, or the name of one that comes with the package.

    Raises FileNotFoundError without the file, DataError (naming file and key) for what is wrong in it, or for a name
    that is not known (with those that are).
    """
    path = find_description(source)
    return parse_description(read_content(path), path)


def parse_description(content: object, source: Path) -> Description:
    """The same from the loaded YAML content; `source` names it in messages and anchors a relative root."""
    known = "name root_env root modalities label classes palette splits cases failing cut".split()
    top = Section(content, str(source), "", known)
    classes, palette = _classes(top)
    modalities = {name: read_modality(top, name) for name in top.names("modalities")}
    cases = _cases(top)
    description = Description(
        name=top.text("name", source.stem),
        source=source,
        root_env=top.text("root_env", None),
        root=top.text("root", None),
        modalities=modalities,
        label=read_label_section(top, len(classes)) if top.has("label") else None,
        classes=classes,
        palette=palette,
        splits=_splits(top),
        cases=cases,
        failing=_failing(top, cases, modalities),
        cut=_cut(top),
    )
    _check_conditions(description, top)
    target = top.sub("label").text("map_to", None) if description.label else None
    if target is None:
        return description
    try:
        return map_description(description, target)
    except DataError as error:
        raise DataError(f"{source}: label.map_to: {error}") from error


def map_description(description: Description, space: str) -> Description:
    """The description with its labels, classes and colours in another label space (see label_space.py).

    Raises DataError: no labels, or as map_labels.
    """
    if description.label is None:
        raise DataError(f"data set '{description.name}' has no labels to map to '{space}'")
    mapped = map_labels(description.label, description.classes, space)
    return replace(
        description, label=mapped.label, classes=mapped.space.classes, palette=mapped.space.palette, mapped=mapped
    )


def _classes(top: Section) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and colours, of the file or of the label space that it names."""
    own = top.raw.get("label")
    named = own.get("space") if isinstance(own, dict) else None
    if not top.has("classes") and named in known_spaces():
        space = load_space(named)
        return space.classes, read_palette(top, len(space.classes)) if top.has("palette") else space.palette
    classes = read_classes(top)
    return classes, read_palette(top, len(classes))


def _cases(top: Section) -> dict[str, str]:
    if isinstance(top.raw.get("cases"), dict):
        section = top.sub("cases")
        return {name: section.text(name) for name in section.raw}
    return {word: word for word in top.texts("cases", ())}


def _failing(top: Section, cases: dict[str, str], modalities: dict[str, Modality]) -> dict[str, str]:
    """Name of a case -> the modality that fails in it."""
    if not top.has("failing"):
        return {}
    section = top.sub("failing", tuple(cases))
    failing = {case: section.text(case) for case in section.raw}
    for case, name in failing.items():
        section.check_name(case, name, tuple(modalities), "modality")
    return failing


def _cut(top: Section) -> tuple[int, int, int, int]:
    """(left, right, top, bottom)"""
    if not top.has("cut"):
        return (0, 0, 0, 0)
    section = top.sub("cut", ("left", "right", "top", "bottom"))
    pixels = {side: section.integer(side, 0) for side in ("left", "right", "top", "bottom")}
    for side, count in pixels.items():
        if count < 0:
            raise section.error(side, "wanted 0 or more pixels", count)
    return pixels["left"], pixels["right"], pixels["top"], pixels["bottom"]


def _splits(top: Section) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    for name in top.names("splits"):
        raw = top.raw["splits"][name]
        if raw is None or isinstance(raw, str):
            splits[name] = Split(name, folder=name if raw is None else raw)
            continue
        keys = ("folder", "list", "skip", "of", "share", "seed", "without", "unlabelled", "frames")
        section = top.sub("splits").sub(name, keys)
        if section.has("of"):
            splits[name] = _part(section, name, splits)
            continue
        for key in ("share", "seed", "without"):
            if section.has(key):
                raise section.error(key, "goes with `of`, the split it is a part of", section.raw[key])
        if section.has("skip") and not section.has("list"):
            raise section.error("skip", "goes with `list`, lines of which it leaves out", section.raw["skip"])
        splits[name] = Split(
            name,
            folder=section.text("folder", name),
            list_file=section.text("list", None),
            skip=section.text("skip", None),
            unlabelled=section.flag("unlabelled", False),
            frames=section.integer("frames", None),
        )
    return splits


def _part(section: Section, name: str, above: dict[str, Split]) -> Split:
    for key in ("folder", "list", "skip", "unlabelled"):
        if section.has(key):
            raise section.error(key, "comes from the split named by `of`", section.raw[key])
    of = section.choice("of", tuple(above))
    if section.has("share") == section.has("without"):
        raise section.error("of", "wanted either a share or without", of)
    split = Split(name, of=of, unlabelled=above[of].unlabelled, frames=section.integer("frames", None))
    if section.has("without"):
        if section.has("seed"):
            raise section.error("seed", "goes with `share`", section.raw["seed"])
        return replace(split, without=section.choice("without", tuple(above)))
    share = section.number("share")
    if not 0 < share < 1:
        raise section.error("share", "wanted a number between 0 and 1", share)
    return replace(split, share=share, seed=section.integer("seed", 0))


def _check_conditions(description: Description, top: Section) -> None:
    """Frame names come from the label template, or from all where labels may be absent: these need {condition}."""
    if not description.has_conditions:
        return
    label = description.label
    by_label = label and not label.optional and not any(split.unlabelled for split in description.splits.values())
    named = {"label": label.path} if label and by_label else description.templates()
    for key, path in named.items():
        if "{condition}" not in path:
            place = key if key == "label" else f"modalities.{key}"
            raise top.error(f"{place}.path", "wanted {condition} in it, as another template has it", path)
