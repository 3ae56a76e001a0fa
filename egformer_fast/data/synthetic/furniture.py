"""What stands beside a street: poles, lights, signs, plants, fences, street furniture, houses and bridges."""

from __future__ import annotations

import numpy as np

from .classes import Label
from .geometry import Cutout, Material, Shape, Solid, Vec3
from .group import Group, grey, pick, vary
from .look import Look

Place = tuple[float, float, float]

_SIGN_FACES = 4


def lamp_post(place: Place, side: int) -> tuple[list[Solid], Vec3]:
    """Street lamp leaning over the road; `side` is +1 on the right. Also where its light hangs."""
    group = Group(place, Label.Pole)
    group.add(Shape.DRUM, (0, 0, 3.5), (0.1, 0.1, 3.5), grey(0.16))
    group.add(Shape.DRUM, (0, 0, 0.4), (0.17, 0.17, 0.4), grey(0.13))
    group.add(Shape.BLOCK, (-0.9 * side, 0, 6.95), (0.95, 0.06, 0.06), grey(0.16))
    group.add(Shape.BLOCK, (-1.75 * side, 0, 6.88), (0.38, 0.17, 0.09), grey(0.3), Material.LAMP)
    return group.solids, group.solids[-1].centre


def traffic_light(rng: np.random.Generator, place: Place, side: int, phase: int) -> list[Solid]:
    """Signal head on a pole, sometimes with a second one on an arm over the road; phase 0 red, 1 amber, 2 green."""
    group = Group(place, Label.Pole)
    arm = rng.random() < 0.6
    group.add(Shape.DRUM, (0, 0, 2.9 if arm else 1.7), (0.09, 0.09, 2.9 if arm else 1.7), grey(0.12))
    heads = [(0.0, 2.6 if arm else 3.4)]
    if arm:
        group.add(Shape.BLOCK, (-1.7 * side, 0, 5.6), (1.8, 0.06, 0.06), grey(0.12))
        heads.append((-3.2 * side, 5.3))
    style = (float(phase), 0.0, 0.0, 0.0)
    for x, z in heads:
        centre, half = (x, -0.24, z), (0.3, 0.2, 0.72)
        group.add(Shape.BLOCK, centre, half, grey(0.03), Material.SIGNAL, label=Label.TrafficLight, style=style)
    return group.solids


def traffic_sign(rng: np.random.Generator, place: Place) -> list[Solid]:
    """Round or square plate on a post: limit, warning, information or direction board."""
    group = Group(place, Label.Pole)
    face = int(rng.integers(_SIGN_FACES))
    height = rng.uniform(2.1, 2.8)
    group.add(Shape.DRUM, (0, 0, height / 2), (0.045, 0.045, height / 2), grey(0.3))
    size = (0.38, 0.38) if face < 3 else (0.75, 0.32)
    shape = Shape.BALL if face == 0 else Shape.BLOCK
    half = (size[0], 0.04, size[1])
    style = (float(face), float(rng.random()), 0.0, 0.0)
    group.add(shape, (0, -0.07, height), half, grey(0.7), Material.SIGN, label=Label.TrafficSign, style=style)
    return group.solids


def gantry(rng: np.random.Generator, place: Place, road_half: float) -> list[Solid]:
    """Direction boards on a frame across the road."""
    group = Group(place, Label.Pole)
    for side in (-1, 1):
        group.add(Shape.DRUM, (side * (road_half + 0.8), 0, 3.4), (0.16, 0.16, 3.4), grey(0.3))
    group.add(Shape.BLOCK, (0, 0, 6.6), (road_half + 0.9, 0.15, 0.2), grey(0.3))
    style = (3.0, float(rng.random()), 0.0, 0.0)
    for x in (-road_half / 2, road_half / 2):
        half = (road_half * 0.32, 0.06, 0.75)
        group.add(Shape.BLOCK, (x, -0.25, 6.4), half, grey(0.7), Material.SIGN, label=Label.TrafficSign, style=style)
    return group.solids


def tree(rng: np.random.Generator, look: Look, place: Place, size: float = 1.0) -> list[Solid]:
    """Broad-leaved tree or conifer, 5 to 9 m."""
    group = Group(place, Label.Vegetation, size=size * rng.uniform(0.9, 1.5))
    green = vary(rng, look.tree, 0.45)
    if rng.random() < 0.22:
        group.add(Shape.DRUM, (0, 0, 0.7), (0.16, 0.16, 0.7), (0.12, 0.08, 0.05))
        for z, half in ((2.2, 1.7), (3.8, 1.35), (5.3, 0.95)):
            yaw = rng.uniform(0, 1.5)
            sizes = (half, half, 1.5)
            group.add(
                Shape.BLOCK, (0, 0, z), sizes, green, Material.LEAF, yaw=yaw, taper=(1.0, 1.0), cutout=Cutout.LEAF
            )
        return group.solids
    trunk = rng.uniform(1.1, 1.6)
    group.add(Shape.DRUM, (0, 0, trunk), (0.16, 0.16, trunk), vary(rng, look.trunk))
    for k in range(4):
        spread = 0.0 if k == 0 else 1.0
        centre = (
            spread * rng.uniform(-1, 1),
            spread * rng.uniform(-1, 1),
            2 * trunk + 1.1 + spread * rng.uniform(-0.7, 1.2),
        )
        half = rng.uniform(1.2, 1.8) if k == 0 else rng.uniform(0.9, 1.4)
        colour = vary(rng, green, 0.15)
        group.add(Shape.BALL, centre, (half, half, half * 0.85), colour, Material.LEAF, cutout=Cutout.LEAF)
    return group.solids


