"""Joint augmentation: what happens to one modality happens to all of them and to the label.

A transform maps a Frame to a new Frame before normalisation (values scaled, for 8-bit files 0..1), drawing from a numpy
Generator; it changes no array in place, since the arrays may be cached. Geometry resamples labels and sparse kinds
(depth, LiDAR, radar, event: a mixture of two ranges is no range) by nearest neighbour and other maps bilinearly, both
on half-pixel centres, so that they stay aligned. Angles of polarisation turn with the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch.nn.functional import interpolate

from .description import IGNORE
from .frame import Frame

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class Transform(Protocol):
    """`random`: whether it draws from rng; a data set applies the others in evaluation too."""

    random: ClassVar[bool]

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame: ...


@dataclass(frozen=True)
class Compose:
    """One transform after the other."""

    transforms: Sequence[Transform]
    random: ClassVar[bool] = True

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        for transform in self.transforms:
            frame = transform(frame, rng)
        return frame


def deterministic_part(transform: Transform | None) -> Compose:
    """The transforms that draw nothing, in their order."""
    parts = transform.transforms if isinstance(transform, Compose) else [transform] if transform else []
    flat = (deterministic_part(part).transforms if isinstance(part, Compose) else [part] for part in parts)
    return Compose([part for group in flat for part in group if not part.random])


def resize(image: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """(..., H, W) -> (..., *size); mode "nearest" for any dtype, "bilinear" for float32 (C, H, W)."""
    if image.shape[-2:] == size:
        return image
    if mode == "nearest":
        rows, columns = (_nearest(n, target) for n, target in zip(image.shape[-2:], size, strict=True))
        return image.take(rows, -2).take(columns, -1)
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None]
    return interpolate(tensor, size, mode="bilinear", align_corners=False)[0].numpy()


def _nearest(length: int, target: int) -> np.ndarray:
    """(target,) source positions nearest to the half-pixel centres, in whole numbers so that rounding plays no part."""
    return (2 * np.arange(target) + 1) * length // (2 * target)


@dataclass(frozen=True)
class Resize:
    """To `size` (height and width, or one number for both), labels too: compare scores only at equal sizes."""

    size: int | Sequence[int]
    random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _pair("Resize: size", self.size)

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        size = _pair("Resize: size", self.size)
        return frame.geometric(lambda image, mode: resize(image, size, mode))


@dataclass(frozen=True)
class RandomScaleCrop:
    """Magnify by s, uniform in `scale`, and cut out `size` pixels at a random place; maps padded by 0, label by ignore,
    `padding` says where.

    Only the window of size / s source pixels is resampled, never the whole frame. Along an axis where the window is
    longer than the frame, the whole frame is placed at random in the output.
    """

    size: int | Sequence[int]
    scale: Sequence[float] = (0.5, 2.0)
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _pair("RandomScaleCrop: size", self.size)
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < float("inf"):
            raise ValueError(f"RandomScaleCrop: scale must be two numbers 0 < low <= high, found {self.scale}")

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        size = _pair("RandomScaleCrop: size", self.size)
        scale = rng.uniform(self.scale[0], self.scale[1])
        spans = [_span(length, target, scale, rng) for length, target in zip(frame.label.shape, size, strict=True)]
        (rows, into_rows), (columns, into_columns) = spans
        filled = (into_rows.stop - into_rows.start, into_columns.stop - into_columns.start)

        def move(image: np.ndarray, mode: str) -> np.ndarray:
            piece = resize(image[..., rows, columns], filled, mode)
            if filled == size:
                return piece
            # Of a map 0, of the label IGNORE, of the padding True.
            canvas = np.full((*image.shape[:-2], *size), IGNORE if image.ndim == 2 else 0, image.dtype)
            canvas[..., into_rows, into_columns] = piece
            return canvas

        if filled != size and frame.padding is None:
            frame = replace(frame, padding=np.zeros(frame.label.shape, bool))
        return frame.geometric(move)


def _span(length: int, target: int, scale: float, rng: np.random.Generator) -> tuple[slice, slice]:
    """Along one axis: the source pixels taken, and the output pixels they fill."""
    window = max(1, round(target / scale))
    if window <= length:
        start = int(rng.integers(length - window + 1))
        return slice(start, start + window), slice(0, target)
    filled = max(1, round(length * target / window))
    start = int(rng.integers(target - filled + 1))
    return slice(0, length), slice(start, start + filled)


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left and right (`horizontal`) and top and bottom (`vertical`), each with probability 1/2."""

    horizontal: bool = True
    vertical: bool = False
    random: ClassVar[bool] = True

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        mirror, upset = rng.random(2) < 0.5
        columns = slice(None, None, -1 if self.horizontal and mirror else 1)
        rows = slice(None, None, -1 if self.vertical and upset else 1)
        moved = frame.geometric(lambda image, mode: image[..., rows, columns])
        return moved.reoriented(int(self.horizontal and mirror) + int(self.vertical and upset))


