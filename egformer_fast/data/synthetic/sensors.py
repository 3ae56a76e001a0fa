"""Turns what is there into what four sensors say: RGB camera, depth, event camera and LiDAR, each uint8 (H, W, 3).

RGB    sRGB-like: 255 (1 - exp(-gain radiance))^(1/1.95) after blur by the lens, noise before the curve.
Depth  metres along the optical axis in three equal channels, v = round(255 sqrt(z / 100)), 0 = nothing measured
       (sky, out of range, a hole): z = 100 (v / 255)^2, steps of 0.25 m at 10 m.
Event  change of log radiance over 1/60 s of the car's and the others' motion, dL = L(x) - L(x + flow), counted in
       units of the threshold: [brighter, darker, 0], 40 a count. flow comes from the exact depth and velocities.
LiDAR  40 beams from -22 to +14 degrees, a point every 0.6 degrees, at the camera's place; zeros where no point fell:
       [distance (as depth, but along the ray), strength of the echo, 20 + 20 * height above ground in metres].
These are the sensors of the domain `home`; rig.py says what other hardware may do worse.
"""

from __future__ import annotations

from math import ceil, radians

import numpy as np

from .classes import Label
from .geometry import Camera, Scene, SolidTable
from .paint import float32
from .raycast import View
from .rig import Hardware
from .shading import Surface
from .weather import Weather

DEPTH_LIMIT = 100.0
_PERIOD = 1 / 60
_PERFECT = Hardware()
_REFLECTIVE = np.ones(len(Label), np.float32)
_REFLECTIVE[[Label.RoadLine, Label.TrafficSign, Label.Water]] = (2.5, 3.0, 0.1)


def encode_metres(metres: np.ndarray) -> np.ndarray:
    """uint8 code of distances: 1 to 255 on a square-root scale up to 100 m, 0 beyond."""
    code = np.clip(np.rint(255 * np.sqrt(np.maximum(metres, 0) / DEPTH_LIMIT)), 1, 255)
    return np.where(metres <= DEPTH_LIMIT, code, 0).astype(np.uint8)


def decode_metres(code: np.ndarray) -> np.ndarray:
    """Metres of codes; nan where nothing was measured."""
    return np.where(code > 0, DEPTH_LIMIT * (code / 255.0) ** 2, np.nan).astype(np.float32)


def _smear(image: np.ndarray, dy: float, dx: float, length: int) -> np.ndarray:
    """Mean of `length` copies shifted along (dy, dx); edges repeat."""
    height, width = image.shape[:2]
    total = np.zeros_like(image)
    for k in range(length):
        rows = np.clip(np.arange(height) + round((k - length / 2) * dy), 0, height - 1)
        columns = np.clip(np.arange(width) + round((k - length / 2) * dx), 0, width - 1)
        total += image[rows][:, columns]
    return total / length


