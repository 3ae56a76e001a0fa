"""Angles of polarisation turn with the picture: held against light that is mirrored and turned as a vector."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from egformer_fast.data import Frame, RandomFlip, RandomQuarterTurn, Transform
from egformer_fast.data.polarisation import doubled
from egformer_fast.train.inference import TTA_VIEWS, segment

Move = Callable[[np.ndarray], np.ndarray]


def coded(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(sin 2p, cos 2p) of light that swings along (x right, y up)."""
    angle = np.arctan2(y, x)
    return np.stack([np.sin(2 * angle), np.cos(2 * angle)]).astype(np.float32)


# How a mirroring or turn moves the pixels, and the direction of the light.
MOVES: dict[str, tuple[Move, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]]] = {
    "none": (lambda p: p, lambda x, y: (x, y)),
    "left-right": (lambda p: p[..., ::-1], lambda x, y: (-x, y)),
    "top-bottom": (lambda p: p[..., ::-1, :], lambda x, y: (x, -y)),
    "both": (lambda p: p[..., ::-1, ::-1], lambda x, y: (-x, -y)),
    "quarter": (lambda p: np.rot90(p, 1, (-2, -1)), lambda x, y: (-y, x)),
    "three quarters": (lambda p: np.rot90(p, 3, (-2, -1)), lambda x, y: (y, -x)),
}


def frame(seed: int = 0, size: int = 5) -> tuple[Frame, np.ndarray, np.ndarray]:
    direction = np.random.default_rng(seed).uniform(0, np.pi, (size, size))
    x, y = np.cos(direction), np.sin(direction)
    maps = {"aolp": coded(x, y), "place": np.arange(size * size, dtype=np.float32).reshape(1, size, size)}
    kinds = {"aolp": "aolp", "place": "polarisation"}
    return Frame(maps, np.zeros((size, size), np.uint8), kinds, dict.fromkeys(maps, True)), x, y


@pytest.mark.parametrize(
    ("transform", "wanted"),
    [
        (RandomFlip(True, False), {"none", "left-right"}),
        (RandomFlip(False, True), {"none", "top-bottom"}),
        (RandomFlip(True, True), {"none", "left-right", "top-bottom", "both"}),
        (RandomQuarterTurn(), {"none", "quarter", "both", "three quarters"}),
    ],
)
def test_light_moves_with_the_picture(transform: Transform, wanted: set[str]) -> None:
    source, x, y = frame()
    seen = set()
    for seed in range(40):
        result = transform(source, np.random.default_rng(seed))
        place = source.maps["place"]
        (name,) = (name for name, (move, _) in MOVES.items() if np.array_equal(move(place), result.maps["place"]))
        move, light = MOVES[name]
        np.testing.assert_allclose(result.maps["aolp"], coded(*light(move(x), move(y))), atol=1e-5)
        seen.add(name)
    assert seen == wanted


def test_doubling() -> None:
    for start in (0.0, -np.pi / 2):
        angle = np.linspace(start, start + np.pi, 24, endpoint=False).reshape(1, 4, 6)
        image = np.concatenate([np.sin(angle), np.cos(angle)])
        wanted = np.concatenate([np.sin(2 * angle), np.cos(2 * angle)])
        np.testing.assert_allclose(doubled(image, Path("x.npy")), wanted, atol=1e-6)


class Onlooker(nn.Module):
    """A model that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, inputs: dict[str, Tensor], present: Tensor, keep: object = None, trace: bool = False) -> object:
        self.seen.append(inputs["aolp"])
        logits = torch.cat([inputs["place"], -inputs["place"]], 1)
        return (logits, Trace()) if trace else logits


class Trace:
    modalities = ("aolp", "place")
    stages = [type("Stage", (), {"sensor": torch.tensor([[0, 1]])})] * 4

    def score_table(self, stage: int) -> Tensor:
        return torch.zeros(1, 2)

    def weight_table(self, stage: int) -> Tensor:
        return torch.full((1, 2), 0.5)

    def kept_mask(self, stage: int) -> Tensor:
        return torch.ones(1, 2, dtype=torch.bool)


def test_views_of_test_time_augmentation() -> None:
    source, x, y = frame()
    model = Onlooker()
    inputs = {name: torch.from_numpy(image)[None] for name, image in source.maps.items()}
    segment(model, inputs, torch.ones(1, 2, dtype=torch.bool), tta="dihedral", angles=["aolp"])
    for (turns, mirrored), seen in zip(TTA_VIEWS["dihedral"], model.seen, strict=True):
        u, v = np.rot90(x, turns), np.rot90(y, turns)
        for _ in range(turns):
            u, v = -v, u
        if mirrored:
            u, v = -u[:, ::-1], v[:, ::-1]
        np.testing.assert_allclose(seen[0], coded(u, v), atol=1e-5)
