"""A thing made of several solids that share a place, a heading and a speed (local frame: y ahead, x right, z up)."""

from __future__ import annotations

from math import cos, sin

import numpy as np

from .geometry import Cutout, Material, Shape, Solid
from .look import Vec3


def grey(value: float) -> Vec3:
    """A neutral albedo."""
    return (value, value, value)


def pick(rng: np.random.Generator, colours: tuple[Vec3, ...]) -> Vec3:
    """One of the colours, each as likely."""
    return colours[int(rng.integers(len(colours)))]


def vary(rng: np.random.Generator, colour: Vec3, amount: float = 0.2) -> Vec3:
    """The colour, brighter or darker by up to `amount`, each channel a little off."""
    scale = 1 + rng.uniform(-amount, amount) + rng.uniform(-amount, amount, 3) / 3
    red, green, blue = np.clip(np.array(colour) * scale, 0.01, 0.95).tolist()
    return (red, green, blue)


class Group:
    """Collects solids in the local frame of one thing."""

    def __init__(self, place: tuple[float, float, float], label: int, speed: float = 0.0, size: float = 1.0):
        self.x, self.y, self.yaw = place
        self.label, self.size = label, size
        self.velocity = (-speed * sin(self.yaw), speed * cos(self.yaw))
        self.solids: list[Solid] = []

    def add(
        self,
        shape: Shape,
        centre: Vec3,
        half: Vec3,
        colour: Vec3,
        material: Material = Material.PLAIN,
        *,
        label: int | None = None,
        yaw: float = 0.0,
        taper: tuple[float, float] = (0.0, 0.0),
        style: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
        cutout: Cutout = Cutout.NONE,
    ) -> Group:
        """Add one solid; centre and half sizes are local metres, scaled by the group's size."""
        x, y, z = (v * self.size for v in centre)
        c, s = cos(self.yaw), sin(self.yaw)
        world = (self.x + c * x - s * y, self.y + s * x + c * y, z)
        sizes = (half[0] * self.size, half[1] * self.size, half[2] * self.size)
        number = self.label if label is None else label
        solid = Solid(
            shape, number, material, world, sizes, self.yaw + yaw, taper, colour, style, cutout, self.velocity
        )
        self.solids.append(solid)
        return self
