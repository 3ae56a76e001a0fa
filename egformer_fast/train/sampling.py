"""Which frames a step sees, in what random shape, and how many sensors it keeps: all functions of the seed and a count.

Nothing here has a state, so a run does not depend on the number of loading processes, and one that is stopped after any
step goes on to the same bits. Each draw has its own generator, numpy's default_rng of the tuple:
    order of an epoch      (seed, epoch, ORDER)        transforms of a frame   (seed, epoch, index)
    keep of a step         (seed, step, KEEP)          torch in a step         (seed, step, TORCH + rank)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from egformer_fast.train.signals import leave_to_parent

# Above any frame number, so that no two draws share a tuple.
ORDER, KEEP, TORCH = 1 << 40, 2 << 40, 3 << 40


class FrameSet(Protocol):
    """What training needs of a data set; see egformer_fast.data.FolderDataset."""

    def __len__(self) -> int: ...
    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]: ...
    def samples(self, index: int, rngs: Iterable[np.random.Generator]) -> Iterator[dict[str, Any]]: ...


class BatchStream(Sampler[list[tuple[int, int]]]):
    """Endless batches of (epoch, index) pairs, from batch number `start` on.

    Each epoch is a new permutation of the `length` frames, cut into batches of batch_size · world, of which this rank
    takes its part; frames that fill no batch are left out of that epoch.

    Raises:
        ValueError: fewer frames than one batch.
    """

    def __init__(self, length: int, batch_size: int, seed: int, start: int = 0, rank: int = 0, world: int = 1) -> None:
        self.batches_per_epoch = length // (batch_size * world)
        if self.batches_per_epoch == 0:
            raise ValueError(f"BatchStream: {length} frames, wanted at least one batch of {batch_size * world}")
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.start, self.rank, self.world = start, rank, world

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, batch = divmod(self.start, self.batches_per_epoch)
        while True:
            order = np.random.default_rng((self.seed, epoch, ORDER)).permutation(self.length).tolist()
            for number in range(batch, self.batches_per_epoch):
                first = (number * self.world + self.rank) * self.batch_size
                yield [(epoch, index) for index in order[first : first + self.batch_size]]
            epoch, batch = epoch + 1, 0


class TrainingFrames(Dataset[dict[str, Any]]):
    """A data set indexed by (epoch, index): the frame with the transforms that this epoch draws for it."""

    def __init__(self, frames: FrameSet, seed: int) -> None:
        self.frames, self.seed = frames, seed

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        return self.frames.sample(index, np.random.default_rng((self.seed, epoch, index)))


def load_batches(frames: Dataset[dict[str, Any]], stream: Any, workers: int, pin: bool) -> Iterator[dict[str, Any]]:
    """Collated batches of `frames` at the keys that `stream` gives; workers: processes, 0 loads in this one."""
    loader = DataLoader(
        frames,
        batch_sampler=stream,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=leave_to_parent,
        generator=torch.Generator(),  # a loader that begins within a step must not draw from what the step draws from
    )
    return iter(loader)


class Labelled(NamedTuple):
    """A batch to learn from: inputs {name: (B, C, H, W)}; present: (B, M) bool, a column a modality of the model;
    label: (B, H, W) int64. worse: inputs with degraded modalities in place, and degraded: (B, M) bool, which; None
    where nothing is known."""

    inputs: dict[str, Tensor]
    present: Tensor
    label: Tensor
    worse: dict[str, Tensor] | None = None
    degraded: Tensor | None = None


def to_device(batch: dict[str, Any], device: torch.device) -> Labelled:
    """A batch of a data set whose modalities are the model's, in their order."""
    inputs = {name: image.to(device, non_blocking=True) for name, image in batch["inputs"].items()}
    frames = Labelled(inputs, batch["present"].to(device), batch["label"].to(device, non_blocking=True))
    if "worse" not in batch:
        return frames
    worse = {name: image.to(device, non_blocking=True) for name, image in batch["worse"].items()}
    return frames._replace(worse=worse, degraded=batch["degraded"].to(device))


def draw_keep(
    keep: Sequence[int], widest: Sequence[int], rng: np.random.Generator, wider: float = 0.5
) -> tuple[int, ...]:
    """The keep to train one step with: `keep` itself, or with probability `wider` a random wider one.

    A wider one draws keep[i] uniformly from keep[i] to what stage i-1 kept, but no more than widest[i], so it never
    increases. A score whose sensor is kept alone gets no gradient, since its weight is 1 whatever it is: only beside
    rivals does it learn.
    """
    if rng.random() >= wider:
        return tuple(keep)
    drawn: list[int] = []
    for smallest, largest in zip(keep, widest, strict=True):
        most = min(drawn[-1], largest) if drawn else largest
        drawn.append(int(rng.integers(min(smallest, most), most + 1)))
    return tuple(drawn)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed for torch before a step: dropout, stochastic depth and Gumbel noise, which differ between ranks."""
    return int(np.random.SeedSequence((seed, step, TORCH + rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def batch_rng(seed: int, batch: int, purpose: int) -> np.random.Generator:
    """The generator of one purpose in a batch, by its number in the run; purpose: like ORDER, plus the rank."""
    return np.random.default_rng((seed, batch, purpose))


def keep_rng(seed: int, step: int) -> np.random.Generator:
    """The generator of a step's keep: the same on all ranks, which must agree on it."""
    return np.random.default_rng((seed, step, KEEP))
