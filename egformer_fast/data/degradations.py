"""Known degradations of a sensor's map: what training draws so that scores learn to tell them, and evaluation tests.

Each takes (image, kind, rng, other) to a new image and draws its severity from rng; `degrade` calls it by name. U(a, b)
is uniform, L(a, b) uniform in the logarithm, n standard normal, side the length along the axis in question (the shorter
one where there is none), [low, high] the range of the sensor: 0..1 for rgb, else what each channel of the image spans.

noise          image + U(0.1, 1) (high - low) n; in a quarter of the draws n about a constant level: pure noise. Sparse
               kinds: a share L(0.05, 1) of the pixels are points at random; in a quarter of the draws nothing else is
               left. Both: one value for all channels of a pixel or one for each, at even odds. Clipped to [low, high]
blur           at even odds mean along a line of U(1/24, 1/8) side, 0.5 n radians from the horizontal (motion), or over
               a square of U(1/40, 1/12) side; 3 pixels at least
overexposure   light times L(3, 32), clipped at white. light = ((image - black) / (high - black))^2, where black is
               min(low, 0)
underexposure  light times L(1/60, 1/10), plus U(0.005, 0.03) (0.3 + sqrt(light)) n: what is left is as noisy as ever
constant       the same all over: 0, high, the mean of each channel, or U(low, high) for each channel
frozen         the image of another frame, as of a camera that hangs; without `other` moved by U(0.25, 0.5) side
thinned        U(0.6, 0.98) of the returns lost, at even odds as whole lines of the picture or as single pixels
shifted        moved by U(0.08, 0.25) side down or up, across, or both; edges repeat (0 for event, lidar, radar)
swapped        the image of another frame
jitter         every return moved by a normal distance of L(1/120, 1/40) side, one pixel at least, values times
               1 + U(0.02, 0.08) n, clipped to [low, high]
lowres         mean over blocks of 3 to 8 pixels, shown at the full size

overexposure, underexposure, jitter, motion blur and lowres stand beside the failures of drawn scenes in
synthetic/sensors.py, which act on the scene itself. A value of 0 in all channels is "no return".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .modality import KINDS, SPARSE_KINDS
from .section import nearest

Degradation = Callable[[np.ndarray, str, np.random.Generator, "np.ndarray | None"], np.ndarray]
FROM_ANOTHER = frozenset({"frozen", "swapped"})  # these want `other`

_MOSTLY_EMPTY = SPARSE_KINDS - {"depth"}
_PURE = 0.25
_TINY = np.finfo(np.float32).tiny


def degrade(
    name: str, image: np.ndarray, kind: str, rng: np.random.Generator, other: np.ndarray | None = None
) -> np.ndarray:
    """The image with the degradation of this name, as a new float32 array of its shape.

    Any name goes with any kind; `applicable` says which ones are to be expected of a sensor.

    Args:
        image: (C, H, W) float32, scaled, not normalised, finite; it is not changed.
        kind: one of KINDS. other: the same modality's image of another frame, for frozen and swapped.

    Raises ValueError: an unknown name or kind, arrays of other shapes, swapped without `other`.
    """
    if name not in DEGRADATIONS:
        raise ValueError(f"unknown degradation '{name}'; {nearest(name, tuple(DEGRADATIONS))}")
    if kind not in KINDS:
        raise ValueError(f"unknown kind '{kind}'; {nearest(kind, KINDS)}")
    if image.ndim != 3 or image.size == 0:
        raise ValueError(f"image must be (C, H, W) and not empty, found {image.shape}")
    if other is not None and other.shape != image.shape:
        raise ValueError(f"other must be of the image's shape {image.shape}, found {other.shape}")
    # A copy in C order, whatever came: the image itself, a view of `other`, a constant that is broadcast.
    return np.array(DEGRADATIONS[name](image, kind, rng, other), np.float32, order="C")


def applicable(kind: str) -> tuple[str, ...]:
    """Names of the degradations that make sense for a kind of sensor, one of KINDS, in the order of DEGRADATIONS."""
    return tuple(name for name in DEGRADATIONS if name in _EVERY_KIND or name in _OF_KIND[kind])


def _noise(image: np.ndarray, kind: str, rng: np.random.Generator, other: np.ndarray | None) -> np.ndarray:
    low, high = _range(image, kind)
    pure = rng.random() < _PURE
    shape = (len(image) if rng.random() < 0.5 else 1, *image.shape[1:])
    if kind in SPARSE_KINDS:
        hit = rng.random(image.shape[1:], np.float32) < _log_uniform(rng, 0.05, 1)
        points = low + (high - low) * rng.random(shape, np.float32)
        return np.where(hit, points, np.zeros_like(image) if pure else image)
    start = low + (high - low) * rng.random() if pure else image
    noisy = start + (high - low) * rng.uniform(0.1, 1) * rng.standard_normal(shape, np.float32)
    return np.clip(noisy, low, high)


def _blur(image: np.ndarray, kind: str, rng: np.random.Generator, other: np.ndarray | None) -> np.ndarray:
    side = min(image.shape[1:])
    if rng.random() < 0.5:
        steps = _steps(max(3, round(side * rng.uniform(1 / 24, 1 / 8))))
        angle = 0.5 * rng.standard_normal()
        return _mean_of_copies(image, steps * math.sin(angle), steps * math.cos(angle))
    steps = _steps(max(3, round(side * rng.uniform(1 / 40, 1 / 12))))
    return _mean_of_copies(_mean_of_copies(image, steps, 0 * steps), 0 * steps, steps)


def _steps(count: int) -> np.ndarray:
    """(count,) whole numbers in a row, around 0."""
    return np.arange(count) - count // 2


def _mean_of_copies(image: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Mean of copies moved by (down[k], across[k]) pixels, rounded; edges repeat."""
    height, width = image.shape[1:]
    rows, columns = np.rint(down).astype(int), np.rint(across).astype(int)
    tall, wide = abs(rows).max(), abs(columns).max()
    padded = np.pad(image, ((0, 0), (tall, tall), (wide, wide)), mode="edge")
    total = np.zeros_like(image)
    for top, left in zip(tall - rows, wide - columns, strict=True):
        total += padded[:, top : top + height, left : left + width]
    return total / len(rows)


