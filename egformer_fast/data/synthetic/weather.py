"""Five weathers and five sensor failures, as numbers: what each does to every sensor.

Which sensor carries the frame (this is what modality scoring has to find out):
    weather  RGB                            depth                 event                    LiDAR
    sun      clear, hard shadows            to 100 m              clear                    to 100 m
    cloud    clear, flat light              to 100 m              clear, less contrast     to 100 m
    fog      washes out with distance       to 40 m, noisy        finer contrast step     to 30 m, false echoes near by
    night    dark but for headlights,       to 100 m              clear (high dynamic      to 100 m
             lamps, windows; noisy                                range)
    rain     streaks, mirroring road, grey  holes, noise          drops fire events        30 % of points lost, to 60 m
Failures, each on one sensor, on top of any weather:
    motionblur     RGB smeared along a line of W / 12 pixels
    overexposure   RGB gain 6, clipped
    underexposure  RGB gain 1/25, the noise stays
    lidarjitter    points moved by about H / 85 pixels, 5 % noise on their distance
    eventlowres    events averaged over blocks of 4 x 4 pixels, shown at full size
"""

from __future__ import annotations

from dataclasses import dataclass

Vec3 = tuple[float, float, float]


@dataclass(frozen=True)
class Weather:
    """Light, air and sensor limits of one weather. Light is linear, ranges are metres, shares are 0 to 1.

    sun, sky: strength of direct and of ambient light;  zenith, horizon: colours of the sky
    haze: share of light lost per metre (1/m);  shade: how much of the direct light a shadow takes
    overhead: the shadows fall straight down, soft (no sun to be seen)
    sun_glow: colour of the sky around the sun;  headlight, lamplight: the night's lamps
    """

    name: str
    sun: Vec3
    sky: Vec3
    zenith: Vec3
    horizon: Vec3
    haze: float
    shade: float
    cloud: float
    exposure: float = 1.0
    overhead: bool = True
    sun_glow: Vec3 = (1.0, 0.9, 0.7)
    headlight: Vec3 = (4.2, 4.0, 3.5)
    lamplight: Vec3 = (7.5, 5.4, 2.9)
    wet: float = 0.0
    dark: bool = False
    streaks: float = 0.0
    rgb_noise: float = 0.008
    depth_range: float = 100.0
    depth_noise: float = 0.0
    depth_holes: float = 0.0
    event_noise: float = 0.002
    event_threshold: float = 0.16
    lidar_range: float = 100.0
    lidar_loss: float = 0.02
    lidar_echo: float = 0.0


_ALL = (
    Weather(
        "cloud", sun=(0.75, 0.75, 0.74), sky=(1.25, 1.3, 1.4), zenith=(0.55, 0.60, 0.66), horizon=(0.95, 0.96, 0.97),
        haze=0.0018, shade=0.75, cloud=0.9, event_threshold=0.2,
    ),
    Weather(
        "fog", sun=(0.35, 0.35, 0.35), sky=(1.15, 1.18, 1.2), zenith=(0.78, 0.79, 0.80), horizon=(0.86, 0.86, 0.86),
        haze=0.045, shade=0.6, cloud=0.0, depth_range=40.0, depth_noise=0.03, depth_holes=0.02, event_threshold=0.06,
        lidar_range=30.0, lidar_loss=0.1, lidar_echo=0.06,
    ),
    Weather(
        "night", sun=(0.012, 0.014, 0.022), sky=(0.02, 0.023, 0.035), zenith=(0.006, 0.008, 0.018),
        horizon=(0.035, 0.032, 0.035), haze=0.001, shade=0.4, cloud=0.3, exposure=0.8, dark=True, rgb_noise=0.02,
    ),
    Weather(
        "rain", sun=(0.25, 0.25, 0.26), sky=(0.72, 0.75, 0.80), zenith=(0.38, 0.41, 0.45), horizon=(0.60, 0.62, 0.64),
        haze=0.008, shade=0.5, cloud=0.8, wet=1.0, streaks=1.0, rgb_noise=0.014, depth_noise=0.02, depth_holes=0.08,
        event_noise=0.02, event_threshold=0.2, lidar_range=60.0, lidar_loss=0.3, lidar_echo=0.02,
    ),
    Weather(
        "sun", sun=(2.5, 2.3, 1.95), sky=(0.62, 0.74, 0.95), zenith=(0.17, 0.36, 0.78), horizon=(0.72, 0.84, 0.95),
        haze=0.0012, shade=1.0, cloud=0.45, overhead=False,
    ),
)  # fmt: skip
WEATHERS: dict[str, Weather] = {weather.name: weather for weather in _ALL}
FAILURES = ("motionblur", "overexposure", "underexposure", "lidarjitter", "eventlowres")
