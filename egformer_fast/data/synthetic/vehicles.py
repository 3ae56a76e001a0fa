"""Cars, vans, buses, trucks, two-wheelers and people."""

from __future__ import annotations

import numpy as np

from .classes import Label
from .geometry import Cutout, Material, Shape, Solid
from .group import Group, grey, pick, vary
from .look import Look, Vec3

Place = tuple[float, float, float]

_SKIN: tuple[Vec3, ...] = ((0.55, 0.33, 0.23), (0.40, 0.22, 0.14), (0.22, 0.12, 0.08), (0.62, 0.42, 0.32))
_RUBBER = grey(0.025)


def _wheels(group: Group, track: float, axles: tuple[float, ...], radius: float) -> None:
    for y in axles:
        for x in (-track, track):
            group.add(Shape.WHEEL, (x, y, radius), (0.12, radius, radius), _RUBBER)
            hub = x + (0.1 if x > 0 else -0.1)
            group.add(Shape.WHEEL, (hub, y, radius), (0.05, radius * 0.55, radius * 0.55), grey(0.35))


def car(rng: np.random.Generator, look: Look, place: Place, speed: float = 0.0) -> list[Solid]:
    """Saloon, estate or van."""
    group = Group(place, Label.Cars, speed, rng.uniform(0.95, 1.08))
    paint = vary(rng, pick(rng, look.paints))
    kind = rng.integers(3)
    length, cabin, back = ((2.15, 1.15, -0.25), (2.1, 1.5, -0.5), (2.3, 1.75, -0.4))[kind]
    roof = (1.45, 1.5, 1.95)[kind]
    waist = 0.9 if kind < 2 else 1.1
    body_half = (waist - 0.28) / 2
    group.add(
        Shape.BLOCK, (0, 0, 0.28 + body_half), (0.9, length, body_half), paint, Material.CAR_BODY, taper=(0.05, 0.04)
    )
    glass_half = (roof - waist) / 2
    lean = (0.2, 0.42) if kind == 0 else (0.18, 0.24)
    group.add(
        Shape.BLOCK, (0, back, waist + glass_half), (0.85, cabin, glass_half), paint, Material.CAR_GLASS, taper=lean
    )
    _wheels(group, 0.78, (-1.3, 1.3), 0.33)
    return group.solids


def bus(rng: np.random.Generator, look: Look, place: Place, speed: float = 0.0) -> list[Solid]:
    """A city bus, 11 m long."""
    group = Group(place, Label.Bus, speed)
    paint = vary(rng, pick(rng, look.buses))
    group.add(Shape.BLOCK, (0, 0, 1.7), (1.25, 5.5, 1.4), paint, Material.BUS_SIDE, taper=(0.03, 0.01))
    group.add(Shape.BLOCK, (0, 0.5, 3.2), (0.8, 2.0, 0.12), grey(0.5))
    _wheels(group, 1.12, (-3.2, 3.4), 0.48)
    return group.solids


def truck(rng: np.random.Generator, look: Look, place: Place, speed: float = 0.0) -> list[Solid]:
    """A lorry: cab, cargo box, chassis."""
    group = Group(place, Label.Truck, speed, rng.uniform(0.9, 1.05))
    cargo = vary(rng, pick(rng, look.cargo))
    group.add(Shape.BLOCK, (0, -1.0, 2.2), (1.25, 3.2, 1.3), cargo, Material.STRIPED, style=(0.5, 0.0, 0.0, 0.0))
    group.add(Shape.BLOCK, (0, -0.2, 0.72), (1.0, 4.0, 0.17), grey(0.06), Material.CAR_BODY)
    paint = vary(rng, pick(rng, look.paints))
    group.add(Shape.BLOCK, (0, 3.3, 1.15), (1.15, 0.95, 0.5), paint, Material.CAR_BODY)
    group.add(Shape.BLOCK, (0, 3.25, 2.15), (1.1, 0.9, 0.5), paint, Material.CAR_GLASS, taper=(0.1, 0.15))
    _wheels(group, 1.1, (-3.0, -1.8, 3.2), 0.48)
    return group.solids