def _overexposure(image: np.ndarray, kind: str, rng: np.random.Generator, other: np.ndarray | None) -> np.ndarray:
    return _exposed(image, kind, _log_uniform(rng, 3, 32), np.zeros_like(image))


def _underexposure(image: np.ndarray, kind: str, rng: np.random.Generator, other: np.ndarray | None) -> np.ndarray:
    gain, strength = _log_uniform(rng, 1 / 60, 1 / 10), rng.uniform(0.005, 0.03)
    return _exposed(image, kind, gain, strength * rng.standard_normal(image.shape, np.float32))


def _exposed(image: np.ndarray, kind: str, gain: float, grain: np.ndarray) -> np.ndarray:
    """Light times gain, with noise of `grain` in it, shown between black and white."""
    low, high = _range(image, kind)
    black = np.minimum(low, 0)
    span = np.maximum(high - black, _TINY)
    light = gain * np.square(np.clip((image - black) / span, 0, 1))
    light = light + grain * (0.3 + np.sqrt(light))
    return black + span * np.sqrt(np.clip(light, 0, 1))


def _constant(image: np.ndarray, kind: str, rng: np.random.Generator, other: np.ndarray | None) -> np.ndarray:
    low, high = _range(image, kind)
    mean = image.mean((1, 2), keepdims=True)
    anything = low + (high - low) * rng.random(low.shape, np.float32)
    level = (np.zeros_like(low), high, mean, anything)[int(rng.integers(4))]
    return np.broadcast_to(level, image.shape)


def _frozen(image: np.ndarray, kind: str, rng: np.random.Generator, other: np.ndarray | None) -> np.ndarray:
    return _displaced(image, kind, rng, 0.25, 0.5) if other is None else other


def _swapped(image: np.ndarray, kind: str, rng: np.random.Generator, other: np.ndarray | None) -> np.ndarray:
    if other is None:
        raise ValueError("degradation 'swapped' wants `other`, the image of another frame, found None")
    return other


def _thinned(image: np.ndarray, kind: str, rng: np.random.Generator, other: np.ndarray | None) -> np.ndarray:
    thin, returns = image.copy(), (image != 0).any(0)
    share = rng.uniform(0.6, 0.98)
    if rng.random() < 0.5:
        lines = rng.permutation(np.flatnonzero(returns.any(1)))
        thin[:, lines[: math.ceil(share * len(lines))]] = 0
    else:
        pixels = rng.permutation(np.flatnonzero(returns))
        thin.reshape(len(thin), -1)[:, pixels[: math.ceil(share * len(pixels))]] = 0
    return thin


