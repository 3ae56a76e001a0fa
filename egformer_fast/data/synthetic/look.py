"""Colours and textures of the things in a street: what a place looks like, apart from light, weather and camera.

The defaults are the look of the domain `home` (domain.py). Colours are linear albedo. Lists of another length would
take other numbers from the random stream, so another look keeps the lengths: one street can then be seen in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .classes import Label

Vec3 = tuple[float, float, float]


def _ground() -> dict[Label, Vec3]:
    return {
        Label.Road: (0.105, 0.105, 0.11), Label.RoadLine: (0.62, 0.61, 0.56), Label.SideWalk: (0.36, 0.345, 0.32),
        Label.Ground: (0.30, 0.27, 0.24), Label.Terrain: (0.13, 0.19, 0.055), Label.RailTrack: (0.19, 0.165, 0.14),
        Label.Water: (0.03, 0.055, 0.06),
    }  # fmt: skip


def _skyline() -> dict[Label, Vec3]:
    return {
        Label.Building: (0.30, 0.30, 0.32),
        Label.Vegetation: (0.07, 0.12, 0.04),
        Label.Terrain: (0.14, 0.17, 0.08),
    }


@dataclass(frozen=True)
class Look:
    """Palette of each kind of thing, then the textures that paint.py draws.

    ground, skyline: albedo by class;  sign_rims, sign_fills: limit, warning, information, direction board, advert
    grain: contrast of the ground's coarse and fine blotches;  slab: side of a paving stone (m)
    leaf_scale: leaves a metre;  brick: height and length of a stone (m);  dirt: contrast of stains on a front
    window_frame: colour around the panes;  window_lit: share of windows lit by night;  window_light: their colour
    """

    walls: tuple[Vec3, ...] = (
        (0.45, 0.20, 0.13), (0.58, 0.50, 0.38), (0.42, 0.42, 0.43), (0.62, 0.58, 0.52), (0.50, 0.33, 0.22),
        (0.30, 0.32, 0.36), (0.66, 0.52, 0.34), (0.40, 0.46, 0.48), (0.55, 0.40, 0.36),
    )  # fmt: skip
    roofs: tuple[Vec3, ...] = ((0.36, 0.12, 0.07), (0.14, 0.13, 0.14), (0.25, 0.17, 0.12))
    fences: tuple[Vec3, ...] = ((0.45, 0.42, 0.38), (0.20, 0.13, 0.08), (0.08, 0.10, 0.09))
    bins: tuple[Vec3, ...] = ((0.08, 0.25, 0.12), (0.30, 0.30, 0.32), (0.35, 0.12, 0.06), (0.12, 0.18, 0.35))
    parasols: tuple[Vec3, ...] = ((0.6, 0.08, 0.06), (0.7, 0.6, 0.2), (0.1, 0.3, 0.5))
    tree: Vec3 = (0.11, 0.20, 0.045)
    trunk: Vec3 = (0.14, 0.10, 0.07)
    bush: Vec3 = (0.10, 0.19, 0.05)
    hedge: Vec3 = (0.09, 0.18, 0.05)
    bridge: Vec3 = (0.40, 0.39, 0.36)
    paints: tuple[Vec3, ...] = (
        (0.55, 0.55, 0.56), (0.05, 0.05, 0.06), (0.75, 0.75, 0.73), (0.30, 0.31, 0.33), (0.45, 0.03, 0.03),
        (0.04, 0.10, 0.35), (0.05, 0.22, 0.12), (0.60, 0.42, 0.06), (0.10, 0.28, 0.42), (0.40, 0.20, 0.10),
    )  # fmt: skip
    buses: tuple[Vec3, ...] = ((0.55, 0.06, 0.05), (0.65, 0.55, 0.10), (0.08, 0.25, 0.50), (0.10, 0.40, 0.20))
    cargo: tuple[Vec3, ...] = ((0.7, 0.7, 0.68), (0.15, 0.25, 0.5), (0.55, 0.35, 0.08), (0.3, 0.45, 0.3))
    clothes: tuple[Vec3, ...] = (
        (0.45, 0.05, 0.05), (0.06, 0.10, 0.30), (0.08, 0.08, 0.09), (0.55, 0.50, 0.42), (0.12, 0.30, 0.14),
        (0.60, 0.35, 0.05), (0.35, 0.10, 0.30), (0.70, 0.70, 0.68), (0.10, 0.35, 0.40),
    )  # fmt: skip
    ground: Mapping[Label, Vec3] = field(default_factory=_ground)
    skyline: Mapping[Label, Vec3] = field(default_factory=_skyline)
    sign_rims: tuple[Vec3, ...] = (
        (0.65, 0.03, 0.03), (0.02, 0.02, 0.02), (0.7, 0.7, 0.7), (0.75, 0.75, 0.75), (0.3, 0.28, 0.25),
    )  # fmt: skip
    sign_fills: tuple[Vec3, ...] = (
        (0.8, 0.8, 0.78), (0.8, 0.6, 0.03), (0.03, 0.12, 0.5), (0.02, 0.25, 0.12), (0.6, 0.5, 0.4),
    )  # fmt: skip
    grain: tuple[float, float] = (0.35, 0.3)
    slab: float = 1.2
    leaf_scale: float = 4.5
    brick: tuple[float, float] = (0.16, 0.42)
    dirt: float = 0.35
    window_frame: Vec3 = (0.62, 0.6, 0.56)
    window_lit: float = 0.32
    window_light: Vec3 = (1.0, 0.72, 0.38)
