"""Light and colour: the radiance of every pixel, linear and without an upper bound.

    radiance = air * (albedo * (sky (0.55 + 0.45 n_z) + sun max(0, n.l) (1 - shadow) + lamps) + glow + mirrored sky)
               + (1 - air) * horizon,      air = exp(-haze * range)
Wet ground and water mirror the picture itself, looked up along the ray turned upside down (exact for what is far).
The camera and its noise come later (sensors.py), so the event sensor can look at the same radiance.
"""

from __future__ import annotations

from math import cos, sin

import numpy as np

from .classes import Label
from .geometry import Material, Scene, Shape, SolidTable
from .look import Look
from .noise import lattice_hash, value_noise
from .paint import PAINTERS, Patch, float32, paint_ground
from .raycast import GROUND, SKY, SKYLINE, View, ground_shadow
from .weather import Weather

_LAMP_REACH = 90.0


def render(scene: Scene, table: SolidTable, view: View, flat: Surface, weather: Weather) -> np.ndarray:
    """Radiance (H, W, 3) float32 of the view in this weather; no randomness."""
    height, width = view.depth.shape
    light = _light(scene, table, view, weather, flat)
    radiance = flat.albedo * light
    ray = view.rays.reshape(3, -1)
    length = np.sqrt((ray * ray).sum(0))
    ray = ray / length
    radiance += flat.glow if weather.dark else 0.07 * flat.glow
    shiny = np.flatnonzero(flat.mirror > 0)
    if len(shiny):
        seen, normal = ray[:, shiny], flat.normal[:, shiny]
        bounce = seen - 2 * (seen * normal).sum(0) * normal
        bounce[2] = np.abs(bounce[2])
        radiance[shiny] += flat.mirror[shiny, None] * 0.8 * _gradient(weather, bounce[2])
    solid = view.solid.ravel()
    distance = view.depth.ravel() * length
    air = np.exp(-weather.haze * np.where(solid == SKY, np.float32(0), distance))[:, None]
    radiance = radiance * air + (1 - air) * np.array(weather.horizon, np.float32)
    above = np.flatnonzero(solid == SKY)
    radiance[above] = sky_colour(scene, weather, ray[:, above])
    _mirror_picture(scene, view, weather, ray, radiance)
    return radiance.reshape(height, width, 3)


class Surface:
    """Albedo, normal, glow and mirror of all N = H W pixels, flat."""

    def __init__(self, scene: Scene, table: SolidTable, view: View):
        solid, label = view.solid.ravel(), view.label.ravel()
        points, depth = view.points.reshape(3, -1), view.depth.ravel()
        count = len(solid)
        self.albedo, self.glow = np.zeros((2, count, 3), np.float32)
        self.mirror, self.low = np.zeros((2, count), np.float32)
        self.normal = np.zeros((3, count), np.float32)
        pixel = np.minimum(depth, 1e4) / scene.camera.focal(view.depth.shape[1])
        ground = np.flatnonzero(solid == GROUND)
        self.normal[2, ground] = 1
        self.albedo[ground] = paint_ground(
            scene.street, scene.look, label[ground], points[0, ground], points[1, ground], pixel[ground]
        )
        far = np.flatnonzero(solid == SKYLINE)
        rough = 0.8 + 0.4 * value_noise(np.arctan2(points[0, far], points[1, far]) * 90, points[2, far] * 0.4)
        self.albedo[far] = float32(scene.look.skyline[Label(scene.skyline_label)]) * rough[:, None]
        self.normal[:, far] = np.array([[0.0], [-0.8], [0.6]], np.float32)
        drawn = np.flatnonzero(solid >= 0)
        material = table.material[solid[drawn]]
        for kind in np.unique(material):
            where = drawn[material == kind]
            self._paint(table, scene.look, Material(kind), where, solid[where], points[:, where], pixel[where])

    def _paint(
        self,
        table: SolidTable,
        look: Look,
        kind: Material,
        where: np.ndarray,
        row: np.ndarray,
        points: np.ndarray,
        pixel: np.ndarray,
    ) -> None:
        c, s, half, taper = table.cos[row], table.sin[row], table.half[row].T, table.taper[row].T
        x, y, z = points - table.centre[row].T
        local = np.stack([c * x + s * y, c * y - s * x, z])
        unit = local / half
        shape = table.shape[row]
        rise = (unit[2] + 1) / 2
        reach = np.stack([np.abs(unit[0]) + taper[0] * rise, np.abs(unit[1]) + taper[1] * rise, np.abs(unit[2])])
        face = reach.argmax(0)
        block = np.zeros_like(local)
        for axis in range(3):
            on = face == axis
            block[axis, on] = np.sign(unit[axis, on]) / half[axis, on]
            if axis < 2:
                block[2, on] = taper[axis, on] / (2 * half[2, on])
        curved = unit / half
        curved[2, shape == Shape.DRUM] *= reach[2, shape == Shape.DRUM] > 0.999
        curved[0, shape == Shape.WHEEL] *= reach[0, shape == Shape.WHEEL] > 0.999
        normal = np.where(shape == Shape.BLOCK, block, curved)
        normal /= np.sqrt((normal * normal).sum(0)) + 1e-9
        self.normal[:, where] = np.stack([c * normal[0] - s * normal[1], s * normal[0] + c * normal[1], normal[2]])
        glow, mirror = np.zeros((len(row), 3), np.float32), np.zeros(len(row), np.float32)
        colour, style = table.colour[row], table.style[row]
        patch = Patch(unit, local, face, points[2], pixel, colour, style, half.T, shape, look, glow, mirror)
        self.albedo[where] = PAINTERS[kind](patch)
        self.glow[where], self.mirror[where] = patch.glow, patch.mirror
        self.low[where] = np.exp(-np.maximum(points[2], 0) / 0.5)


