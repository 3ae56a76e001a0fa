"""DivergedError: training that cannot go on, with the frames that it happened on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class DivergedError(ValueError):
    """Loss or gradients are no longer finite; the message names the step and the batch's frames."""

    @classmethod
    def at(cls, where: str, what: str, value: float, frames: Any, names: Sequence[str]) -> DivergedError:
        """where: step and epoch. what, value: what is not finite. frames: the data set that has the frames `names`."""
        index = {name: number for number, name in enumerate(frames.names)}
        files = [next(iter(frames.files(index[name]).values())) for name in names]
        listed = ", ".join(f"{name} ({file})" for name, file in zip(names, files, strict=True))
        return cls(
            f"{what} is {value} at {where}; the step was not taken. Its frames: {listed}. Look at them, or lower "
            "train.lr or set train.clip"
        )
