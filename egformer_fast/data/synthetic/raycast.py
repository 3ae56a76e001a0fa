"""Exact visibility by ray casting in numpy: depth, what is hit, and what lies in the shade.

A convex solid is the part of a ray between t_in = max of its entries and t_out = min of its exits; it is hit where
t_in < t_out. Each solid only touches the pixel window of its projected box (clipped at the near plane), nearest solids
first, so that hidden ones fall out by one comparison. Shadows reuse the same intervals with rays from the ground to
the sun. Every pixel is one ray through its centre: depth and label are exact there, nothing is blended.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .classes import Label
from .geometry import Cutout, Scene, Shape, SolidTable, Street
from .noise import lattice_hash

GROUND, SKYLINE, SKY = -1, -2, -3
SKYLINE_RANGE = 400.0
_NEAR = 0.2
_EDGES = np.array([(a, b) for a, b in combinations(range(8), 2) if (a ^ b).bit_count() == 1])
_TINY = np.float32(1e-12)


@dataclass
class View:
    """What a camera sees. H x W pixels.

    rays: (3, H, W) float32, forward component 1;  depth: (H, W) float32 metres along the optical axis, inf in the sky
    solid: (H, W) int32, row of the SolidTable or GROUND, SKYLINE, SKY;  label: (H, W) uint8 class index
    """

    rays: np.ndarray
    depth: np.ndarray
    solid: np.ndarray
    label: np.ndarray
    points: np.ndarray  # (3, H, W) world coordinates; the camera's own position in the sky


def cast(scene: Scene, table: SolidTable, height: int, width: int) -> View:
    """Look at the scene: depth, solid, label and world point of each pixel."""
    rays = scene.camera.rays(height, width)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        depth, solid = _background(scene, rays)
        _draw_solids(scene, table, rays, depth, solid)
    position = np.array(scene.camera.position, np.float32)[:, None, None]
    points = position + rays * np.where(solid == SKY, np.float32(0), depth)
    return View(rays, depth, solid, _labels(scene, table, solid, points), points)


def _background(scene: Scene, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ground plane up to the skyline's distance, then the skyline (a cylinder around the camera), then sky."""
    eye = np.float32(scene.camera.position[2])
    across = np.hypot(rays[0], rays[1])
    ground_depth = np.where(rays[2] < 0, -eye / rays[2], np.inf).astype(np.float32)
    skyline_depth = np.float32(SKYLINE_RANGE) / across
    azimuth = (np.arctan2(rays[0], rays[1]) + np.pi) / (2 * np.pi) * len(scene.skyline)
    top = np.interp(azimuth, np.arange(len(scene.skyline)), scene.skyline)
    solid = np.where(eye + skyline_depth * rays[2] < top, SKYLINE, SKY).astype(np.int32)
    depth = np.where(solid == SKYLINE, skyline_depth, np.float32(np.inf))
    on_ground = ground_depth < skyline_depth
    solid[on_ground] = GROUND
    return np.where(on_ground, ground_depth, depth), solid


def _draw_solids(scene: Scene, table: SolidTable, rays: np.ndarray, depth: np.ndarray, solid: np.ndarray) -> None:
    windows, nearest = pixel_windows(scene, table.corners(), *depth.shape)
    position = np.array(scene.camera.position, np.float32)
    for p in np.argsort(nearest, kind="stable"):
        top, bottom, left, right = windows[p]
        here = depth[top:bottom, left:right]
        if here.size == 0 or nearest[p] >= here.max():
            continue
        origin = _to_unit(table, p, position - table.centre[p])
        ray = _to_unit(table, p, rays[:, top:bottom, left:right])
        enter, leave = _interval(table, p, origin, ray)
        hit = (enter < leave) & (enter > 0) & (enter < here)
        if table.cutout[p] != Cutout.NONE and hit.any():
            hit &= _solid_part(table, p, [o + enter * d for o, d in zip(origin, ray, strict=True)], ray)
        np.copyto(here, enter, where=hit)
        np.copyto(solid[top:bottom, left:right], p, where=hit)


