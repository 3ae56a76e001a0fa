"""DivergedError: training that cannot go on, with the frames that it happened on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# A data set, and names of some of its frames.
NamedFrames = tuple[Any, Sequence[str]]


class DivergedError(ValueError):
    """Loss or gradients are no longer finite; the message names the step and the batch's frames."""

    @classmethod
    def at(cls, where: str, what: str, value: float, seen: Sequence[NamedFrames]) -> DivergedError:
        """where: step and epoch. what, value: what is not finite. seen: the frames that it was computed from."""
        listed = ", ".join(
            f"{name} ({next(iter(frames.files(frames.names.index(name)).values()))})"
            for frames, names in seen
            for name in names
        )
        return cls(
            f"{what} is {value} at {where}; the step was not taken. Its frames: {listed}. Look at them, or lower "
            "train.lr or set train.clip"
        )
