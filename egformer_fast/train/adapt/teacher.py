"""The teacher's class probabilities of a target frame, from one view or two.

p = softmax(teacher(frame))                                                            without a second view
p = (p + softmax(teacher(frame without some sensors))) / 2                             consensus
p = (p + mirrored back and shrunk(softmax(teacher(frame mirrored and magnified)))) / 2 magnify; with both in one view

Small things are found better in a magnified frame, large ones in the frame as it is, so that the mean is a better label
than either; the student learns to see it at the usual size. A sensor that looks different in the target misleads the
teacher; where the others alone say something else the label is less certain, and over the steps the student learns the
mean over the sets of sensors.
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
    second: View | None = None,
    magnify: float | None = None,
    sparse: Collection[str] = (),
    angles: Collection[str] = (),
) -> tuple[Tensor, Any]:
    """(probabilities (B, classes, H, W) float32, the trace of the frame as it is).

    Args:
        teacher: (inputs, present, trace=True) -> logits, trace.
        second: what is looked at a second time; default with `magnify`: the frame itself.
        magnify: factor of the second view.
        sparse: inputs that are resampled by nearest neighbour. angles: inputs that hold angles of polarisation.
    """
    logits, trace = teacher(view.inputs, view.present, trace=True)
    probability = logits.float().softmax(1)
    if second is None and magnify is None:
        return probability, trace
    second = second or view
    if magnify is None:
        again = teacher(second.inputs, second.present, trace=True)[0].float().softmax(1)
    else:
        larger = {n: _magnified(image, magnify, n in sparse, n in angles) for n, image in second.inputs.items()}
        logits, _ = teacher(larger, second.present, trace=True)
        again = interpolate(logits.float().softmax(1), probability.shape[2:], mode="bilinear")
        again = turned_back(again, MIRRORED)
    return (probability + again) / 2, trace


def _magnified(image: Tensor, factor: float, sparse: bool, angle: bool) -> Tensor:
    size = [round(factor * length) for length in image.shape[2:]]
    return interpolate(turned(image, MIRRORED, angle), size, mode="nearest-exact" if sparse else "bilinear")