def pixel_windows(scene: Scene, corners: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel windows (P, 4: top, bottom, left, right) and least depths (P,) of boxes with corners (P, 8, 3)."""
    camera = scene.camera
    depth = (corners - np.array(camera.position, np.float32)) @ camera.axes()[2]
    a, b = _EDGES[:, 0], _EDGES[:, 1]
    share = (depth[:, a] - _NEAR) / np.where(depth[:, a] == depth[:, b], _TINY, depth[:, a] - depth[:, b])
    cut = corners[:, a] + share[..., None] * (corners[:, b] - corners[:, a])
    crosses = (depth[:, a] - _NEAR) * (depth[:, b] - _NEAR) < 0
    valid = np.concatenate([depth >= _NEAR, crosses], 1)
    u, v, _ = camera.project(np.concatenate([corners, cut], 1), height, width)

    def bounds(values: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
        low = np.where(valid, values, np.inf).min(1) - 1.5
        high = np.where(valid, values, -np.inf).max(1) + 1.5
        return np.clip(low, 0, limit).astype(np.int32), np.clip(high, 0, limit).astype(np.int32)

    (left, right), (top, bottom) = bounds(u, width), bounds(v, height)
    return np.stack([top, bottom, left, right], 1), np.maximum(depth.min(1), 0)


def _to_unit(table: SolidTable, p: int, vector: np.ndarray) -> list[np.ndarray]:
    """World vector (3, ...) in the unit coordinates of solid p."""
    c, s, half = table.cos[p], table.sin[p], table.half[p]
    x, y, z = vector
    return [x * (c / half[0]) + y * (s / half[0]), y * (c / half[1]) - x * (s / half[1]), z / half[2]]


def _slab(origin: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inverse = 1 / ray
    first, second = (-1 - origin) * inverse, (1 - origin) * inverse
    return np.minimum(first, second), np.maximum(first, second)


def _round(origin: list[np.ndarray], ray: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Interval inside the unit circle or sphere; empty (+inf, -inf) where the ray misses."""
    square = sum(d * d for d in ray)
    mixed = sum(o * d for o, d in zip(origin, ray, strict=True))
    constant = sum(o * o for o in origin) - 1
    inside = mixed * mixed - square * constant
    root = np.sqrt(np.maximum(inside, 0))
    miss = inside <= 0
    return np.where(miss, np.inf, (-mixed - root) / square), np.where(miss, -np.inf, (-mixed + root) / square)


def _interval(
    table: SolidTable, p: int, origin: list[np.ndarray], ray: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Ray parameters (enter, leave) of solid p; origin and ray are in its unit coordinates and broadcast."""
    shape = table.shape[p]
    if shape == Shape.BALL:
        return _round(origin, ray)
    if shape in (Shape.DRUM, Shape.WHEEL):
        axis = 2 if shape == Shape.DRUM else 0
        ends = _slab(origin[axis], ray[axis])
        side = _round(*[[v[k] for k in range(3) if k != axis] for v in (origin, ray)])
        return np.maximum(ends[0], side[0]), np.minimum(ends[1], side[1])
    enter, leave = _slab(origin[2], ray[2])
    for axis in (0, 1):
        taper = table.taper[p, axis]
        if taper == 0:
            first, last = _slab(origin[axis], ray[axis])
            enter, leave = np.maximum(enter, first), np.minimum(leave, last)
            continue
        for sign in (1, -1):
            gap = sign * origin[axis] + taper * (origin[2] + 1) / 2 - 1
            rate = sign * ray[axis] + taper * ray[2] / 2
            rate = np.where(rate == 0, _TINY, rate)
            t = -gap / rate
            enter = np.where(rate < 0, np.maximum(enter, t), enter)
            leave = np.where(rate > 0, np.minimum(leave, t), leave)
    return enter, leave


def _solid_part(table: SolidTable, p: int, q: list[np.ndarray], ray: list[np.ndarray]) -> np.ndarray:
    """Where the hit point q (unit coordinates) is matter and not one of the holes of the solid's cutout."""
    half = table.half[p]
    kind = table.cutout[p]
    if kind == Cutout.SPOKES:
        return (np.hypot(q[1], q[2]) > 0.78) | (np.abs(q[1]) < 0.08) | (np.abs(q[2]) < 0.08)
    if kind == Cutout.LEAF:
        chance = lattice_hash(*[q[k] * (half[k] / 0.22) for k in range(3)])
        if table.shape[p] != Shape.BALL:
            return chance < 0.8
        facing = -sum(a * b for a, b in zip(q, ray, strict=True)) / np.sqrt(sum(d * d for d in ray))
        return (facing > 0.75 * chance - 0.1) & (chance < 0.95)
    along = int(half[1] > half[0])
    metres = q[along] * half[along]
    if kind == Cutout.PICKET:
        return (metres % 0.3 < 0.2) | (np.abs(np.abs(q[2]) - 0.6) < 0.12)
    return (q[2] > 0.1) | (metres % 2.0 < 0.14)


def ground_label(street: Street, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Class of ground points (any shape), uint8: bands, the crossing street, then painted lines."""
    s = x - street.bend * y * y
    label = np.array(street.bands, np.uint8)[np.searchsorted(np.array(street.edges, np.float32), s)]
    on_road = np.abs(s) < street.road_half
    clear = on_road
    if street.crossing is not None:
        off = np.abs(y - street.crossing)
        label[(off < street.crossing_half + 2.5) & ~on_road & (np.abs(s) < 70)] = Label.SideWalk
        label[(off < street.crossing_half) & (np.abs(s) < 70)] = Label.Road
        gap = street.crossing_half + 3.8
        clear = on_road & (off > gap + 0.6)
        zebra = on_road & (off < gap) & (off > street.crossing_half + 0.8) & (s % 1.0 < 0.5)
        stop = on_road & (s > 0) & (y < street.crossing) & (off > gap + 0.6) & (off < gap + 1.0)
        label[zebra | stop] = Label.RoadLine
    for line, dash in street.lines:
        mark = clear & (np.abs(s - line) < 0.08)
        label[mark & (y % 9 < 4) if dash else mark] = Label.RoadLine
    return label


def _labels(scene: Scene, table: SolidTable, solid: np.ndarray, points: np.ndarray) -> np.ndarray:
    label = np.full(solid.shape, Label.Sky, np.uint8)
    label[solid == SKYLINE] = scene.skyline_label
    drawn = solid >= 0
    label[drawn] = table.label[solid[drawn]]
    ground = solid == GROUND
    label[ground] = ground_label(scene.street, points[0][ground], points[1][ground])
    return label


def ground_shadow(scene: Scene, table: SolidTable, view: View, sun: np.ndarray) -> np.ndarray:
    """Ground pixels from which a solid hides the sun; `sun` is the unit vector towards it; (H, W) bool."""
    corners = table.corners()
    footprint = corners - sun * (np.maximum(corners[..., 2:], 0) / sun[2])
    windows, _ = pixel_windows(scene, footprint, *view.depth.shape)
    ground = view.solid == GROUND
    shade = np.zeros(ground.shape, bool)
    rows = np.flatnonzero(ground.any(1))
    first = int(rows[0]) if len(rows) else ground.shape[0]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for p, (top, bottom, left, right) in enumerate(windows):
            window = np.s_[max(top, first) : bottom, left:right]
            open_ground = ground[window] & ~shade[window]
            if not open_ground.any():
                continue
            origin = _to_unit(table, p, view.points[(slice(None), *window)] - table.centre[p][:, None, None])
            enter, leave = _interval(table, p, origin, _to_unit(table, p, sun))
            shade[window] |= open_ground & (enter < leave) & (leave > 0)
    return shade
