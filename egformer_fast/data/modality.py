"""The sensors of a data set: the keys below `modalities` of a description (all are listed in description.py)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .section import Section

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


def read_modality(top: Section, name: str) -> Modality:
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
        path=read_template(section),
        kind=kind,
        channels=channels,
        scale=scale,
        mean=section.numbers("mean", channels, IMAGENET_MEAN if rgb else (0.0,) * channels),
        std=std,
        optional=section.flag("optional", False),
        resize=section.choice("resize", RESIZE_MODES, None),
    )


def read_template(section: Section) -> str:
    path = section.text("path").replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        raise section.error("path", "wanted a path relative to the root", path)
    for placeholder in re.findall(r"{(.*?)}", path):
        section.check_name("path", placeholder, PLACEHOLDERS, "placeholder")
    if "{id}" not in path:
        raise section.error("path", "wanted a template with {id}", path)
    return path