def _shifted(image: np.ndarray, kind: str, rng: np.random.Generator, other: np.ndarray | None) -> np.ndarray:
    return _displaced(image, kind, rng, 0.08, 0.25)


def _displaced(image: np.ndarray, kind: str, rng: np.random.Generator, least: float, most: float) -> np.ndarray:
    """The image moved by U(least, most) of the side along one axis or both, one pixel at least."""
    axes = int(rng.integers(1, 4))
    signs = rng.choice((-1, 1), 2)
    down, across = (
        max(1, round(side * rng.uniform(least, most))) * int(sign)
        for side, sign in zip(image.shape[1:], signs, strict=True)
    )
    down, across = down if axes & 1 else 0, across if axes & 2 else 0
    pads = ((0, 0), (max(down, 0), max(-down, 0)), (max(across, 0), max(-across, 0)))
    padded = np.pad(image, pads, mode="constant" if kind in _MOSTLY_EMPTY else "edge")
    return padded[:, max(-down, 0) :, max(-across, 0) :][:, : image.shape[1], : image.shape[2]]


def _jitter(image: np.ndarray, kind: str, rng: np.random.Generator, other: np.ndarray | None) -> np.ndarray:
    height, width = image.shape[1:]
    row, column = np.nonzero((image != 0).any(0))
    share, noise = _log_uniform(rng, 1 / 120, 1 / 40), rng.uniform(0.02, 0.08)
    values = image[:, row, column]
    low, high = (bound[:, 0] for bound in _range(image, kind))
    values = np.clip(values * (1 + noise * rng.standard_normal(values.shape, np.float32)), low, high)
    row = row + np.rint(rng.normal(0, max(1, share * height), len(row))).astype(np.int64)
    column = column + np.rint(rng.normal(0, max(1, share * width), len(column))).astype(np.int64)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    scattered = np.zeros_like(image)
    scattered[:, row[inside], column[inside]] = values[:, inside]
    return scattered


def _lowres(image: np.ndarray, kind: str, rng: np.random.Generator, other: np.ndarray | None) -> np.ndarray:
    (channels, height, width), block = image.shape, int(rng.integers(3, 9))
    padded = np.pad(image, ((0, 0), (0, -height % block), (0, -width % block)), mode="edge")
    tall, wide = padded.shape[1] // block, padded.shape[2] // block
    small = padded.reshape(channels, tall, block, wide, block).mean((2, 4))
    return small.repeat(block, 1).repeat(block, 2)[:, :height, :width]


def _range(image: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of the sensor, (C, 1, 1) float32 each; of an image that is the same all over, 0..1 and its value."""
    if kind == "rgb":
        return np.zeros((len(image), 1, 1), np.float32), np.ones((len(image), 1, 1), np.float32)
    low, high = image.min((1, 2), keepdims=True), image.max((1, 2), keepdims=True)
    return (low, high) if (low < high).any() else (np.minimum(low, 0), np.maximum(high, 1))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


DEGRADATIONS: dict[str, Degradation] = {
    "noise": _noise,
    "blur": _blur,
    "overexposure": _overexposure,
    "underexposure": _underexposure,
    "constant": _constant,
    "frozen": _frozen,
    "thinned": _thinned,
    "shifted": _shifted,
    "swapped": _swapped,
    "jitter": _jitter,
    "lowres": _lowres,
}
_EVERY_KIND = frozenset({"noise", "constant", "frozen", "shifted", "swapped"})
_CAMERA = frozenset({"blur", "overexposure", "underexposure", "lowres"})
_PICTURE = frozenset({"blur", "lowres"})  # of no light that a longer exposure gathers
# A mean of returns and holes is no coarser scan, so lidar and radar have no lowres.
_OF_KIND = {
    "rgb": _CAMERA,
    "nir": _CAMERA,
    "thermal": _PICTURE,
    "sar": _PICTURE,
    "polarisation": _PICTURE,
    "aolp": _PICTURE,
    "depth": frozenset({"thinned", "lowres"}),
    "lidar": frozenset({"thinned", "jitter"}),
    "radar": frozenset({"thinned", "jitter"}),
    "event": frozenset({"thinned", "lowres"}),
    "other": _PICTURE,
}
