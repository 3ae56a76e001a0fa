"""The sensors of a data set: the keys below `modalities` of a description (all are listed in description.py)."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from .polarisation import ANGLES
from .raw import Projection, read_projection
from .section import Section

KINDS = ("rgb", "nir", "thermal", "sar", "polarisation", "aolp", "depth", "lidar", "radar", "event", "other")
SPARSE_KINDS = frozenset({"depth", "lidar", "radar", "event"})
RESIZE_MODES = ("nearest", "bilinear")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PLACEHOLDERS = ("split", "condition", "id")
PART = "{part}"


@dataclass(frozen=True)
class Modality:
    """One sensor.

    mean, std: one number a channel, of scaled values. scale, shift: a scaled value is file value / scale - shift.
    parts: what {part} in the path stands for, equal shares of the channels. select: channels of the file that are read
    (none: all but alpha). angle: what files of kind aolp hold (see polarisation.py). project: how raw files become a
    picture.
    """

    name: str
    path: str
    kind: str
    channels: int
    scale: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    optional: bool
    resize: str | None
    parts: tuple[str, ...] = ()
    angle: str | None = None
    select: tuple[int, ...] = ()
    shift: float = 0.0
    project: Projection | None = None

    @property
    def first_path(self) -> str:
        """The path template of the first part."""
        return self.path.replace(PART, self.parts[0]) if self.parts else self.path


def read_modality(top: Section, name: str) -> Modality:
    known = tuple(field.name for field in fields(Modality) if field.name != "name")
    if not re.fullmatch(r"[A-Za-z_]\w*", name) or name == "label":
        raise top.error("modalities", "wanted names of letters, digits and underscores, not 'label'", name)
    section = top.sub("modalities").sub(name, known)
    kind = section.choice("kind", KINDS, "other")
    channels, parts, select = _channels(section, str(kind))
    scale = section.number("scale", None)
    if scale is not None and not scale > 0:
        raise section.error("scale", "wanted a positive number", scale)
    if section.has("mean") != section.has("std"):
        raise section.error("std" if section.has("mean") else "mean", "mean and std come together", None)
    rgb = kind == "rgb"
    std = section.numbers("std", channels, IMAGENET_STD if rgb else (1.0,) * channels)
    if min(std) <= 0:
        raise section.error("std", "wanted positive numbers", list(std))
    mean = section.numbers("mean", channels, IMAGENET_MEAN if rgb else (0.0,) * channels)
    if kind == "aolp" and any(mean):
        raise section.error("mean", "wanted 0 for kind aolp, whose signs mean a direction", list(mean))
    return Modality(
        name=name,
        path=read_template(section, parts),
        kind=kind,
        channels=channels,
        scale=scale,
        mean=mean,
        std=std,
        optional=section.flag("optional", False),
        resize=section.choice("resize", RESIZE_MODES, None),
        parts=parts,
        angle=_angle(section, str(kind)),
        select=select,
        shift=section.number("shift", 0.0),
        project=_project(section, channels, bool(parts or select)),
    )


def _channels(section: Section, kind: str) -> tuple[int, tuple[str, ...], tuple[int, ...]]:
    """How many, and what they are made of: parts, select."""
    parts, select = tuple(section.texts("parts", ())), section.integers("select", ())
    fixed = {"rgb": 3, "aolp": 2}.get(kind)
    channels = section.integer("channels", fixed or len(parts) or len(select) or 1)
    if channels < 1 or channels != (fixed or channels):
        raise section.error("channels", "wanted 3 for kind rgb, 2 for aolp, else 1 or more", channels)
    if parts and (channels % len(parts) or (kind == "aolp" and len(parts) != channels)):
        wanted = "2, one a channel" if kind == "aolp" else f"as many as share {channels} channels evenly"
        raise section.error("parts", f"wanted {wanted}", list(parts))
    if select and (parts or len(select) != channels or min(select) < 0):
        raise section.error("select", f"wanted {channels} channel numbers from 0, and no `parts`", list(select))
    return channels, parts, select


def _angle(section: Section, kind: str) -> str | None:
    if kind == "aolp":
        return section.choice("angle", ANGLES)
    if section.has("angle"):
        raise section.error("angle", "goes with kind aolp", section.raw["angle"])
    return None


def _project(section: Section, channels: int, chosen: bool) -> Projection | None:
    if not section.has("project"):
        return None
    if channels != 3 or chosen:
        raise section.error("project", "wanted 3 channels, and neither `parts` nor `select`", section.raw["project"])
    return read_projection(section.sub("project", tuple(field.name for field in fields(Projection))))


def read_template(section: Section, parts: tuple[str, ...] = ()) -> str:
    """The key `path`: checked, with forward slashes."""
    path = section.text("path").replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        raise section.error("path", "wanted a path relative to the root", path)
    for placeholder in re.findall(r"{(.*?)}", path.replace(PART, "")):
        section.check_name("path", placeholder, PLACEHOLDERS, "placeholder")
    if (PART in path) != bool(parts):
        raise section.error("path", "wanted {part} in it where `parts` are given, and nowhere else", path)
    if "{id}" not in path:
        raise section.error("path", "wanted a template with {id}", path)
    return path
