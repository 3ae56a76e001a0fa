"""What a `dataset.yaml` says, checked before any image is opened.

    name: ombria
    root_env: OMBRIA_ROOT                  environment variable with the root folder (optional)
    root: ../data                          used without it, relative to this file (optional; else this file's folder)
    modalities:                            in this order
      s2:
        path: "S2/{split}/{condition}/S2_{id}.png"     {id} may span folders, {condition} is one folder
        kind: rgb                          one of KINDS; sparse kinds are never interpolated
        channels: 3                        default 3 for rgb, else 1; a one-channel file fills 3 channels
        scale: 255                         file values are divided by it (default: uint8 255, uint16 65535, else 1)
        mean: [0.5, 0.5, 0.5]              after scaling; default ImageNet for rgb, else 0
        std: [0.2, 0.2, 0.2]               default ImageNet for rgb, else 1
        optional: true                     an absent file is a missing sensor (default false: an error)
        resize: nearest                    nearest or bilinear: where its files have another size than the label
    label:
      path: "mask/{split}/{condition}/{id}.png"
      values: {0: 0, 255: 1}               file value -> class;  or  offset: -1  (class = file value + offset)
      ignore: [0, 255]                     file values that become IGNORE (default: 255 where `values` is not given)
      channel: 0                           which channel of a label file that has several
      optional: false                      true: a frame without label file is all IGNORE
    classes: [dry, flood]
    palette: [[200, 180, 120], [30, 100, 220]]         default: generated
    cases: [motionblur, lidarjitter]                   a frame is of the first case whose word its {id} holds
    splits:
      train_all: train                     the folder that {split} stands for (null: the split's own name)
      test: {folder: test, list: lists/test.txt}       frame names from a file under the root, one a line
      val: {of: train_all, share: 0.15, seed: 0}       a seeded share of a split named above
      train: {of: train_all, without: val}             the rest of it

A key that is not listed here is refused with the nearest valid one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from egformer_fast.errors import DataError

from .section import Section

IGNORE = 255
KINDS = ("rgb", "nir", "thermal", "sar", "polarisation", "depth", "lidar", "radar", "event", "other")
SPARSE_KINDS = frozenset({"depth", "lidar", "radar", "event"})
RESIZE_MODES = ("nearest", "bilinear")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PLACEHOLDERS = ("split", "condition", "id")


@dataclass(frozen=True)
class Modality:
    """One sensor. `mean` and `std` hold one number per channel and apply to scaled values."""

    name: str
    path: str
    kind: str
    channels: int
    scale: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    optional: bool
    resize: str | None


@dataclass(frozen=True)
class Label:
    """The label files. `values` maps every allowed file value to its class, or to IGNORE."""

    path: str
    values: Mapping[int, int]
    channel: int | None
    optional: bool


@dataclass(frozen=True)
class Split:
    """Where the frames of a split come from: a folder, a list file, or a part of the split `of` (then no folder)."""

    name: str
    folder: str | None = None
    list_file: str | None = None
    of: str | None = None
    share: float | None = None
    seed: int = 0
    without: str | None = None


@dataclass(frozen=True)
class Description:
    """A parsed `dataset.yaml`. `palette: (num_classes, 3)` uint8; `source` is the file it was read from."""

    name: str
    source: Path
    root_env: str | None
    root: str | None
    modalities: dict[str, Modality]
    label: Label | None
    classes: tuple[str, ...]
    palette: np.ndarray
    splits: dict[str, Split]
    cases: tuple[str, ...] = ()

    def templates(self) -> dict[str, str]:
        """Path template of every modality, and of the label under the key "label"."""
        paths = {name: modality.path for name, modality in self.modalities.items()}
        return paths | ({"label": self.label.path} if self.label else {})

    @property
    def has_conditions(self) -> bool:
        return any("{condition}" in path for path in self.templates().values())


def load_description(path: str | Path) -> Description:
    """Read and check a `dataset.yaml`.

    Raises FileNotFoundError without the file, DataError (naming file and key) for what is wrong in it.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"data set description {path} does not exist")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    return parse_description(content, path)


def parse_description(content: object, source: Path) -> Description:
    """The same from the loaded YAML content; `source` names it in messages and anchors a relative root."""
    known = ("name", "root_env", "root", "modalities", "label", "classes", "palette", "splits", "cases")
    top = Section(content, str(source), "", known)
    classes = tuple(top.texts("classes"))
    if not 1 <= len(classes) <= IGNORE or len(set(classes)) != len(classes):
        raise top.error("classes", f"wanted 1 to {IGNORE} distinct names", list(classes))
    modalities = {name: _modality(top, name) for name in top.names("modalities")}
    description = Description(
        name=top.text("name", source.stem),
        source=source,
        root_env=top.text("root_env", None),
        root=top.text("root", None),
        modalities=modalities,
        label=_label(top, len(classes)) if top.has("label") else None,
        classes=classes,
        palette=_palette(top, len(classes)),
        splits=_splits(top),
        cases=tuple(top.texts("cases", ())),
    )
    _check_conditions(description, top)
    return description