def bush(rng: np.random.Generator, look: Look, place: Place) -> list[Solid]:
    """A low rounded shrub."""
    size = rng.uniform(0.5, 1.1)
    colour = vary(rng, look.bush, 0.4)
    group = Group(place, Label.Vegetation)
    centre, half = (0, 0, 0.5 * size), (size, size, 0.8 * size)
    return group.add(Shape.BALL, centre, half, colour, Material.LEAF, cutout=Cutout.LEAF).solids


def barrier(rng: np.random.Generator, look: Look, place: Place, length: float, kind: int) -> list[Solid]:
    """A run along the street of `length` metres: Label.Fence, Wall, GroundRail or Vegetation (a hedge)."""
    group = Group(place, kind)
    half = length / 2
    if kind == Label.Fence:
        colour = vary(rng, pick(rng, look.fences))
        group.add(Shape.BLOCK, (0, 0, 0.6), (0.03, half, 0.6), colour, cutout=Cutout.PICKET)
    elif kind == Label.GroundRail:
        group.add(Shape.BLOCK, (0, 0, 0.42), (0.06, half, 0.42), grey(0.5), Material.STRIPED, cutout=Cutout.RAIL)
    elif kind == Label.Wall:
        high = rng.uniform(0.6, 1.1)
        colour = vary(rng, pick(rng, look.walls))
        group.add(Shape.BLOCK, (0, 0, high), (0.15, half, high), colour, Material.BRICK)
        group.add(Shape.BLOCK, (0, 0, 2 * high + 0.05), (0.2, half, 0.05), grey(0.45), Material.CONCRETE)
    else:
        high = rng.uniform(0.4, 0.8)
        colour = vary(rng, look.hedge, 0.3)
        group.add(Shape.BLOCK, (0, 0, high), (0.45, half, high), colour, Material.LEAF, taper=(0.15, 0.0))
    return group.solids


def small_thing(rng: np.random.Generator, look: Look, place: Place, label: int) -> list[Solid]:
    """Static: bin, bench, cabinet, hydrant.  Dynamic: wheeled bin, cart, box.  Other: kiosk, parasol, advert column."""
    group = Group(place, label)
    kind = int(rng.integers(4 if label == Label.Static else 3))
    colour = vary(rng, pick(rng, look.bins))
    if label == Label.Static and kind == 0:
        group.add(Shape.DRUM, (0, 0, 0.5), (0.3, 0.3, 0.5), colour).add(
            Shape.DRUM, (0, 0, 1.03), (0.33, 0.33, 0.05), grey(0.1)
        )
    elif label == Label.Static and kind == 1:
        wood = vary(rng, (0.3, 0.18, 0.09))
        group.add(Shape.BLOCK, (0, 0, 0.45), (0.25, 0.9, 0.05), wood).add(
            Shape.BLOCK, (0.25, 0, 0.75), (0.04, 0.9, 0.2), wood
        )
        for y in (-0.7, 0.7):
            group.add(Shape.BLOCK, (0, y, 0.2), (0.22, 0.05, 0.2), grey(0.08))
    elif label == Label.Static and kind == 2:
        group.add(Shape.BLOCK, (0, 0, 0.65), (0.3, 0.5, 0.65), vary(rng, (0.38, 0.42, 0.38)), Material.CONCRETE)
    elif label == Label.Static:
        group.add(Shape.DRUM, (0, 0, 0.35), (0.15, 0.15, 0.35), (0.5, 0.06, 0.03))
        group.add(Shape.BALL, (0, 0, 0.72), (0.16, 0.16, 0.14), (0.5, 0.06, 0.03))
    elif label == Label.Dynamic and kind == 0:
        group.add(Shape.BLOCK, (0, 0, 0.58), (0.3, 0.35, 0.5), colour, taper=(-0.2, -0.2))
        group.add(Shape.BLOCK, (0, 0, 1.12), (0.36, 0.42, 0.05), vary(rng, colour))
    elif label == Label.Dynamic and kind == 1:
        group.add(Shape.BLOCK, (0, 0, 0.6), (0.35, 0.6, 0.3), grey(0.4), Material.STRIPED, style=(0.1, 0.0, 0.0, 0.0))
        for y in (-0.45, 0.45):
            group.add(Shape.WHEEL, (0, y, 0.15), (0.3, 0.15, 0.15), grey(0.03))
    elif label == Label.Dynamic:
        for k in range(3):
            half = rng.uniform(0.22, 0.38)
            colour = vary(rng, (0.42, 0.29, 0.16))
            group.add(Shape.BLOCK, (0.3 * (k - 1), 0.2 * k, half), (half, half, half), colour, yaw=rng.uniform(0, 1))
    elif kind == 0:
        group.add(Shape.BLOCK, (0, 0, 1.2), (1.0, 1.3, 1.2), colour, Material.BUS_SIDE)
        group.add(
            Shape.BLOCK, (0, 0, 2.5), (1.3, 1.6, 0.15), vary(rng, colour), Material.STRIPED, style=(0.4, 0.0, 0.0, 0.0)
        )
    elif kind == 1:
        group.add(Shape.DRUM, (0, 0, 1.1), (0.04, 0.04, 1.1), grey(0.5))
        cloth = vary(rng, pick(rng, look.parasols))
        group.add(Shape.BLOCK, (0, 0, 2.45), (1.4, 1.4, 0.35), cloth, taper=(0.95, 0.95))
        group.add(Shape.DRUM, (0, 0, 0.72), (0.5, 0.5, 0.04), grey(0.5)).add(
            Shape.DRUM, (0, 0, 0.35), (0.05, 0.05, 0.35), grey(0.2)
        )
    else:
        group.add(
            Shape.DRUM,
            (0, 0, 1.4),
            (0.6, 0.6, 1.4),
            vary(rng, (0.5, 0.45, 0.3)),
            Material.SIGN,
            style=(4.0, 0.5, 0.0, 0.0),
        )
        group.add(Shape.BALL, (0, 0, 2.8), (0.68, 0.68, 0.3), (0.06, 0.12, 0.1))
    return group.solids


