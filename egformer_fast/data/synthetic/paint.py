"""Textures of surfaces: albedo (linear, 0 to 1), what glows by itself, and how much of the sky glass mirrors.

Patterns are made of soft edges as wide as a pixel's footprint, so that windows and bricks fade into their mean with
distance instead of flickering.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .classes import Label
from .geometry import Material, Shape, Street
from .look import Look
from .noise import lattice_hash, value_noise


@dataclass
class Patch:
    """The pixels of one material, K of them: unit and metric local coordinates, face, footprint, solid's parameters."""

    unit: np.ndarray  # (3, K)
    local: np.ndarray  # (3, K) metres
    face: np.ndarray  # (K,) axis of the face that was hit: 0, 1 or 2
    height: np.ndarray  # (K,) metres above ground
    pixel: np.ndarray  # (K,) metres that a pixel covers
    colour: np.ndarray  # (K, 3)
    style: np.ndarray  # (K, 4)
    half: np.ndarray  # (K, 3)
    shape: np.ndarray  # (K,)
    look: Look
    glow: np.ndarray  # (K, 3) out: light that leaves by itself, by night
    mirror: np.ndarray  # (K,) out: share of the sky seen in the surface


def float32(values: object) -> np.ndarray:
    """An array of single precision: constants in double would turn whole pictures into doubles."""
    return np.array(values, np.float32)


def _band(value: np.ndarray, centre: float | np.ndarray, half: float | np.ndarray, soft: np.ndarray) -> np.ndarray:
    """1 inside |value - centre| < half, 0 outside, a ramp of width `soft` between."""
    return np.clip((half - np.abs(value - centre)) / soft + 0.5, 0, 1)


def _mix(colour: np.ndarray, other: np.ndarray | tuple[float, float, float], share: np.ndarray) -> np.ndarray:
    return colour + (np.asarray(other, np.float32) - colour) * share[:, None]


def _plain(patch: Patch) -> np.ndarray:
    return patch.colour


def _concrete(patch: Patch) -> np.ndarray:
    grain = value_noise(patch.local[0] * 1.3 + patch.local[1] * 0.9, patch.height * 1.7)
    return patch.colour * (0.82 + 0.36 * grain)[:, None]