def _lens(image: np.ndarray) -> np.ndarray:
    """A blur of about half a pixel: 1-6-1 along both axes."""
    padded = np.pad(image, ((1, 1), (0, 0), (0, 0)), mode="edge")
    image = 0.75 * image + 0.125 * (padded[2:] + padded[:-2])
    padded = np.pad(image, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return 0.75 * image + 0.125 * (padded[:, 2:] + padded[:, :-2])


def _bloom(image: np.ndarray) -> np.ndarray:
    """Halo around what is brighter than white, from a copy at a quarter of the size."""
    height, width = image.shape[:2]
    bright = np.maximum(image - 1.0, 0)[: height // 4 * 4, : width // 4 * 4]
    small = bright.reshape(height // 4, 4, width // 4, 4, 3).mean((1, 3))
    for _ in range(3):
        small = _smear(_smear(small, 1, 0, 5), 0, 1, 5)
    column, row = np.arange(width) / 4 - 0.375, np.arange(height)[:, None] / 4 - 0.375
    return image + 0.5 * np.stack([_sample(small[..., k], column, row) for k in range(3)], -1)


def rain_streaks(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Slanted bright lines of falling drops, (H, W, 1), near 0 where none passes."""
    drops = (rng.random((height, width), dtype=np.float32) < 0.006) * rng.random((height, width), dtype=np.float32)
    length = max(4, height // 18)
    return (_smear(drops, 1, 0.18 * rng.uniform(-1, 1), length) * (0.2 * length))[..., None]


def _falloff(height: int, width: int, lost: float) -> np.ndarray:
    """Share of the light that reaches each pixel, (H, W, 1): 1 in the middle, 1 - lost in the corners."""
    row, column = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    return (1 - lost * (row**2 + column**2) / 2)[..., None]


def rgb(
    radiance: np.ndarray, weather: Weather, failure: str, rng: np.random.Generator, hardware: Hardware = _PERFECT
) -> np.ndarray:
    """The camera's picture."""
    image = _bloom(radiance) if weather.dark else radiance
    image = _lens(image)
    height, width = image.shape[:2]
    if weather.streaks:
        image = image + weather.streaks * rain_streaks(rng, height, width)
    if failure == "motionblur":
        angle = rng.uniform(-0.4, 0.4)
        image = _smear(image, np.sin(angle), np.cos(angle), max(3, width // 12))
    gain = weather.exposure * {"overexposure": 6.0, "underexposure": 1 / 25}.get(failure, 1.0)
    light = gain * image * _falloff(height, width, hardware.rgb_falloff) * float32(hardware.rgb_cast)
    light = light + hardware.rgb_veil * light.mean()
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    light = np.maximum(
        light + (weather.rgb_noise + hardware.rgb_noise) * noise * (0.3 + np.sqrt(np.minimum(light, 4))), 0
    )
    value = np.minimum(1.12 * (1 - np.exp(-1.25 * light)), 1) ** (1 / hardware.rgb_gamma)
    return np.rint(255 * value).astype(np.uint8)


def depth(view: View, weather: Weather, rng: np.random.Generator, hardware: Hardware = _PERFECT) -> np.ndarray:
    """Depth picture: exact in clear air with perfect hardware; else noise, holes, coarser steps, a shorter range."""
    metres = view.depth
    noise, holes = weather.depth_noise + hardware.depth_noise, weather.depth_holes + hardware.depth_holes
    if noise:
        metres = metres * (1 + noise * rng.standard_normal(metres.shape, dtype=np.float32))
    lost = metres > min(weather.depth_range, hardware.depth_range)
    if holes:
        lost |= rng.random(metres.shape, dtype=np.float32) < holes
    for step in range(1, 1 + round(hardware.depth_shadow * metres.shape[1])):
        lost[:, :-step] |= view.depth[:, step:] < 0.85 * view.depth[:, :-step]
    code = np.maximum(encode_metres(metres) // hardware.depth_step * hardware.depth_step, 1)
    return np.repeat(np.where(lost, 0, code)[..., None], 3, 2).astype(np.uint8)


def _flow(scene: Scene, table: SolidTable, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel's surface will be seen one period later, minus where it is: columns and rows, (H, W)."""
    height, width = view.depth.shape
    moving = np.zeros((2, height, width), np.float32)
    on_solid = view.solid >= 0
    moving[:, on_solid] = table.velocity[view.solid[on_solid]].T
    camera = scene.camera
    forward = camera.axes()[2]
    x, y, z = (float(v) for v in np.array(camera.position) + scene.speed * _PERIOD * forward)
    turned = camera.yaw + scene.yaw_rate * _PERIOD, camera.pitch + scene.pitch_rate * _PERIOD
    later = Camera((x, y, z), *turned, camera.fov)
    far = np.isinf(view.depth)
    points = np.array(later.position, np.float32)[:, None, None] + view.rays * 1e4
    points = np.where(far, points, view.points)
    points[:2] += moving * _PERIOD
    u, v, ahead = later.project(points.transpose(1, 2, 0), height, width)
    good = ahead > 0.1
    column, row = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    limit = width / 16
    du = np.clip(np.where(good, u - column, 0), -limit, limit)
    dv = np.clip(np.where(good, v - row, 0), -limit, limit)
    return _spread_nearest(view.depth, du, dv)


def _spread_nearest(depth: np.ndarray, du: np.ndarray, dv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the pixels around a nearer surface its motion: what it has just uncovered changes too."""
    nearest, across, down = depth, du, dv
    for axis in (0, 1):
        for step in (-2, 2):
            index = np.clip(np.arange(depth.shape[axis]) + step, 0, depth.shape[axis] - 1)
            other = depth.take(index, axis)
            closer = other < 0.9 * nearest
            nearest = np.where(closer, other, nearest)
            across = np.where(closer, du.take(index, axis), across)
            down = np.where(closer, dv.take(index, axis), down)
    return across, down


def _sample(image: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Bilinear look-up of (H, W) at fractional pixel indices, clamped."""
    height, width = image.shape
    column, row = np.clip(column, 0, width - 1.001), np.clip(row, 0, height - 1.001)
    left, top = column.astype(np.int32), row.astype(np.int32)
    fx, fy = (column - left).astype(np.float32), (row - top).astype(np.float32)
    flat, at = image.ravel(), top * width + left
    upper = flat[at] * (1 - fx) + flat[at + 1] * fx
    return upper * (1 - fy) + (flat[at + width] * (1 - fx) + flat[at + width + 1] * fx) * fy


def event(
    scene: Scene,
    table: SolidTable,
    view: View,
    radiance: np.ndarray,
    weather: Weather,
    failure: str,
    rng: np.random.Generator,
    hardware: Hardware = _PERFECT,
) -> np.ndarray:
    """Two polarity counts. `radiance` is the scene without the camera's exposure: darkness does not matter here."""
    log = np.log(radiance @ np.array([0.3, 0.59, 0.11], np.float32) + np.float32(0.004))
    du, dv = _flow(scene, table, view)
    height, width = log.shape
    change = log - _sample(log, np.arange(width) + du, np.arange(height)[:, None] + dv)
    threshold = weather.event_threshold * hardware.event_threshold
    noise = weather.event_noise + hardware.event_noise
    if weather.streaks:
        drops = rain_streaks(rng, height, width) - rain_streaks(rng, height, width)
        change = change + 1.2 * drops[..., 0]
    count = np.trunc(change / threshold)
    chance = rng.random((height, width), dtype=np.float32)
    count += (chance < noise).astype(np.float32) - (chance > 1 - noise)
    picture = np.stack([np.maximum(count, 0), np.maximum(-count, 0), np.zeros_like(count)], -1)
    picture = np.clip(picture * 40, 0, 255)
    if failure == "eventlowres":
        picture = _pool(picture, 4)
    return picture.astype(np.uint8)


def _pool(picture: np.ndarray, block: int) -> np.ndarray:
    """Mean over blocks, shown at the full size."""
    height, width = picture.shape[:2]
    tall, wide = ceil(height / block) * block, ceil(width / block) * block
    padded = np.pad(picture, ((0, tall - height), (0, wide - width), (0, 0)), mode="edge")
    small = padded.reshape(tall // block, block, wide // block, block, -1).mean((1, 3))
    return small.repeat(block, 0).repeat(block, 1)[:height, :width]


def lidar(
    scene: Scene,
    view: View,
    surface: Surface,
    weather: Weather,
    failure: str,
    rng: np.random.Generator,
    hardware: Hardware = _PERFECT,
) -> np.ndarray:
    """Scan lines in the picture, each point with the exact distance of the pixel it falls in."""
    height, width = view.depth.shape
    focal = scene.camera.focal(width)
    half_angle = np.arctan(width / 2 / focal)
    azimuth = np.arange(-half_angle, half_angle, radians(hardware.lidar_step))
    beams = np.deg2rad(np.linspace(*hardware.lidar_span, hardware.lidar_beams))
    across, beam = np.tan(azimuth)[None], np.tan(beams - scene.camera.pitch)[:, None]
    shape = (len(beams), len(azimuth))
    column = np.broadcast_to(np.floor(width / 2 + focal * across), shape).astype(np.int32)
    row = np.floor(height / 2 - focal * beam * np.sqrt(1 + across**2)).astype(np.int32)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    row, column = row[inside], column[inside]
    stretch = np.sqrt((view.rays[:, row, column] ** 2).sum(0))
    distance = view.depth[row, column] * stretch
    tall = view.points[2, row, column]
    albedo = surface.albedo.mean(1).reshape(height, width)[row, column]
    echo = np.exp(-distance / 60) * _REFLECTIVE[view.label[row, column]] * np.sqrt(albedo)
    chance = rng.random(len(row), dtype=np.float32)
    back = chance < weather.lidar_echo
    distance = np.where(back, rng.uniform(1.5, 9.0, len(row)), distance)
    tall = np.where(back, scene.camera.position[2], tall)
    if failure == "lidarjitter":
        row = row + np.rint(rng.normal(0, height / 85, len(row))).astype(np.int32)
        column = column + np.rint(rng.normal(0, width / 85, len(row))).astype(np.int32)
        distance = distance * (1 + rng.normal(0, 0.05, len(row)))
    if hardware.lidar_noise:
        distance = distance * (1 + rng.normal(0, hardware.lidar_noise, len(row)))
    kept = (distance < weather.lidar_range) & (rng.random(len(row)) >= weather.lidar_loss + hardware.lidar_loss)
    kept &= (row >= 0) & (row < height) & (column >= 0) & (column < width)
    picture = np.zeros((height, width, 3), np.uint8)
    values = np.stack([encode_metres(distance), np.clip(255 * echo, 1, 255), np.clip(20 + 20 * tall, 1, 255)], -1)
    picture[row[kept], column[kept]] = values[kept].astype(np.uint8)
    return picture