def tower(
    rng: np.random.Generator, look: Look, place: Place, frontage: float, depth: float, height: float
) -> list[Solid]:
    """Town building: shop floor, rows of windows, flat roof. `place` is its middle; the front looks across x."""
    group = Group(place, Label.Building)
    colour = vary(rng, pick(rng, look.walls))
    windows = (rng.uniform(1.7, 3.6), rng.uniform(2.9, 3.6), rng.uniform(0.4, 0.75), float(rng.integers(1, 1000)))
    half = (depth / 2, frontage / 2, height / 2)
    group.add(Shape.BLOCK, (0, 0, height / 2), half, colour, Material.FACADE, style=windows)
    group.add(
        Shape.BLOCK,
        (0, 0, height + 0.25),
        (depth / 2 + 0.25, frontage / 2 + 0.05, 0.25),
        vary(rng, colour),
        Material.CONCRETE,
    )
    if rng.random() < 0.4:
        colour, shift = vary(rng, (0.35, 0.35, 0.36)), rng.uniform(-0.2, 0.2) * frontage
        group.add(Shape.BLOCK, (0, shift, height + 1.7), (depth / 4, frontage / 6, 1.3), colour, Material.CONCRETE)
    return group.solids


def house(rng: np.random.Generator, look: Look, place: Place, frontage: float, depth: float) -> list[Solid]:
    """Family house with a ridge roof and a chimney."""
    group = Group(place, Label.Building)
    height = float(rng.choice([3.2, 6.0, 6.0]))
    colour = vary(rng, pick(rng, look.walls))
    windows = (rng.uniform(2.4, 3.6), 2.95, rng.uniform(0.35, 0.5), -float(rng.integers(1, 1000)))
    group.add(
        Shape.BLOCK, (0, 0, height / 2), (depth / 2, frontage / 2, height / 2), colour, Material.FACADE, style=windows
    )
    tiles = vary(rng, pick(rng, look.roofs))
    taper = (1.0, 0.0) if rng.random() < 0.6 else (0.0, 1.0)
    group.add(
        Shape.BLOCK, (0, 0, height + 1.4), (depth / 2 + 0.4, frontage / 2 + 0.4, 1.4), tiles, Material.ROOF, taper=taper
    )
    centre = (0.2 * depth, 0.2 * frontage, height + 2.2)
    group.add(Shape.BLOCK, centre, (0.35, 0.35, 1.3), (0.35, 0.16, 0.11), Material.BRICK)
    return group.solids


def overpass(rng: np.random.Generator, look: Look, place: Place, road_half: float) -> list[Solid]:
    """A road bridge across the street on four pillars, with guard rails on top."""
    group = Group(place, Label.Bridge)
    tint = vary(rng, look.bridge)
    group.add(Shape.BLOCK, (0, 0, 6.0), (70.0, 4.5, 0.6), tint, Material.CONCRETE)
    for y in (-4.4, 4.4):
        group.add(Shape.BLOCK, (0, y, 6.75), (70.0, 0.12, 0.2), tint, Material.CONCRETE)
        half = (70.0, 0.05, 0.5)
        group.add(Shape.BLOCK, (0, y, 7.4), half, grey(0.3), label=Label.Fence, cutout=Cutout.PICKET)
    for x in (-road_half - 1.6, road_half + 1.6, -road_half - 16, road_half + 16):
        for y in (-2.8, 2.8):
            group.add(Shape.BLOCK, (x, y, 2.7), (0.5, 0.5, 2.7), tint, Material.CONCRETE)
    return group.solids
