"""One frame of a data set on its way from the files to a sample: what transforms take and give back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from .modality import SPARSE_KINDS
from .polarisation import signs


@dataclass(frozen=True)
class Frame:
    """One frame of every modality.

    maps: name -> float32 (C, H, W), scaled, not normalised; all declared modalities, zeros where absent.
    label: (H, W) uint8, 255 = ignore. kinds: name -> kind of sensor. present: name -> bool.
    dead: present sensors that carry nothing (zeroed on purpose, or not finite in the file).
    padding: (H, W) bool, pixels beyond the edge of the frame; None: there are none.
    degraded: live sensors known to be worse than they should be (drawn, or said by `failing` of the description).
    other: draws another frame of the data set, before any transform; None: there is none.
    worse: name -> what a degraded sensor would show, where `maps` hold it as it is; None: nothing is drawn aside.
    """

    maps: Mapping[str, np.ndarray]
    label: np.ndarray
    kinds: Mapping[str, str]
    present: Mapping[str, bool]
    dead: frozenset[str] = frozenset()
    padding: np.ndarray | None = None
    degraded: frozenset[str] = frozenset()
    other: Callable[[np.random.Generator], Frame] | None = None
    worse: Mapping[str, np.ndarray] | None = None

    @property
    def live(self) -> list[str]:
        """Sensors that are present and not dead."""
        return [name for name, here in self.present.items() if here and name not in self.dead]

    @property
    def clean(self) -> list[str]:
        """Live sensors without a known degradation."""
        return [name for name in self.live if name not in self.degraded]

    def geometric(self, move: Callable[[np.ndarray, str], np.ndarray]) -> Frame:
        """The frame with move(array, interpolation mode) applied to every map (C, H, W), label and padding (H, W)."""
        maps = {
            name: move(image, "nearest" if self.kinds[name] in SPARSE_KINDS else "bilinear")
            for name, image in self.maps.items()
        }
        padding = None if self.padding is None else move(self.padding, "nearest")
        return replace(self, maps=maps, label=move(self.label, "nearest"), padding=padding)

    def reoriented(self, flips: int, quarter_turns: int = 0) -> Frame:
        """The frame with its angles of polarisation following the mirrorings and turns that its maps went through."""
        turned = signs(flips, quarter_turns)
        maps = {name: image * turned if self.kinds[name] == "aolp" else image for name, image in self.maps.items()}
        return replace(self, maps=maps)
