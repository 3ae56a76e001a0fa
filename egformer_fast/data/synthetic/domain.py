"""Two places to draw: `home`, and `away`, where a model trained at home has to adapt (same classes, same sensors).

A domain is data that the drawing reads, in groups that can be exchanged one by one (dataclasses.replace):
    group                    home                              away
    look                     brick and beige, green, asphalt   pastel and dark fronts, dry plants, warm paving
    weathers, sun_elevation  high white sun, blue sky          low yellow sun, haze, cold street lamps
    mix                      each weather in turn              two of rain, night, fog to one of cloud, sun
    mount                    1.5 to 2.1 m, level, 60-84 deg    2.3 to 2.9 m, looking down, 86-104 deg
    hardware                 disturbed by the weather alone    colour cast, dark corners, noise; coarse depth with
                                                               holes; noisy events; 20 LiDAR beams in place of 40
What is made by hand (fronts, cars, clothes, signs) has other colours altogether; ground and plants are the same
materials in a drier, warmer climate. Earlier drafts gave one class the colour of another (a road paler than its
pavements; bare ground as grey as the road), and no adaptation found such classes: nothing in frames without labels
tells them apart.
The streets themselves come from the same rules, so that the classes are about as frequent; `stream` sets their random
streams apart: with one seed, a frame of `away` is not the street of a frame of `home`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from egformer_fast.errors import DataError

from .classes import Label
from .look import Look
from .rig import Hardware, Mount, Span
from .weather import WEATHERS, Weather


@dataclass(frozen=True)
class Domain:
    """Everything that tells one place from another.

    mix: weathers of the frames in turn (a name twice: twice as often);  sun_elevation: range, radians
    stream: numbers that follow (seed, split, index) in the key of a frame's random streams
    """

    name: str
    look: Look = field(default_factory=Look)
    weathers: Mapping[str, Weather] = field(default_factory=lambda: WEATHERS)
    sun_elevation: Span = (0.45, 1.0)
    mix: tuple[str, ...] = tuple(WEATHERS)
    mount: Mount = field(default_factory=Mount)
    hardware: Hardware = field(default_factory=Hardware)
    stream: tuple[int, ...] = ()


HOME = Domain("home")

_AWAY_LOOK = Look(
    walls=(
        (0.78, 0.76, 0.72), (0.62, 0.34, 0.30), (0.24, 0.42, 0.40), (0.80, 0.66, 0.30), (0.20, 0.17, 0.16),
        (0.72, 0.74, 0.78), (0.55, 0.62, 0.42), (0.40, 0.22, 0.30), (0.82, 0.55, 0.42),
    ),
    roofs=((0.10, 0.20, 0.24), (0.45, 0.42, 0.38), (0.08, 0.22, 0.12)),
    fences=((0.75, 0.75, 0.72), (0.10, 0.20, 0.38), (0.38, 0.18, 0.08)),
    bins=((0.55, 0.42, 0.05), (0.10, 0.10, 0.11), (0.05, 0.20, 0.45), (0.45, 0.45, 0.42)),
    parasols=((0.75, 0.75, 0.7), (0.1, 0.35, 0.2), (0.3, 0.08, 0.25)),
    tree=(0.17, 0.18, 0.045),
    trunk=(0.22, 0.18, 0.14),
    bush=(0.15, 0.16, 0.06),
    hedge=(0.12, 0.15, 0.05),
    bridge=(0.34, 0.27, 0.22),
    paints=(
        (0.75, 0.75, 0.73), (0.70, 0.50, 0.04), (0.70, 0.50, 0.04), (0.62, 0.60, 0.52), (0.10, 0.38, 0.36),
        (0.25, 0.04, 0.14), (0.45, 0.52, 0.60), (0.60, 0.18, 0.03), (0.16, 0.10, 0.06), (0.30, 0.38, 0.14),
    ),
    buses=((0.75, 0.75, 0.72), (0.72, 0.28, 0.02), (0.10, 0.42, 0.42), (0.35, 0.10, 0.38)),
    cargo=((0.12, 0.12, 0.13), (0.6, 0.12, 0.06), (0.5, 0.5, 0.3), (0.7, 0.55, 0.5)),
    clothes=(
        (0.70, 0.68, 0.62), (0.55, 0.50, 0.08), (0.04, 0.04, 0.05), (0.20, 0.24, 0.30), (0.60, 0.10, 0.30),
        (0.08, 0.30, 0.55), (0.30, 0.20, 0.12), (0.03, 0.16, 0.10), (0.45, 0.40, 0.50),
    ),
    ground={
        Label.Road: (0.155, 0.14, 0.115), Label.RoadLine: (0.66, 0.56, 0.30), Label.SideWalk: (0.42, 0.34, 0.27),
        Label.Ground: (0.33, 0.26, 0.18), Label.Terrain: (0.20, 0.20, 0.07), Label.RailTrack: (0.25, 0.19, 0.14),
        Label.Water: (0.06, 0.065, 0.045),
    },
    skyline={
        Label.Building: (0.40, 0.35, 0.31), Label.Vegetation: (0.11, 0.12, 0.045), Label.Terrain: (0.20, 0.18, 0.09),
    },
    sign_rims=((0.03, 0.03, 0.03), (0.6, 0.03, 0.03), (0.02, 0.02, 0.02), (0.8, 0.8, 0.8), (0.1, 0.15, 0.1)),
    sign_fills=((0.75, 0.7, 0.1), (0.8, 0.8, 0.78), (0.02, 0.3, 0.14), (0.03, 0.1, 0.42), (0.3, 0.35, 0.5)),
    grain=(0.55, 0.45),
    slab=0.45,
    leaf_scale=2.4,
    brick=(0.34, 0.85),
    dirt=0.75,
    window_frame=(0.07, 0.09, 0.08),
    window_lit=0.55,
    window_light=(0.72, 0.86, 1.0),
)  # fmt: skip

_AWAY_WEATHERS = {
    name: replace(WEATHERS[name], **changes)  # type: ignore[arg-type]
    for name, changes in {
        "cloud": {
            "sun": (0.62, 0.60, 0.50), "sky": (0.95, 0.98, 0.88), "zenith": (0.40, 0.42, 0.40),
            "horizon": (0.74, 0.72, 0.62), "haze": 0.007,
        },
        "fog": {
            "sky": (0.98, 0.92, 0.82), "zenith": (0.62, 0.58, 0.52), "horizon": (0.74, 0.68, 0.58), "haze": 0.06,
        },
        "night": {
            "sky": (0.03, 0.026, 0.024), "zenith": (0.016, 0.011, 0.008), "horizon": (0.075, 0.05, 0.028),
            "haze": 0.006, "headlight": (3.0, 2.5, 1.4), "lamplight": (5.0, 6.6, 8.0),
        },
        "rain": {
            "sky": (0.52, 0.57, 0.58), "zenith": (0.24, 0.28, 0.29), "horizon": (0.42, 0.46, 0.46), "haze": 0.016,
        },
        "sun": {
            "sun": (2.7, 1.85, 0.95), "sky": (0.52, 0.55, 0.72), "zenith": (0.26, 0.36, 0.56),
            "horizon": (1.05, 0.80, 0.54), "haze": 0.006, "sun_glow": (1.0, 0.72, 0.4),
        },
    }.items()
}  # fmt: skip

AWAY = Domain(
    "away",
    look=_AWAY_LOOK,
    weathers=_AWAY_WEATHERS,
    sun_elevation=(0.2, 0.45),
    mix=("rain", "night", "fog", "cloud", "rain", "sun", "night", "fog"),
    mount=Mount(height=(2.3, 2.9), pitch=(-0.13, -0.03), fov=(86.0, 104.0)),
    hardware=Hardware(
        rgb_noise=0.025, rgb_cast=(1.12, 1.0, 0.80), rgb_falloff=0.55, rgb_veil=0.10, rgb_gamma=1.7,
        depth_noise=0.04, depth_holes=0.06, depth_shadow=0.02, depth_step=6, depth_range=60.0,
        event_noise=0.025, event_threshold=1.5,
        lidar_beams=20, lidar_span=(-26.0, 10.0), lidar_step=1.0, lidar_noise=0.02, lidar_loss=0.12,
    ),
    stream=(100,),
)  # fmt: skip

DOMAINS: dict[str, Domain] = {domain.name: domain for domain in (HOME, AWAY)}


def find_domain(name: str) -> Domain:
    """The domain of that name; DataError with the known names if there is none."""
    if name not in DOMAINS:
        raise DataError(f"there is no domain {name!r}; known are {', '.join(DOMAINS)}")
    return DOMAINS[name]