def _facade(patch: Patch) -> np.ndarray:
    """Rows of windows in a wall, a shop floor in town (style: spacing, storey, glazed share, number; < 0 a house)."""
    step, storey, glazed, number = patch.style.T
    along = np.where(patch.face == 0, patch.local[1], patch.local[0])
    dirt = value_noise(along * 0.35 + number, patch.height * 0.25)
    wall = patch.colour * (0.8 + patch.look.dirt * dirt)[:, None]
    town = number > 0
    level, column = np.floor(patch.height / storey), np.floor(along / step)
    u, v = along / step - column - 0.5, patch.height / storey - level - 0.5
    soft_u, soft_v = patch.pixel / step + 0.02, patch.pixel / storey + 0.02
    shop = town & (level < 1)
    wide, high = np.where(shop, 0.44, glazed / 2), np.where(shop, 0.36, 0.29)
    side = patch.face < 2
    window = _band(u, 0, wide, soft_u) * _band(v, 0.02, high, soft_v) * side
    frame = _band(u, 0, wide + 0.05, soft_u) * _band(v, 0.02, high + 0.04, soft_v) * side
    wall = _mix(wall, patch.look.window_frame, frame * 0.55)
    ledge = _band(v, -0.5, 0.05, soft_v) * side * town
    wall = _mix(wall, (0.5, 0.48, 0.45), ledge * 0.6)
    awning = _band(v, 0.44, 0.07, soft_v) * shop * side
    tint = np.stack([lattice_hash(column * 0 + number, column // 3, level + k) for k in range(3)], 1) * 0.5
    wall = wall + (tint - wall) * (awning * 0.8)[:, None]
    chance = lattice_hash(column, level, number + patch.face)
    glass = 0.03 + 0.05 * chance
    curtain = (chance > 0.7) * 0.22
    albedo = _mix(wall, np.stack([glass + curtain * 0.9] * 3, 1), window)
    lit = window * ((chance < patch.look.window_lit) | shop & (chance < 0.75))
    patch.glow += lit[:, None] * (0.15 + 0.5 * chance)[:, None] * float32(patch.look.window_light)
    patch.mirror += window * (0.12 + 0.4 * lattice_hash(column, level, number + 7))
    return albedo


def _roof(patch: Patch) -> np.ndarray:
    rows = _band(patch.height * 3.2 % 1.0, 0.0, 0.12, patch.pixel * 3.2 + 0.1)
    grain = value_noise(patch.local[0] * 2 + patch.local[1] * 2, patch.height * 4)
    return patch.colour * (0.85 + 0.3 * grain - 0.3 * rows)[:, None]


def _brick(patch: Patch) -> np.ndarray:
    along = np.where(patch.face == 0, patch.local[1], patch.local[0])
    high, long = patch.look.brick
    course = np.floor(patch.height / high)
    joint = 1 - _band(patch.height / high % 1, 0.5, 0.4, patch.pixel / high + 0.1)
    shift = along / long + 0.5 * (course % 2)
    joint = np.maximum(joint, 1 - _band(shift % 1, 0.5, 0.44, patch.pixel / long + 0.05))
    tone = 0.75 + 0.4 * lattice_hash(shift, course, patch.half[:, 1]) * np.clip(0.3 / (patch.pixel + 0.1), 0.3, 1)
    return _mix(patch.colour * tone[:, None], (0.5, 0.48, 0.44), joint * 0.5)


def _leaf(patch: Patch) -> np.ndarray:
    fine = lattice_hash(*(patch.local * patch.look.leaf_scale))
    coarse = value_noise(patch.local[0] * 1.4 + patch.local[1] * 1.1 + 9, patch.local[2] * 1.4)
    depth = 0.55 + 0.45 * np.clip(patch.unit[2] * 0.6 + 0.5, 0, 1)
    return patch.colour * (depth * (0.45 + 0.55 * fine + 0.5 * coarse))[:, None]


def _car_body(patch: Patch) -> np.ndarray:
    x, y, z = patch.unit
    ends, soft = patch.face == 1, patch.pixel / patch.half[:, 2] + 0.03
    lights = ends * _band(np.abs(x), 0.78, 0.2, soft) * _band(z, 0.42, 0.24, soft)
    colour = _mix(patch.colour, (0.02, 0.02, 0.02), _band(z, -0.9, 0.25, soft) * 0.85)
    colour = _mix(
        colour, (0.03, 0.03, 0.03), ends * _band(x, 0, 0.45, soft) * _band(z, -0.05, 0.22, soft) * (y > 0) * 0.8
    )
    colour = _mix(colour, (0.75, 0.75, 0.7), ends * _band(x, 0, 0.26, soft) * _band(z, -0.3, 0.14, soft))
    doors = (patch.face == 0) * _band(np.abs(y * patch.half[:, 1] - 0.1), 0.75, 0.03, patch.pixel + 0.01)
    colour = _mix(colour, (0.02, 0.02, 0.02), doors * 0.6)
    lamp = np.where((y > 0)[:, None], float32([0.85, 0.85, 0.8]), float32([0.55, 0.03, 0.02]))
    patch.glow += lights[:, None] * np.where((y > 0)[:, None], float32([5.0, 4.8, 4.2]), float32([1.6, 0.05, 0.03]))
    patch.mirror += 0.08 * (patch.face == 2) + 0.05
    return colour + (lamp - colour) * lights[:, None]


def _car_glass(patch: Patch) -> np.ndarray:
    """The cabin: glass but for the roof and the pillars."""
    x, y, z = patch.unit
    soft = patch.pixel / patch.half[:, 2] + 0.04
    across = np.where(patch.face == 0, y / (1 - 0.2 * (z + 1)), x / (1 - 0.1 * (z + 1)))
    pane = _band(across, 0, 0.9, soft) * _band(z, -0.05, 0.85, soft) * (patch.face < 2)
    pane *= 1 - (patch.face == 0) * _band(across, -0.12, 0.05, soft)
    patch.mirror += 0.28 * pane + 0.1 * (patch.face == 2)
    return _mix(patch.colour, (0.02, 0.025, 0.03), pane)


def _bus_side(patch: Patch) -> np.ndarray:
    x, y, z = patch.unit
    ends, soft = patch.face == 1, patch.pixel / patch.half[:, 2] + 0.03
    along = y * patch.half[:, 1] / 1.35
    pane = np.where(ends, _band(x, 0, 0.88, soft), _band(along % 1, 0.5, 0.45, patch.pixel / 1.35 + 0.03))
    pane = pane * _band(z, 0.3, np.where(ends, 0.45, 0.34), soft) * (patch.face < 2)
    colour = _mix(patch.colour, (0.7, 0.7, 0.68), _band(z, -0.25, 0.1, soft) * 0.8)
    colour = _mix(colour, (0.03, 0.03, 0.03), _band(z, -1.0, 0.15, soft))
    colour = _mix(colour, (0.9, 0.6, 0.1), ends * _band(x, 0, 0.6, soft) * _band(z, 0.87, 0.07, soft))
    patch.glow += (pane * 0.5)[:, None] * np.array([1.0, 0.9, 0.65], np.float32)
    lights = ends * _band(np.abs(x), 0.8, 0.12, soft) * _band(z, -0.6, 0.1, soft)
    patch.glow += lights[:, None] * np.where((y > 0)[:, None], float32([5, 4.8, 4.2]), float32([1.6, 0.05, 0.03]))
    patch.mirror += 0.25 * pane
    return _mix(colour, (0.03, 0.035, 0.04), pane)


def _signal(patch: Patch) -> np.ndarray:
    """Three lamps, the one of the phase burning, on the faces along the street."""
    x, z = patch.local[0], patch.local[2]
    colours = np.array([[1.0, 0.06, 0.04], [1.0, 0.55, 0.05], [0.1, 1.0, 0.35]], np.float32)
    albedo = patch.colour.copy()
    for k, middle in enumerate((0.45, 0.0, -0.45)):
        disc = _band(np.hypot(x, z - middle), 0, 0.2, patch.pixel + 0.02) * (patch.face == 1)
        burning = (patch.style[:, 0] == k) * disc
        albedo = _mix(albedo, colours[k] * 0.12, disc)
        patch.glow += burning[:, None] * colours[k] * 6.0
    return albedo


def _sign(patch: Patch) -> np.ndarray:
    """Style 0 limit, 1 warning, 2 information, 3 direction board, 4 advert column."""
    face, chance = patch.style[:, 0], patch.style[:, 1]
    x, z = patch.unit[0], patch.unit[2]
    soft = patch.pixel / patch.half[:, 2] + 0.03
    radius = np.where(patch.shape == Shape.BALL, np.hypot(x, z), np.maximum(np.abs(x), np.abs(z)))
    inner = _band(radius, 0, 0.68, soft)
    rims, fills = float32(patch.look.sign_rims), float32(patch.look.sign_fills)
    kind = face.astype(np.int32)
    inner = np.where(kind == 3, _band(radius, 0, 0.93, soft), inner)
    colour = rims[kind] * (1 - inner)[:, None] + fills[kind] * inner[:, None]
    glyph = _band(z, 0.0, 0.35, soft) * _band(x % 0.5, 0.25, 0.13, soft) * (np.abs(x) < 0.5)
    text = _band(z % 0.6, 0.3, 0.1, soft) * (np.abs(x) < 0.75) * (lattice_hash(x * 9, z * 2, chance * 99) < 0.75)
    colour = _mix(colour, (0.03, 0.03, 0.03), glyph * (kind < 2))
    colour = _mix(colour, (0.75, 0.75, 0.75), np.where(kind >= 2, text, 0))
    poster = lattice_hash(np.arctan2(x, patch.unit[1]) * 1.9, patch.height * 0.9, chance * 50)
    colour = _mix(colour, np.stack([poster * 0.6, 0.45 - 0.3 * poster, poster * 0.2 + 0.15], 1), (kind == 4) * 0.7)
    return _mix(colour, (0.35, 0.35, 0.35), ((patch.unit[1] > 0) & (kind < 4)) * 1.0)


def _lamp(patch: Patch) -> np.ndarray:
    patch.glow += np.array([5.0, 4.0, 2.2], np.float32)
    return patch.colour


def _striped(patch: Patch) -> np.ndarray:
    """Corrugated sides; style[0] is the spacing in metres (0: the two long grooves of a guard rail)."""
    spacing = patch.style[:, 0]
    along = np.where(patch.face == 0, patch.local[1], patch.local[0]) / np.where(spacing > 0, spacing, 1)
    value = np.where(spacing > 0, along % 1, (patch.unit[2] + 0.15) * 1.6 % 1)
    soft = patch.pixel / np.where(spacing > 0, spacing, patch.half[:, 2]) + 0.1
    return patch.colour * (1 - 0.4 * _band(value, 0.5, 0.14, soft))[:, None]


PAINTERS = {
    Material.PLAIN: _plain, Material.FACADE: _facade, Material.ROOF: _roof, Material.LEAF: _leaf,
    Material.CAR_BODY: _car_body, Material.CAR_GLASS: _car_glass, Material.BUS_SIDE: _bus_side,
    Material.BRICK: _brick, Material.SIGNAL: _signal, Material.SIGN: _sign, Material.LAMP: _lamp,
    Material.CONCRETE: _concrete, Material.STRIPED: _striped,
}  # fmt: skip


def paint_ground(
    street: Street, look: Look, label: np.ndarray, x: np.ndarray, y: np.ndarray, pixel: np.ndarray
) -> np.ndarray:
    """Albedo (K, 3) of ground points by class: asphalt, slabs, grass, ballast with rails, ..."""
    colours = np.full((len(Label), 3), 0.3, np.float32)
    colours[list(look.ground)] = list(look.ground.values())
    albedo = colours[label]
    s = x - street.bend * y * y
    near = np.clip(0.5 / (pixel + 0.25), 0, 1)
    fine = (lattice_hash(s * 30, y * 30, s * 0) - 0.5) * np.clip(0.05 / (pixel + 0.01), 0, 1)
    coarse = value_noise(s * 0.45, y * 0.22) - 0.5
    blotch = value_noise(s * 1.7 + 3, y * 1.7) - 0.5
    tone = 1 + look.grain[0] * coarse + look.grain[1] * fine + near * 0.15 * blotch
    grass = label == Label.Terrain
    tone = np.where(grass, 1 + 0.6 * coarse + 0.8 * fine + near * 0.6 * blotch, tone)
    slab = np.where(label == Label.Ground, 2 * look.slab, look.slab)
    joint = np.maximum(
        _band(s / slab % 1, 0, 0.025, pixel / slab + 0.02), _band(y / slab % 1, 0, 0.025, pixel * 3 / slab + 0.02)
    )
    paved = (label == Label.SideWalk) | (label == Label.Ground)
    tone = tone * np.where(paved, 1 - 0.35 * joint * near + 0.12 * (lattice_hash(s / slab, y / slab, s * 0) - 0.5), 1)
    kerb = (label == Label.SideWalk) * _band(np.abs(s), street.road_half + 0.12, 0.12, pixel + 0.02)
    gutter = (label == Label.Road) * _band(np.abs(s), street.road_half - 0.1, 0.12, pixel + 0.02)
    tone = tone * (1 + 0.5 * kerb - 0.35 * gutter)
    worn = (label == Label.Road) * _band(np.abs(np.abs(s) % 3.1 - 1.55), 0.75, 0.25, pixel + 0.4)
    tone = tone * (1 - 0.14 * worn)
    albedo = albedo * tone[:, None]
    track = label == Label.RailTrack
    if track.any():
        albedo[track] = _rails(street, s[track], y[track], pixel[track], albedo[track])
    return albedo


def _rails(street: Street, s: np.ndarray, y: np.ndarray, pixel: np.ndarray, ballast: np.ndarray) -> np.ndarray:
    """Sleepers every 0.65 m and two rails in each band of track."""
    bands = np.searchsorted(np.array(street.edges), s)
    edges = np.array(street.edges)
    middle = (edges[np.clip(bands - 1, 0, len(edges) - 1)] + edges[np.clip(bands, 0, len(edges) - 1)]) / 2
    off = np.abs(s - middle)
    sleeper = _band(y / 0.65 % 1, 0.5, 0.2, pixel * 3 / 0.65 + 0.05) * _band(off, 0, 1.25, pixel + 0.02)
    albedo = _mix(ballast, (0.30, 0.28, 0.26), sleeper * 0.8)
    return _mix(albedo, (0.06, 0.05, 0.05), _band(off, 0.72, 0.07, pixel + 0.01))
