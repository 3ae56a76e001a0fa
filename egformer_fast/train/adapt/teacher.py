"""The teacher's class probabilities of a target frame, from one view or two.

p = softmax(teacher(frame))                                                            magnify None
p = (p + mirrored back and shrunk(softmax(teacher(frame mirrored and magnified)))) / 2

Small things are found better in a magnified frame, large ones in the frame as it is, so that the mean is a better label
than either; the student learns to see it at the usual size.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from egformer_fast.train.adapt.views import View
from egformer_fast.train.inference import turned, turned_back

MIRRORED = (0, True)


def probabilities(
    teacher: Callable[..., Any],
    view: View,
    magnify: float | None = None,
    sparse: Collection[str] = (),
    angles: Collection[str] = (),
) -> tuple[Tensor, Any]:
    """(probabilities (B, classes, H, W) float32, the trace of the frame as it is).

    Args:
        teacher: (inputs, present, trace=True) -> logits, trace.
        magnify: factor of the second view.
        sparse: inputs that are resampled by nearest neighbour. angles: inputs that hold angles of polarisation.
    """
    logits, trace = teacher(view.inputs, view.present, trace=True)
    probability = logits.float().softmax(1)
    if magnify is None:
        return probability, trace
    larger = {name: _magnified(image, magnify, name in sparse, name in angles) for name, image in view.inputs.items()}
    logits, _ = teacher(larger, view.present, trace=True)
    again = interpolate(logits.float().softmax(1), probability.shape[2:], mode="bilinear")
    return (probability + turned_back(again, MIRRORED)) / 2, trace


def _magnified(image: Tensor, factor: float, sparse: bool, angle: bool) -> Tensor:
    size = [round(factor * length) for length in image.shape[2:]]
    return interpolate(turned(image, MIRRORED, angle), size, mode="nearest-exact" if sparse else "bilinear")
