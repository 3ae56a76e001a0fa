"""What the student sees of a target frame: class-mixed, blocks hidden, sensors lost (light.py changes its light).

Every function takes normalised inputs (0 is a sensor's mean, 1 its spread) and gives new tensors. What is random
follows from a numpy generator on the CPU, so that a run can be resumed to the same bits on any device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egformer_fast.train.inference import Sensors


@dataclass(frozen=True)
class View:
    """A batch as a model takes it.

    inputs: name -> float32 (B, C, H, W), sensors that no frame has left out. present: (B, M) bool, a column for each
    of the model's modalities; True where the sensor is there and finite. label: (B, H, W) int64. weight: (B, H, W)
    float32 of each pixel in the loss, None where all weigh the same. padding: (B, H, W) bool, pixels beyond the edge of
    their frame, None where there are none.
    """

    inputs: dict[str, Tensor]
    present: Tensor
    label: Tensor
    weight: Tensor | None = None
    padding: Tensor | None = None

    @property
    def inside(self) -> Tensor:
        """(B, H, W) bool: pixels of the frames themselves."""
        return torch.ones_like(self.label, dtype=torch.bool) if self.padding is None else ~self.padding


def as_view(batch: dict[str, Any], sensors: Sensors, device: torch.device) -> View:
    """A batch of a data set on a device. sensors: of the model and that data set."""
    inputs, present = sensors.select(batch, device)
    label, padding = (batch[key].to(device, non_blocking=True) for key in ("label", "padding"))
    return View(inputs, present, label, padding=padding)


def class_mask(label: Tensor, ignore_index: int, rng: np.random.Generator) -> Tensor:
    """(B, H, W) bool: the pixels of a random half (rounded up) of the classes in each label (ClassMix, 2007.07936)."""
    masks = []
    for one in label:
        classes = one.unique()
        classes = classes[classes != ignore_index]
        chosen = torch.from_numpy(rng.permutation(len(classes))[: (len(classes) + 1) // 2])
        masks.append(torch.isin(one, classes[chosen.to(classes.device)]))
    return torch.stack(masks)


def class_mix(source: View, target: View, ignore_index: int, modalities: Sequence[str], rng: Any) -> View:
    """Target frames with half of the classes of a source frame pasted in, at the same pixels of every sensor.

    A sensor that only one of the two frames has is missing in the mixed frame. A pair without a common sensor stays
    the target frame. Pasted pixels weigh 1 with the source's label, the others as they did in the target.
    """
    shared = source.present & target.present
    pasted = class_mask(source.label, ignore_index, rng) & shared.any(1)[:, None, None]
    where = pasted.unsqueeze(1)
    inputs = {
        name: torch.where(where, source.inputs[name], image) if name in source.inputs else image
        for name, image in target.inputs.items()
    }
    present = torch.where(shared.any(1, keepdim=True), shared, target.present)
    weight = torch.ones_like(target.label, dtype=torch.float32) if target.weight is None else target.weight
    label = torch.where(pasted, source.label, target.label)
    padding = ~(target.inside | pasted)
    return _without_absent(View(inputs, present, label, torch.where(pasted, 1.0, weight), padding), modalities)


def with_holes_of(view: View, own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> View:
    """The same frames, with what stands for no return in another data set: it depends on how a set normalises, and in a
    mixed frame one value must mean it. own, other: name -> (C,), of sparse sensors."""
    inputs = dict(view.inputs)
    for name in view.inputs.keys() & own.keys() & other.keys():
        if torch.equal(own[name], other[name]):
            continue
        image = view.inputs[name]
        here, there = (values[name].to(image.device)[:, None, None] for values in (own, other))
        inputs[name] = torch.where((image == here).all(1, keepdim=True), there, image)
    return replace(view, inputs=inputs)


def block_mask(size: tuple[int, int], count: int, block: int, ratio: float, rng: np.random.Generator) -> Tensor:
    """(count, 1, H, W) bool: blocks of `block` pixels, each hidden (True) with probability `ratio` (2212.01322)."""
    rows, columns = (-(-length // block) for length in size)
    hidden = torch.from_numpy(rng.random((count, 1, rows, columns)) < ratio)
    return hidden.repeat_interleave(block, 2).repeat_interleave(block, 3)[..., : size[0], : size[1]]


def masked(view: View, block: int, ratio: float, rng: np.random.Generator) -> View:
    """The same frames, the same blocks of every sensor set to its mean."""
    height, width = view.label.shape[1:]
    hidden = block_mask((height, width), len(view.label), block, ratio, rng).to(view.label.device)
    return replace(view, inputs={name: image.masked_fill(hidden, 0) for name, image in view.inputs.items()})


def drop_sensors(view: View, p: float, modalities: Sequence[str], rng: np.random.Generator) -> View:
    """Each sensor of each frame lost with probability p; where all would be, one drawn of those present stays."""
    lost = rng.random(view.present.shape) < p
    chance = rng.random(view.present.shape)
    present = view.present.cpu().numpy()
    stays = np.where(present, chance, -1).argmax(1)
    kept = present & ~lost
    blind = ~kept.any(1) & present.any(1)
    kept[blind, stays[blind]] = True
    return _without_absent(replace(view, present=torch.from_numpy(kept).to(view.present.device)), modalities)


def _without_absent(view: View, modalities: Sequence[str]) -> View:
    """Leave out the inputs of sensors that no frame has: the model then spends nothing on them."""
    there = dict(zip(modalities, view.present.any(0).tolist(), strict=True))
    inputs = {name: image for name, image in view.inputs.items() if there[name]}
    # A batch of blind frames still needs an input to say its size; the model refuses it by name.
    return replace(view, inputs=inputs or view.inputs)
