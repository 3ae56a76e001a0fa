"""The car that carries the sensors: where the camera sits, and what each sensor can do in any weather.

The defaults are those of the domain `home` (domain.py): sensors that the weather alone disturbs. What is given here
comes on top of the weather's noise, holes and losses.
"""

from __future__ import annotations

from dataclasses import dataclass

Span = tuple[float, float]
Vec3 = tuple[float, float, float]


@dataclass(frozen=True)
class Mount:
    """Ranges that a frame's camera is drawn from: metres above ground, radians upwards, degrees across."""

    height: Span = (1.5, 2.1)
    pitch: Span = (-0.05, 0.07)
    fov: Span = (60.0, 84.0)


@dataclass(frozen=True)
class Hardware:
    """Quality of the four sensors.

    rgb_cast: gain of each channel;  rgb_falloff: share of light lost in the corners;  rgb_veil: stray light, as a share
        of the picture's mean;  rgb_gamma: the curve;  rgb_noise: added to the weather's
    depth_noise: relative;  depth_holes: share of pixels;  depth_shadow: width of the hole left of an edge, as a share
        of the picture's width;  depth_step: codes are multiples of it;  depth_range: metres
    event_noise: share of pixels that fire by themselves;  event_threshold: factor of the weather's
    lidar_beams over lidar_span (degrees), a point every lidar_step degrees;  lidar_noise: relative;  lidar_loss: share
    """

    rgb_noise: float = 0.0
    rgb_cast: Vec3 = (1.0, 1.0, 1.0)
    rgb_falloff: float = 0.0
    rgb_veil: float = 0.0
    rgb_gamma: float = 1.95
    depth_noise: float = 0.0
    depth_holes: float = 0.0
    depth_shadow: float = 0.0
    depth_step: int = 1
    depth_range: float = 100.0
    event_noise: float = 0.0
    event_threshold: float = 1.0
    lidar_beams: int = 40
    lidar_span: Span = (-22.0, 14.0)
    lidar_step: float = 0.6
    lidar_noise: float = 0.0
    lidar_loss: float = 0.0
