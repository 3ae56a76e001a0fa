"""Draws a street from a random stream: which bands lie beside the road, then what stands on them.

Five kinds of street, numbered as DELIVER numbers its maps: 1 town, 2 suburb, 3 waterfront, 4 railway, 5 arterial road.
Each side of the road is one of town, plaza, homes, water, rail, green; the side's bands come first, its furniture
after. All lengths in metres; s is the lateral place (right positive), y the distance ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import pi

import numpy as np

from . import furniture, vehicles
from .classes import Label
from .domain import HOME, Domain
from .geometry import Camera, Scene, Street

MAPS = 5
_LANE = 3.1
_FAR = 150.0
_SIDES = {
    1: (("town", "town"), ("town", "plaza"), ("plaza", "town")),
    2: (("homes", "homes"), ("homes", "plaza"), ("town", "homes")),
    3: (("town", "water"), ("town", "water"), ("homes", "water"), ("water", "plaza")),
    4: (("rail", "town"), ("homes", "rail"), ("homes", "rail"), ("town", "rail")),
    5: (("green", "green"), ("green", "homes"), ("green", "water")),
}


def draw_scene(rng: np.random.Generator, number: int, domain: Domain = HOME) -> Scene:
    """A street of kind `number` (1 to 5) with everything on it; neither picture size nor weather matter here."""
    return _Builder(rng, number, domain).build()


class _Builder:
    """Fills one scene; holds the random stream, the domain, the street and the scene under construction."""

    def __init__(self, rng: np.random.Generator, number: int, domain: Domain):
        self.rng, self.number, self.domain = rng, number, domain
        self.sides = dict(zip((-1, 1), _SIDES[number][rng.integers(len(_SIDES[number]))], strict=True))
        self.lanes = 2 if number == 5 or rng.random() < 0.35 else 1
        self.parking = number in (1, 2, 3) and rng.random() < 0.7
        self.road_half = self.lanes * _LANE + (2.2 if self.parking else 0.3)
        self.walk = {side: self._walk_width(kind) for side, kind in self.sides.items()}
        has_crossing = rng.random() < (0.7 if number < 4 else 0.4)
        self.crossing = float(rng.uniform(15, 45)) if has_crossing else None
        self.street = self._street()
        self.scene = Scene(self.street, self._camera(), look=domain.look)

    def _walk_width(self, kind: str) -> float:
        low, high = {"town": (2.6, 4.2), "plaza": (1.6, 2.4), "green": (0.8, 1.2), "rail": (1.0, 1.6)}.get(
            kind, (1.8, 2.8)
        )
        return float(self.rng.uniform(low, high))

    def _camera(self) -> Camera:
        rng, mount = self.rng, self.domain.mount
        lane = int(rng.integers(self.lanes))
        s = (lane + 0.5) * _LANE + rng.uniform(-0.3, 0.5)
        x, y, heading = self.street.place(s, 0.0)
        pitch, height = rng.uniform(*mount.pitch), rng.uniform(*mount.height)
        turn = rng.uniform(-0.08, 0.08) if rng.random() < 0.55 else rng.choice([-1, -1, 1]) * rng.uniform(0.12, 0.6)
        return Camera((x, y, height), heading + turn, pitch, rng.uniform(*mount.fov))

    def _street(self) -> Street:
        edges, bands = [], []
        for side in (-1, 1):
            first = int(Label.Terrain if self.sides[side] == "green" else Label.SideWalk)
            widths = [self.walk[side]]
            classes = [first]
            if self.sides[side] == "water":
                widths, classes = widths + [90.0], classes + [Label.Water]
            elif self.sides[side] == "rail":
                widths, classes = (
                    widths + [1.2, 3.4, 0.8, 3.4, 0.8, 3.4],
                    classes + [Label.Terrain, Label.RailTrack] * 3,
                )
            outer = int(Label.Ground if self.sides[side] in ("town", "plaza") else Label.Terrain)
            borders = (self.road_half + np.concatenate([[0], np.cumsum(widths)])).tolist()
            row = [*classes, outer]
            if side < 0:
                edges, bands = [-b for b in reversed(borders)], [int(c) for c in reversed(row)] + [int(Label.Road)]
            else:
                edges, bands = edges + borders, bands + [int(c) for c in row]
        road = self.lanes * _LANE
        lines = [(0.0, 0)] if self.lanes > 1 else [(0.0, 1)]
        lines += [(side * k * _LANE, 1) for side in (-1, 1) for k in range(1, self.lanes)]
        lines += [(side * (road + (0.0 if self.parking else 0.05)), 0) for side in (-1, 1)]
        bend = float(self.rng.uniform(-1, 1)) ** 3 * 1.5e-3
        half = float(self.rng.uniform(3.2, 5.5))
        return Street(tuple(edges), tuple(bands), tuple(lines), bend, self.road_half, self.crossing, half)

    def build(self) -> Scene:
        for side, kind in self.sides.items():
            self._roadside(side, kind)
            self._kerbside(side, kind)
        self._traffic()
        self._crossing()
        self._skyline()
        rng, look, scene = self.rng, self.domain.look, self.scene
        if rng.random() < (0.55 if self.number == 5 else 0.08):
            y = float(rng.uniform(22, 70)) if self.crossing is None else self.crossing + 45
            scene.solids += furniture.overpass(rng, look, self.street.place(0, y), self.road_half)
        if self.number == 5 and rng.random() < 0.5:
            scene.solids += furniture.gantry(rng, self.street.place(0, float(rng.uniform(16, 40))), self.road_half)
        scene.speed, scene.yaw_rate = float(rng.uniform(6, 13)), float(rng.normal(0, 0.06))
        scene.pitch_rate = float(rng.choice([-1, 1]) * rng.uniform(0.04, 0.12))
        scene.sun_azimuth = float(rng.uniform(-pi, pi))
        scene.sun_elevation = float(rng.uniform(*self.domain.sun_elevation))
        return scene

    def _clear(self, y: float, margin: float = 1.0) -> bool:
        return self.crossing is None or abs(y - self.crossing) > self.street.crossing_half + margin

    def _along(self, first: float, last: float, gap: tuple[float, float], margin: float = 4.0) -> Iterator[float]:
        y = first + self.rng.uniform(0, gap[0])
        while y < last:
            if self._clear(y, margin):
                yield float(y)
            y += self.rng.uniform(*gap)

    def _roadside(self, side: int, kind: str) -> None:
        """What lies behind the sidewalk."""
        rng, look, place, add = self.rng, self.domain.look, self.street.place, self.scene.solids.extend
        inner = self.road_half + self.walk[side]
        if kind in ("town", "plaza"):
            setback = 0.2 if kind == "town" else float(rng.uniform(11, 18))
            self._buildings(side, inner + setback, town=True)
            if kind == "plaza":
                for y in self._along(6, 70, (7, 12)):
                    add(furniture.tree(rng, look, place(side * (inner + rng.uniform(1.5, 3)), y), 0.8))
                for y in self._along(8, 60, (6, 14)):
                    spot = place(side * (inner + rng.uniform(3, 9)), y)
                    label = int(rng.choice([Label.Other, Label.Static, Label.Other]))
                    add(furniture.small_thing(rng, look, spot, label))
        elif kind == "homes":
            self._buildings(side, inner + float(rng.uniform(4, 8)), town=False)
            limit = int(rng.choice([Label.Fence, Label.Wall, Label.Vegetation]))
            self._barriers(side * (inner + 0.4), limit, 9.0)
            for y in self._along(4, 110, (7, 14)):
                add(furniture.tree(rng, look, place(side * (inner + rng.uniform(1.5, 4)), y)))
            for y in self._along(0, 120, (10, 20)):
                add(furniture.tree(rng, look, place(side * (inner + rng.uniform(17, 22)), y), 1.4))
        elif kind == "water":
            if rng.random() < 0.6:
                self._barriers(side * (inner - 0.2), int(rng.choice([Label.GroundRail, Label.Fence])), 12.0)
        elif kind == "rail":
            if rng.random() < 0.5:
                self._barriers(side * (inner + 0.5), int(rng.choice([Label.Fence, Label.GroundRail])), 12.0)
            for y in self._along(8, 110, (16, 20)):
                add(furniture.lamp_post(place(side * (inner + 13.5), y), side)[0][:3])
            self._barriers(side * (inner + 15), int(rng.choice([Label.Wall, Label.Vegetation])), 14.0)
            for y in self._along(4, 120, (8, 16)):
                add(furniture.tree(rng, look, place(side * (inner + rng.uniform(17, 26)), y)))
        else:
            self._barriers(side * (inner + 0.1), Label.GroundRail, 12.0)
            for y in self._along(4, 140, (4, 9)):
                add(furniture.tree(rng, look, place(side * (inner + rng.uniform(4, 16)), y)))
            for y in self._along(3, 50, (4, 9)):
                add(furniture.bush(rng, look, place(side * (inner + rng.uniform(1.5, 4)), y)))

    def _barriers(self, s: float, kind: int, length: float) -> None:
        rng, look = self.rng, self.domain.look
        for y in np.arange(-4.0, 100.0, length):
            if self._clear(float(y), 3 + length / 2):
                self.scene.solids += furniture.barrier(rng, look, self.street.place(s, float(y)), length, kind)

    def _buildings(self, side: int, inner: float, town: bool) -> None:
        rng, look, y = self.rng, self.domain.look, -10.0
        reach = self.street.crossing_half + 3.0
        while y < _FAR:
            frontage = float(rng.uniform(9, 22) if town else rng.uniform(8, 13))
            if self.crossing is not None and y < self.crossing + reach and y + frontage > self.crossing - reach:
                y = self.crossing + reach + (0 if town else 2)
                continue
            depth = float(rng.uniform(10, 16) if town else rng.uniform(7, 10))
            spot = self.street.place(side * (inner + depth / 2), y + frontage / 2)
            if town and rng.random() < 0.93:
                height = float(rng.uniform(10, 36) if self.number == 1 else rng.uniform(7, 20))
                self.scene.solids += furniture.tower(rng, look, spot, frontage, depth, height)
            elif not town:
                self.scene.solids += furniture.house(rng, look, spot, frontage, depth)
            y += frontage + (0.0 if town else float(rng.uniform(4, 10)))

    def _kerbside(self, side: int, kind: str) -> None:
        """Lamps, signs, trees, people and small things on the sidewalk, parked cars beside it."""
        rng, look, place, scene = self.rng, self.domain.look, self.street.place, self.scene
        kerb = self.road_half + 0.45
        for y in self._along(6 if side > 0 else 14, 110, (22, 28)):
            solids, light = furniture.lamp_post(place(side * kerb, y), side)
            scene.solids += solids
            scene.lamps.append(light)
        for y in self._along(8, 60, (12, 30)):
            scene.solids += furniture.traffic_sign(rng, place(side * (kerb + 0.2), y))
        if self.parking:
            for y in self._along(-3, 80, (5.6, 11), 6):
                scene.solids += vehicles.car(rng, look, self._heading(side * (self.road_half - 1.05), y, side))
        if kind == "green":
            return
        middle, wide = self.road_half + self.walk[side] / 2, self.walk[side] / 2 - 0.4
        if kind in ("town", "plaza") and rng.random() < 0.75:
            for y in self._along(6, 80, (9, 15)):
                scene.solids += furniture.tree(rng, look, place(side * (kerb + 0.4), y), 0.7)
        for y in self._along(4, 55, (3, 12) if kind in ("town", "plaza") else (6, 22)):
            facing = int(rng.choice([-1, 1]))
            spot = self._heading(side * (middle + rng.uniform(-wide, wide)), y, facing)
            scene.solids += vehicles.pedestrian(rng, look, spot, 1.4)
        for y in self._along(3, 50, (3, 8), 2):
            label = int(rng.choice([Label.Static, Label.Static, Label.Dynamic, Label.Dynamic, Label.Other]))
            offset = wide if kind == "town" and label != Label.Other else wide + 0.6
            scene.solids += furniture.small_thing(rng, look, place(side * (middle + offset), y), label)
        for y in self._along(6, 45, (10, 30)):
            scene.solids += vehicles.two_wheeler(rng, look, self._heading(side * (kerb + 0.4), y, side))

    def _heading(self, s: float, y: float, side: int) -> tuple[float, float, float]:
        x, y, heading = self.street.place(s, y)
        return x, y, heading + (0.0 if side > 0 else pi) + float(self.rng.normal(0, 0.02))

    def _traffic(self) -> None:
        rng, look, scene = self.rng, self.domain.look, self.scene
        eye = scene.camera.position[0]
        for side in (-1, 1):
            for lane in range(self.lanes):
                s = side * (lane + 0.5) * _LANE
                ahead = side > 0 and abs(s - eye) < _LANE / 2
                y = rng.uniform(11, 40) if ahead else rng.uniform(4, 30)
                while y < 110:
                    kind = rng.choice(["car", "bus", "truck", "two"], p=[0.58, 0.12, 0.15, 0.15])
                    spot = self._heading(s + rng.uniform(-0.3, 0.3), float(y), side)
                    speed = float(rng.uniform(5, 13))
                    drawn = {"bus": vehicles.bus, "truck": vehicles.truck, "two": vehicles.two_wheeler}
                    scene.solids += drawn.get(str(kind), vehicles.car)(rng, look, spot, speed)
                    y += rng.uniform(14, 45)

    def _crossing(self) -> None:
        """Signals and people where a street crosses; else, now and then, a signal for pedestrians."""
        rng, look, scene = self.rng, self.domain.look, self.scene
        phase = int(rng.choice([0, 0, 1, 2, 2]))
        if self.crossing is None:
            at = float(rng.uniform(12, 30)) if rng.random() < 0.5 else None
        else:
            at = self.crossing - self.street.crossing_half - 4.2
        if at is None:
            return
        for side in (-1, 1):
            spot = self.street.place(side * (self.road_half + 0.6), at)
            scene.solids += furniture.traffic_light(rng, spot, side, phase)
        for _ in range(int(rng.integers(0, 5))):
            x, y, _ = self.street.place(float(rng.uniform(-self.road_half, self.road_half)), at + rng.uniform(1, 3))
            turn = pi / 2 * int(rng.choice([-1, 1]))
            scene.solids += vehicles.pedestrian(rng, look, (x, y, turn), 1.3)

    def _skyline(self) -> None:
        """Hills, woods or a distant town, 400 m away."""
        rng, scene = self.rng, self.scene
        azimuth = np.linspace(0, 2 * np.pi, 513)
        label = (Label.Building, Label.Vegetation, Label.Terrain)[int(rng.integers(3))]
        if label == Label.Building:
            steps = rng.uniform(4, 1 + 34 * rng.random(90) ** 2 + 8)
            height = np.repeat(steps, 6)[:513]
        else:
            waves = [(k, rng.uniform(0, 2 * np.pi), rng.normal() / k**0.8) for k in range(3, 40, 3)]
            height = 18 + sum(12 * a * np.sin(k * azimuth + shift) for k, shift, a in waves)
            rough = 2.5 if label == Label.Vegetation else 0.4
            height = np.maximum(height + rough * rng.random(513), 3)
        height[-1] = height[0]
        scene.skyline, scene.skyline_label = height.astype(np.float32), int(label)