def pedestrian(rng: np.random.Generator, look: Look, place: Place, speed: float = 0.0) -> list[Solid]:
    """A standing or walking person, 1.55 to 1.9 m."""
    group = Group(place, Label.Pedestrian, speed, rng.uniform(0.9, 1.07))
    coat, trousers = vary(rng, pick(rng, look.clothes)), vary(rng, pick(rng, look.clothes), 0.4)
    skin = vary(rng, pick(rng, _SKIN))
    stride = rng.uniform(0.05, 0.22)
    for side in (-1, 1):
        group.add(Shape.BLOCK, (0.1 * side, stride * side, 0.43), (0.1, 0.12, 0.43), trousers, taper=(-0.15, -0.1))
        group.add(Shape.BALL, (0.27 * side, -0.6 * stride * side, 1.12), (0.075, 0.11, 0.34), coat)
    group.add(Shape.BALL, (0, 0, 1.17), (0.23, 0.16, 0.40), coat)
    group.add(Shape.BALL, (0, 0.02, 1.63), (0.105, 0.12, 0.14), skin)
    group.add(Shape.BALL, (0, -0.02, 1.69), (0.115, 0.12, 0.11), vary(rng, (0.06, 0.04, 0.03), 0.8))
    return group.solids


def _rider(rng: np.random.Generator, look: Look, group: Group, seat: float) -> None:
    coat, skin = vary(rng, pick(rng, look.clothes)), vary(rng, pick(rng, _SKIN))
    for side in (-1, 1):
        group.add(Shape.BALL, (0.12 * side, 0.12, seat - 0.18), (0.09, 0.16, 0.36), grey(0.06), label=Label.Pedestrian)
        group.add(Shape.BALL, (0.24 * side, 0.28, seat + 0.36), (0.07, 0.28, 0.1), coat, label=Label.Pedestrian)
    group.add(Shape.BALL, (0, 0.02, seat + 0.32), (0.23, 0.19, 0.36), coat, label=Label.Pedestrian)
    group.add(Shape.BALL, (0, 0.12, seat + 0.76), (0.11, 0.12, 0.14), skin, label=Label.Pedestrian)
    helmet = vary(rng, pick(rng, look.clothes))
    group.add(Shape.BALL, (0, 0.1, seat + 0.82), (0.13, 0.15, 0.12), helmet, label=Label.Pedestrian)


def two_wheeler(rng: np.random.Generator, look: Look, place: Place, speed: float = 0.0) -> list[Solid]:
    """Bicycle or motorbike; with a rider when it moves. As in CARLA the rider is a Pedestrian."""
    group = Group(place, Label.TwoWheeler, speed, rng.uniform(0.95, 1.05))
    paint = vary(rng, pick(rng, look.paints))
    motor = bool(rng.random() < 0.5)
    radius, width = (0.31, 0.08) if motor else (0.34, 0.03)
    cutout = Cutout.NONE if motor else Cutout.SPOKES
    for y in (-0.55, 0.6):
        group.add(Shape.WHEEL, (0, y, radius), (width, radius, radius), _RUBBER, cutout=cutout)
    if motor:
        group.add(Shape.BLOCK, (0, 0.0, 0.5), (0.16, 0.42, 0.22), grey(0.08))
        group.add(Shape.BALL, (0, 0.15, 0.78), (0.17, 0.36, 0.17), paint)
        group.add(Shape.BLOCK, (0, -0.4, 0.8), (0.15, 0.35, 0.07), grey(0.04))
    else:
        group.add(Shape.BLOCK, (0, 0.05, 0.62), (0.03, 0.5, 0.035), paint)
        group.add(Shape.BLOCK, (0, 0.0, 0.42), (0.03, 0.3, 0.035), paint)
        group.add(Shape.BLOCK, (0, -0.2, 0.7), (0.03, 0.035, 0.25), paint)
        group.add(Shape.BALL, (0, -0.22, 0.97), (0.08, 0.14, 0.05), grey(0.04))
    group.add(Shape.BLOCK, (0, 0.55, 0.7), (0.035, 0.05, 0.38), grey(0.12))
    group.add(Shape.BLOCK, (0, 0.5, 1.07), (0.3, 0.04, 0.03), grey(0.05))
    if speed:
        _rider(rng, look, group, 0.9)
    return group.solids