def _modality(top: Section, name: str) -> Modality:
    known = ("path", "kind", "channels", "scale", "mean", "std", "optional", "resize")
    if not re.fullmatch(r"[A-Za-z_]\w*", name) or name == "label":
        raise top.error("modalities", "wanted names of letters, digits and underscores, not 'label'", name)
    section = top.sub("modalities").sub(name, known)
    kind = section.choice("kind", KINDS, "other")
    channels = section.integer("channels", 3 if kind == "rgb" else 1)
    if channels < 1 or (kind == "rgb" and channels != 3):
        raise section.error("channels", "wanted 3 for kind rgb, else 1 or more", channels)
    scale = section.number("scale", None)
    if scale is not None and not scale > 0:
        raise section.error("scale", "wanted a positive number", scale)
    if section.has("mean") != section.has("std"):
        raise section.error("std" if section.has("mean") else "mean", "mean and std come together", None)
    rgb = kind == "rgb"
    std = section.numbers("std", channels, IMAGENET_STD if rgb else (1.0,) * channels)
    if min(std) <= 0:
        raise section.error("std", "wanted positive numbers", list(std))
    return Modality(
        name=name,
        path=_template(section),
        kind=kind,
        channels=channels,
        scale=scale,
        mean=section.numbers("mean", channels, IMAGENET_MEAN if rgb else (0.0,) * channels),
        std=std,
        optional=section.flag("optional", False),
        resize=section.choice("resize", RESIZE_MODES, None),
    )


def _template(section: Section) -> str:
    path = section.text("path").replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        raise section.error("path", "wanted a path relative to the root", path)
    for placeholder in re.findall(r"{(.*?)}", path):
        section.check_name("path", placeholder, PLACEHOLDERS, "placeholder")
    if "{id}" not in path:
        raise section.error("path", "wanted a template with {id}", path)
    return path


def _label(top: Section, num_classes: int) -> Label:
    section = top.sub("label", ("path", "values", "offset", "ignore", "channel", "optional"))
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
    if any(not -(2**15) <= value < 2**16 for value in values):
        raise section.error("values", "wanted file values from -32768 to 65535", sorted(values))
    channel = section.integer("channel", None)
    return Label(_template(section), values, channel, section.flag("optional", False))


def _palette(top: Section, num_classes: int) -> np.ndarray:
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


def _splits(top: Section) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    for name in top.names("splits"):
        raw = top.raw["splits"][name]
        if raw is None or isinstance(raw, str):
            splits[name] = Split(name, folder=name if raw is None else raw)
            continue
        section = top.sub("splits").sub(name, ("folder", "list", "of", "share", "seed", "without"))
        if section.has("of"):
            splits[name] = _part(section, name, tuple(splits))
        else:
            for key in ("share", "seed", "without"):
                if section.has(key):
                    raise section.error(key, "goes with `of`, the split it is a part of", section.raw[key])
            splits[name] = Split(name, folder=section.text("folder", name), list_file=section.text("list", None))
    return splits


def _part(section: Section, name: str, above: tuple[str, ...]) -> Split:
    for key in ("folder", "list"):
        if section.has(key):
            raise section.error(key, "comes from the split named by `of`", section.raw[key])
    of = section.choice("of", above)
    if section.has("share") == section.has("without"):
        raise section.error("of", "wanted either a share or without", of)
    if section.has("without"):
        if section.has("seed"):
            raise section.error("seed", "goes with `share`", section.raw["seed"])
        return Split(name, of=of, without=section.choice("without", above))
    share = section.number("share")
    if not 0 < share < 1:
        raise section.error("share", "wanted a number between 0 and 1", share)
    return Split(name, of=of, share=share, seed=section.integer("seed", 0))


def _check_conditions(description: Description, top: Section) -> None:
    """Frame names come from the label template, or from all where labels are optional: these need {condition}."""
    if not description.has_conditions:
        return
    label = description.label
    named = {"label": label.path} if label and not label.optional else description.templates()
    for key, path in named.items():
        if "{condition}" not in path:
            place = key if key == "label" else f"modalities.{key}"
            raise top.error(f"{place}.path", "wanted {condition} in it, as another template has it", path)