def sun_direction(scene: Scene, weather: Weather) -> np.ndarray:
    """Unit vector towards the light: the sun, or straight up where clouds spread it."""
    if weather.overhead:
        return np.array([0, 0, 1], np.float32)
    flat = cos(scene.sun_elevation)
    return np.array(
        [flat * sin(scene.sun_azimuth), flat * cos(scene.sun_azimuth), sin(scene.sun_elevation)], np.float32
    )


def _soften(mask: np.ndarray, radius: int) -> np.ndarray:
    """Mean over a (2 radius + 1) square, edges repeated; (H, W) float32."""
    for axis in (0, 1):
        padded = np.concatenate([mask.take([0] * (radius + 1), axis), mask, mask.take([-1] * radius, axis)], axis)
        total = padded.cumsum(axis, dtype=np.float32)
        size = mask.shape[axis]
        width = 2 * radius + 1
        mask = (total.take(range(width, width + size), axis) - total.take(range(size), axis)) / width
    return mask


def _light(scene: Scene, table: SolidTable, view: View, weather: Weather, flat: Surface) -> np.ndarray:
    """Light that falls on each pixel's surface, (N, 3)."""
    direction = sun_direction(scene, weather)
    shade = ground_shadow(scene, table, view, direction).astype(np.float32)
    if weather.overhead:
        shade = _soften(shade, max(1, view.depth.shape[1] // 128))
    facing = np.maximum((flat.normal * direction[:, None]).sum(0), 0) * (1 - weather.shade * shade.ravel())
    ambient = (0.55 + 0.45 * flat.normal[2]) * (1 - 0.35 * flat.low) * (1 - 0.25 * shade.ravel())
    light = np.outer(ambient, float32(weather.sky)) + np.outer(facing, float32(weather.sun))
    return light + _lamps(scene, view, weather, flat) if weather.dark else light


def _lamps(scene: Scene, view: View, weather: Weather, flat: Surface) -> np.ndarray:
    """Headlights of the car that carries the camera (a beam that ends at the horizon) and street lamps, (N, 3)."""
    points, ray = view.points.reshape(3, -1), view.rays.reshape(3, -1)
    right, _, forward = scene.camera.axes()
    ahead = np.maximum((ray * forward[:, None]).sum(0), 1e-3)
    across = (ray * right[:, None]).sum(0) / ahead
    cut = 1 / (1 + np.exp(np.clip((ray[2] + 0.01) / 0.025, -30, 30)))
    depth = np.minimum(view.depth.ravel(), 1e3)
    beam = (0.1 + 0.9 * cut) * np.exp(-((across / 0.42) ** 2)) / (1 + (depth / 16) ** 2)
    towards = np.abs((ray * flat.normal).sum(0)) / np.sqrt((ray * ray).sum(0))
    light = np.outer(beam * (0.3 + 0.7 * towards), float32(weather.headlight))
    for x, y, z in scene.lamps:
        if y < _LAMP_REACH:
            offset = np.array([[x], [y], [z]], np.float32) - points
            square = (offset * offset).sum(0)
            slant = (offset * flat.normal).sum(0) / np.sqrt(square + 1e-6)
            strength = np.maximum(slant, 0.08) * (offset[2] > 0) / (1 + square / 22)
            light += strength[:, None] * (float32(weather.lamplight) / 9)
    return light


def _gradient(weather: Weather, up: np.ndarray) -> np.ndarray:
    """Cloudless sky for the upward component of unit vectors (K,); (K, 3)."""
    share = 1 - np.exp(-3.2 * np.maximum(up, 0))
    zenith, horizon = float32(weather.zenith), float32(weather.horizon)
    return horizon + share[:, None] * (zenith - horizon)


def sky_colour(scene: Scene, weather: Weather, ray: np.ndarray) -> np.ndarray:
    """Sky along unit rays (3, K): gradient, clouds on a flat ceiling, the sun's glow, stars by night; (K, 3)."""
    colour = _gradient(weather, ray[2])
    if weather.cloud:
        scale = 1.6 / (np.maximum(ray[2], 0) + 0.12)
        x, y = ray[0] * scale + scene.sun_azimuth * 7, ray[1] * scale
        noise = 0.55 * value_noise(x, y) + 0.3 * value_noise(x * 2.3, y * 2.3) + 0.15 * value_noise(x * 5.1, y * 5.1)
        cover = np.clip((noise - 0.75 + 0.4 * weather.cloud) * 3.6, 0, 1) * np.clip(ray[2] * 7, 0, 1)
        bright = float32(weather.horizon) * (1.25 - 0.75 * noise)[:, None]
        colour = colour + (bright - colour) * (cover * 0.85)[:, None]
    if not weather.overhead:
        towards = np.maximum((ray * sun_direction(scene, weather)[:, None]).sum(0), 0)
        glow = 0.45 * towards**24 + 3.0 * towards**900
        colour = colour + glow[:, None] * float32(weather.sun_glow)
    if weather.dark:
        star = lattice_hash(ray[0] * 160, ray[1] * 160, ray[2] * 160) > 0.9992
        colour = colour + (star * 0.15)[:, None]
    return colour


def _mirror_picture(scene: Scene, view: View, weather: Weather, ray: np.ndarray, radiance: np.ndarray) -> None:
    """Add the upside-down picture to water and, in the rain, to all ground."""
    height, width = view.depth.shape
    water = view.label.ravel() == Label.Water
    ground = np.flatnonzero((view.solid.ravel() == GROUND) & (water | (weather.wet > 0)))
    if not len(ground):
        return
    points, wet = view.points.reshape(3, -1)[:, ground], water[ground]
    ripple = value_noise(points[0] * np.where(wet, 0.5, 3), points[1] * np.where(wet, 1.4, 3)) - 0.5
    turned = ray[:, ground] * float32([[1], [1], [-1]])
    turned[2] += ripple * np.where(wet, 0.10, 0.05)
    right, up, forward = scene.camera.axes()
    focal = scene.camera.focal(width)
    depth = np.maximum(turned.T @ forward, 1e-3)
    column = np.clip(width / 2 + focal * (turned.T @ right) / depth, 0, width - 1).astype(np.int32)
    row = np.clip(height / 2 - focal * (turned.T @ up) / depth, 0, height - 1).astype(np.int32)
    grazing = (1 - np.abs(ray[2, ground])) ** 4
    puddle = np.clip(value_noise(points[0] * 0.6, points[1] * 0.35) * 2 - 0.6, 0, 1)
    share = np.where(wet, 0.2 + 0.65 * grazing, weather.wet * (0.10 + 0.7 * grazing * (0.3 + 0.7 * puddle)))
    dry = 1 - 0.45 * weather.wet * ~wet
    seen = radiance[row * width + column]
    radiance[ground] = radiance[ground] * (dry * (1 - share))[:, None] + seen * share[:, None]
