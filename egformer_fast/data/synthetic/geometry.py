"""What a scene is made of: convex solids on a painted ground plane, a far skyline and a pinhole camera.

World frame: x right, y along the street, z up, metres; the ground is z = 0; angles turn counter-clockwise about z.
A solid sits in a box of half sizes (hx, hy, hz) turned by `yaw` about z. In unit coordinates q = local / half:
    BLOCK  |q_x| <= 1 - k_x (q_z + 1) / 2, likewise y, |q_z| <= 1   (k = taper: 0 a box, 1 a ridge or a peak)
    BALL   |q| <= 1
    DRUM   q_x^2 + q_y^2 <= 1, |q_z| <= 1        (upright cylinder)
    WHEEL  q_y^2 + q_z^2 <= 1, |q_x| <= 1        (cylinder across the way of travel)
Camera: a pixel centre (u, v) looks along d = forward + (u - W/2)/f right - (v - H/2)/f up, so the ray parameter is the
depth along the optical axis.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from math import cos, radians, sin, tan
from typing import NamedTuple

import numpy as np

from .look import Look, Vec3


class Shape(IntEnum):
    BLOCK = 0
    BALL = 1
    DRUM = 2
    WHEEL = 3


class Material(IntEnum):
    """How a solid is painted; `Solid.style` holds the parameters that shading.py reads."""

    PLAIN = 0
    FACADE = 1
    ROOF = 2
    LEAF = 3
    CAR_BODY = 4
    CAR_GLASS = 5
    BUS_SIDE = 6
    BRICK = 7
    SIGNAL = 8
    SIGN = 9
    LAMP = 10
    CONCRETE = 11
    STRIPED = 12


class Cutout(IntEnum):
    """Holes in a solid: rays through them go on to what lies behind."""

    NONE = 0
    LEAF = 1
    PICKET = 2
    RAIL = 3
    SPOKES = 4


class Solid(NamedTuple):
    """One convex solid. `colour` is linear albedo, `velocity` metres per second over ground."""

    shape: Shape
    label: int
    material: Material
    centre: Vec3
    half: Vec3
    yaw: float = 0.0
    taper: tuple[float, float] = (0.0, 0.0)
    colour: Vec3 = (0.5, 0.5, 0.5)
    style: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    cutout: Cutout = Cutout.NONE
    velocity: tuple[float, float] = (0.0, 0.0)


class SolidTable:
    """The solids of a scene as arrays, one row a solid (P rows)."""

    def __init__(self, solids: list[Solid]):
        def column(name: str, width: int) -> np.ndarray:
            return np.array([getattr(s, name) for s in solids], np.float32).reshape(len(solids), width)

        self.shape = np.array([s.shape for s in solids], np.int32)
        self.label = np.array([s.label for s in solids], np.uint8)
        self.material = np.array([s.material for s in solids], np.int32)
        self.cutout = np.array([s.cutout for s in solids], np.int32)
        self.centre, self.half = column("centre", 3), column("half", 3)
        self.colour, self.style = column("colour", 3), column("style", 4)
        self.taper, self.velocity = column("taper", 2), column("velocity", 2)
        yaw = np.array([s.yaw for s in solids], np.float32)
        self.cos, self.sin = np.cos(yaw), np.sin(yaw)

    def __len__(self) -> int:
        return len(self.shape)

    def corners(self) -> np.ndarray:
        """Corners of the boxes in world coordinates, (P, 8, 3); bit k of the corner's number is the side on axis k."""
        unit = np.array([[(k >> axis & 1) * 2 - 1 for axis in range(3)] for k in range(8)], np.float32)
        local = unit[None] * self.half[:, None]
        c, s = self.cos[:, None], self.sin[:, None]
        turned = np.stack(
            [c * local[..., 0] - s * local[..., 1], s * local[..., 0] + c * local[..., 1], local[..., 2]], -1
        )
        return turned + self.centre[:, None]


@dataclass(frozen=True)
class Camera:
    """Pinhole camera; `fov` is the horizontal opening in degrees, `pitch` is positive upwards (radians)."""

    position: Vec3 = (0.0, 0.0, 1.7)
    yaw: float = 0.0
    pitch: float = 0.0
    fov: float = 80.0

    def focal(self, width: int) -> float:
        """Focal length in pixels."""
        return width / 2 / tan(radians(self.fov) / 2)

    def axes(self) -> np.ndarray:
        """Rows: right, up, forward; (3, 3) float32."""
        c, s, cp, sp = cos(self.yaw), sin(self.yaw), cos(self.pitch), sin(self.pitch)
        return np.array([[c, s, 0], [s * sp, -c * sp, cp], [-s * cp, c * cp, sp]], np.float32)

    def rays(self, height: int, width: int) -> np.ndarray:
        """Directions of the pixel centres with forward component 1; (3, H, W) float32."""
        focal = self.focal(width)
        u = ((np.arange(width) + 0.5 - width / 2) / focal).astype(np.float32)[None, :]
        v = ((np.arange(height) + 0.5 - height / 2) / focal).astype(np.float32)[:, None]
        right, up, forward = self.axes()
        return np.stack([forward[k] + u * right[k] - v * up[k] for k in range(3)])

    def project(self, points: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Column, row (in pixels, centres at .5) and depth of world points (..., 3)."""
        seen = (points - np.array(self.position, np.float32)) @ self.axes().T
        depth = seen[..., 2]
        scale = self.focal(width) / np.where(depth == 0, 1e-9, depth)
        return width / 2 + seen[..., 0] * scale, height / 2 - seen[..., 1] * scale, depth


@dataclass(frozen=True)
class Street:
    """Painted ground: bands along a gently bent street, lane lines, and at most one street that crosses it.

    edges: lateral borders s between the bands, increasing, (n,);  bands: class of each band, (n + 1,)
    lines: (s, dash) of each lane line: dash 0 is solid, 1 dashed;  s is measured from the centre line x = bend * y^2
    crossing: y of the crossing street's middle, or None;  crossing_half: half its width
    """

    edges: tuple[float, ...]
    bands: tuple[int, ...]
    lines: tuple[tuple[float, int], ...] = ()
    bend: float = 0.0
    road_half: float = 3.5
    crossing: float | None = None
    crossing_half: float = 3.5

    def place(self, s: float, y: float) -> tuple[float, float, float]:
        """World x, y and heading of the point at lateral s, distance y."""
        return s + self.bend * y * y, y, -float(np.arctan(2 * self.bend * y))


@dataclass
class Scene:
    """A street to look at: ground, solids, skyline, textures, camera and its motion (m/s, rad/s), the night's lamps."""

    street: Street
    camera: Camera
    solids: list[Solid] = field(default_factory=list)
    lamps: list[Vec3] = field(default_factory=list)
    skyline: np.ndarray = field(default_factory=lambda: np.zeros(64, np.float32))  # height in metres over azimuth
    skyline_label: int = 21
    look: Look = field(default_factory=Look)
    speed: float = 8.0
    yaw_rate: float = 0.0
    pitch_rate: float = 0.0
    sun_azimuth: float = 0.6
    sun_elevation: float = 0.7