@dataclass(frozen=True)
class RandomQuarterTurn:
    """Turn by 0, 90, 180 or 270 degrees; a frame that is not square by 0 or 180, so that its size stays."""

    random: ClassVar[bool] = True

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        turns = int(rng.integers(4))
        height, width = frame.label.shape
        turns = turns if height == width else turns // 2 * 2
        return frame.geometric(lambda image, mode: np.rot90(image, turns, (-2, -1))).reoriented(0, turns)


@dataclass(frozen=True)
class Photometric:
    """Light and colour of rgb modalities, each drawn for itself; others stay. Results are clipped to 0..1.

    With probability p: saturation, contrast and brightness times a factor uniform in 1 - strength .. 1 + strength, in
    this order. With probability `blur`: a 3x3 binomial filter.
    """

    p: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    blur: float = 0.0
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_probability("Photometric: p", self.p)
        check_probability("Photometric: blur", self.blur)
        for name in ("brightness", "contrast", "saturation"):
            check_probability(f"Photometric: {name}", getattr(self, name))

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        maps = dict(frame.maps)
        for name in frame.live:
            if frame.kinds[name] == "rgb":
                jitter, blur = rng.random(2) < (self.p, self.blur)
                maps[name] = self._jitter(maps[name], rng) if jitter else maps[name]
                maps[name] = _blur(maps[name]) if blur else maps[name]
        return replace(frame, maps=maps)

    def _jitter(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """image: (3, H, W). The three steps are linear in the image, its grey version and its mean: one expression."""
        strengths = np.array([self.saturation, self.contrast, self.brightness])
        saturation, contrast, brightness = (1 + strengths * rng.uniform(-1, 1, 3)).astype(np.float32)
        grey = np.tensordot(_LUMA, image, 1)
        shift = grey * (contrast * (1 - saturation)) + (1 - contrast) * grey.mean()
        jittered = image * (brightness * contrast * saturation) + brightness * shift
        return np.clip(jittered, 0, 1, out=jittered)


def _blur(image: np.ndarray) -> np.ndarray:
    """(C, H, W) filtered by 1-2-1 along both axes, edges repeated."""
    padded = np.pad(image, ((0, 0), (1, 1), (0, 0)), mode="edge")
    image = 0.25 * (padded[:, :-2] + padded[:, 2:]) + 0.5 * image
    padded = np.pad(image, ((0, 0), (0, 0), (1, 1)), mode="edge")
    return 0.25 * (padded[..., :-2] + padded[..., 2:]) + 0.5 * image


@dataclass(frozen=True)
class RandomMissing:
    """Declare each present sensor missing with probability p; the last live one stays."""

    p: float
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_probability("RandomMissing: p", self.p)

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        lost = struck(frame, self.p, rng, frame.live)
        return replace(frame, present={name: here and name not in lost for name, here in frame.present.items()})


@dataclass(frozen=True)
class RandomZeroed:
    """Zero each present sensor with probability p, unannounced: a dead sensor. The last live one stays."""

    p: float
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_probability("RandomZeroed: p", self.p)

    def __call__(self, frame: Frame, rng: np.random.Generator) -> Frame:
        lost = struck(frame, self.p, rng, frame.live)
        maps = {name: np.zeros_like(image) if name in lost else image for name, image in frame.maps.items()}
        return replace(frame, maps=maps, dead=frame.dead | lost)


def struck(frame: Frame, p: float, rng: np.random.Generator, spared: Sequence[str]) -> frozenset[str]:
    """Present sensors that are hit, each with probability p, but for one of `spared` drawn to stay if all are hit."""
    drawn = rng.random(len(frame.present)) < p
    hit = {name for (name, here), strikes in zip(frame.present.items(), drawn, strict=True) if here and strikes}
    if spared and hit.issuperset(spared):
        hit.remove(spared[int(rng.integers(len(spared)))])
    return frozenset(hit)


def _pair(argument: str, size: int | Iterable[int]) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(length, int) and length > 0 for length in pair):
        raise ValueError(f"{argument} must be a positive whole number or two of them, found {size!r}")
    return pair


def check_probability(argument: str, value: float) -> None:
    """Raises ValueError naming the argument where value is not from 0 to 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{argument} must be from 0 to 1, found {value!r}")
