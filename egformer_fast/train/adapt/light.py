"""Light, colour and noise of frames: drawn at random (jittered, thinned), or taken from the other domain (restyled).

Every sensor is changed for itself; inputs are normalised, and what is random follows from a numpy generator (views.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from egformer_fast.train.adapt.views import View


def no_return(sensor: Any) -> Tensor:
    """(C,) what a sparse sensor of a data set has where it measured nothing: the value 0, normalised in float32 as the
    data set does it. Where files have a shift (MUSES), holes are the value 0 and not the file's 0."""
    mean, std = (np.array(values, np.float32) for values in (sensor.mean, sensor.std))
    return torch.from_numpy((np.float32(0) - mean) / std)


def jittered(
    view: View,
    absent: Mapping[str, Tensor],
    coloured: Collection[str],
    strength: float,
    p: float,
    rng: np.random.Generator,
) -> View:
    """Light, colour, noise and blur of each sensor for itself, changed with probability p a frame.

    contrast and brightness: uniform in 1 ± strength and ± strength spreads; noise: strength / 2 spreads at most. RGB
    is turned in hue by ± strength of a circle and in saturation by 1 ± strength. Dense sensors are blurred by a
    binomial filter in half of the changed frames. Sparse ones (depth, LiDAR, radar, event) lose a share of their
    returns, strength / 2 at most, and stay what they are where they have none. Strength 0 changes nothing.

    absent: name of a sparse sensor -> (C,) the normalised value that stands for no return. coloured: names of sensors
    whose three channels are RGB.
    """
    if strength == 0:
        return view
    inputs = {}
    for name, image in view.inputs.items():
        empty = absent[name].to(image.device)[:, None, None] if name in absent else None
        colour = name in coloured
        frames = [_jittered(one, empty, colour, strength, rng) if rng.random() < p else one for one in image]
        inputs[name] = torch.stack(frames)
    return replace(view, inputs=inputs)


def _jittered(image: Tensor, empty: Tensor | None, colour: bool, strength: float, rng: np.random.Generator) -> Tensor:
    """image: (C, H, W). empty: (C, 1, 1), what stands for no return; None for a dense sensor. colour: it is RGB."""
    contrast, brightness, grain = (float(value) for value in rng.uniform(-strength, strength, 3))
    noise = normal(image.shape, rng, image.device)
    if colour:
        hue, saturation = (float(value) for value in rng.uniform(-strength, strength, 2))
        image = torch.einsum("cd,dhw->chw", colour_turn(2 * math.pi * hue, 1 + saturation).to(image), image)
    mean = image.mean((1, 2), keepdim=True)
    changed = (image - mean) * (1 + contrast) + mean + brightness + noise * (abs(grain) / 2)
    if empty is None:
        return _blurred(changed) if rng.random() < 0.5 else changed
    lost = torch.from_numpy(rng.random(image.shape[1:], np.float32) < abs(grain) / 2).to(image.device)
    return torch.where((image == empty).all(0) | lost, empty, changed)


def normal(shape: Sequence[int], rng: np.random.Generator, device: torch.device) -> Tensor:
    """Standard normal float32: the same bits on one device for one state of `rng`.

    A GPU draws it itself: a host takes ten milliseconds for an RGB frame of 512x512, and the GPU would wait.
    """
    if device.type == "cpu":
        return torch.from_numpy(rng.standard_normal(shape, np.float32))
    generator = torch.Generator(device).manual_seed(int(rng.integers(1 << 63)))
    return torch.randn(shape, generator=generator, device=device)


def thinned(view: View, scanners: Mapping[str, Tensor], share: float, p: float, rng: np.random.Generator) -> View:
    """Scans with fewer returns: with probability p a frame, each return of a scanner is lost with a probability drawn
    from 0..share, as if the other domain's had fewer beams.

    scanners: name -> (C,) the normalised value that stands for no return.
    """
    if share == 0:
        return view
    inputs = dict(view.inputs)
    for name, value in scanners.items():
        if name not in inputs:
            continue
        image = inputs[name]
        shares = rng.uniform(0, share, len(image)) * (rng.random(len(image)) < p)
        lost = rng.random((len(image), 1, *image.shape[2:]), np.float32) < shares[:, None, None, None]
        empty = value.to(image.device)[:, None, None]
        inputs[name] = torch.where(torch.from_numpy(lost).to(image.device), empty, image)
    return replace(view, inputs=inputs)


def colour_turn(angle: float, saturation: float) -> Tensor:
    """(3, 3) float32: turns colours about the grey axis by `angle` (radians) and multiplies their distance from it."""
    grey = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return grey + saturation * (math.cos(angle) * (torch.eye(3) - grey) + math.sin(angle) * cross)


def _blurred(image: Tensor) -> Tensor:
    """(C, H, W) filtered by 1-2-1 along both axes, edges repeated."""
    line = image.new_tensor([0.25, 0.5, 0.25])
    padded = F.pad(image.unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, torch.outer(line, line)[None, None]).squeeze(1)


def restyled(
    source: View, target: View, sparse: Collection[str], modalities: Sequence[str], p: float, rng: np.random.Generator
) -> View:
    """Source frames whose dense sensors take the mean and spread of a target frame's, channel by channel, with
    probability p a frame (Reinhard et al., Color Transfer between Images, 2001; here for every sensor).

    Frame b takes from frame b of the target, where both have the sensor and it is not constant. Padding counts in
    neither and stays. Sparse sensors stay: a range is a measurement, not a look.
    """
    chosen = torch.from_numpy(rng.random(len(source.present)) < p).to(source.present.device)
    shared = source.present & target.present & chosen[:, None]
    inputs = dict(source.inputs)
    for column, name in enumerate(modalities):
        if name not in source.inputs or name not in target.inputs or name in sparse:
            continue
        image = source.inputs[name]
        mean, spread = _statistics(image, source.inside)
        wanted, wanted_spread = _statistics(target.inputs[name], target.inside)
        moved = (image - mean) * (wanted_spread / spread) + wanted
        alive = ((spread > 0) & (wanted_spread > 0)).all(1, keepdim=True) & source.inside[:, None]
        inputs[name] = torch.where(shared[:, column, None, None, None] & alive, moved, image)
    return replace(source, inputs=inputs)


def _statistics(image: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the pixels inside (B, H, W), (B, C, 1, 1) each."""
    share = (inside / inside.sum((1, 2), keepdim=True))[:, None]
    mean = (image * share).sum((2, 3), keepdim=True)
    return mean, ((image - mean).square() * share).sum((2, 3), keepdim=True).sqrt()
