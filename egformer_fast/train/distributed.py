"""The processes of one run: a single one, or those that torchrun started (WORLD_SIZE > 1), one per device."""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

# Rank 0 evaluates while the others wait for it.
PATIENCE = datetime.timedelta(hours=6)


@dataclass(frozen=True)
class Processes:
    """This process's place: `rank` of `world`, and the device it computes on."""

    rank: int
    world: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Rank 0 alone evaluates, writes logs and saves."""
        return self.rank == 0

    def largest(self, values: Sequence[float]) -> list[float]:
        """Entry by entry the largest value of all processes, so that they take the same decisions."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        # A thread of the backend may still hold the tensor. Were it to let go of a Python object while the interpreter
        # shuts down, it would end the process with SIGABRT; those threads outlive the process group.
        while tensor._use_count() > 1:  # type: ignore[attr-defined]
            time.sleep(0)
        return tensor.tolist()


@contextlib.contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the other processes, if any, and leave them at the end. device: "auto", "cpu" or "cuda".

    Raises:
        ValueError: "cuda" without a GPU.
    """
    world, rank, local = (
        int(os.environ.get(name, default))
        for name, default in (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))
    )
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("train.device: found 'cuda', but torch sees no GPU here; wanted auto or cpu")
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local)
    place = Processes(rank, world, torch.device("cuda", local) if cuda else torch.device("cpu"))
    if world == 1:
        yield place
        return
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield place
    finally:
        dist.destroy_process_group()


def exchanging_gradients(model: nn.Module, place: Processes) -> Any:
    """`model`, or what wraps it so that its gradients are averaged over the processes."""
    if place.world == 1:
        return model
    # A sensor that no frame of the batch keeps, or a score without rivals, gives parameters no gradient.
    return nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
