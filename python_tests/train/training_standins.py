"""A data set in memory and a model of two convolutions that keep to the interfaces of FolderDataset and EGFormer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from egformer_fast.models import saving
from egformer_fast.models.trace import StageTrace, Trace
from egformer_fast.train.adapt.engine import Adapter
from egformer_fast.train.config import Config
from egformer_fast.train.distributed import Processes
from egformer_fast.train.engine import Trainer


def alone_on(device: str) -> Processes:
    return Processes(0, 1, torch.device(device))


ALONE = alone_on("cpu")


class DotFrames:
    """Frames of 32 x 32 pixels with two sensors of noise; class 1 where the sum of both is positive."""

    name, split, ignore_index = "dots", "train", 255
    modalities = {"rgb": 3, "depth": 1}
    classes = ["low", "high"]
    palette = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    sensors = {n: SimpleNamespace(kind=n, mean=(0.0,) * c, std=(1.0,) * c) for n, c in modalities.items()}

    def __init__(self, count: int = 10, broken: Sequence[int] = ()) -> None:
        self.names = [f"frame_{index:02}" for index in range(count)]
        self.broken = broken

    def __len__(self) -> int:
        return len(self.names)

    def read_label(self, path: Path) -> np.ndarray:
        return self[self.names.index(path.stem)]["label"].numpy()

    def files(self, index: int) -> dict[str, Path]:
        return {name: Path(name) / f"{self.names[index]}.png" for name in [*self.modalities, "label"]}

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        sample = self[index]
        turns = int(rng.integers(4))
        sample["inputs"] = {name: image.rot90(turns, (1, 2)) for name, image in sample["inputs"].items()}
        sample["label"] = sample["label"].rot90(turns, (0, 1))
        return sample

    def samples(self, index: int, rngs: Iterable[np.random.Generator]) -> Iterator[dict[str, Any]]:
        return (self.sample(index, rng) for rng in rngs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng(index)
        images = {
            name: torch.from_numpy(rng.standard_normal((c, 32, 32), np.float32)) for name, c in self.modalities.items()
        }
        label = (images["rgb"].mean(0) + images["depth"][0] > 0).long()
        if index in self.broken:
            images["rgb"] = images["rgb"] * torch.inf
        return {
            "inputs": images,
            "present": torch.ones(2, dtype=torch.bool),
            "label": label,
            "padding": torch.zeros(label.shape, dtype=torch.bool),
            "name": self.names[index],
            "condition": "",
        }


class TwoConvs(nn.Module):
    """Two convolutions, with BatchNorm and dropout between them (state and randomness to lose on resuming) or plain."""

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.modalities, self.num_classes, self.keep = dict(DotFrames.modalities), 2, (1, 1, 1, 1)
        self.widest, self.stages, self.scored_channels = (2, 2, 2, 2), 4, None
        between = [nn.GELU()] if plain else [nn.BatchNorm2d(8), nn.GELU(), nn.Dropout(0.2)]
        self.encoder = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), *between)
        self.head = nn.Conv2d(8, 2, 1)
        self.keeps: list[tuple[int, ...]] = []

    def forward(
        self,
        inputs: dict[str, Tensor],
        present: Tensor | None = None,
        keep: Sequence[int] | None = None,
        trace: bool = False,
    ) -> Any:
        if self.training:
            self.keeps.append(tuple(keep or self.keep))
        shown = next(iter(inputs.values()))
        absent = {name: shown.new_zeros(len(shown), count, *shown.shape[2:]) for name, count in self.modalities.items()}
        images = {**absent, **inputs}
        features = self.encoder(torch.cat([images[name] for name in self.modalities], 1))
        logits = self.head(features)
        if not trace:
            return logits
        batch = len(logits)
        slots = torch.arange(2, device=logits.device).expand(batch, 2)
        score = features[:, :2].mean((2, 3)).sigmoid()
        stage = StageTrace(score, slots, slots[:, :1], logits.new_ones(batch, 1))
        return logits, Trace(tuple(self.modalities), [stage] * 4)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        return [
            {"name": "encoder", "params": list(self.encoder.parameters()), "weight_decay": weight_decay},
            {"name": "head", "params": list(self.head.parameters()), "weight_decay": 0.0},
        ]

    def save_pretrained(self, folder: str | Path) -> None:
        saving.save(folder, {"backbone": "two_convs"}, self.state_dict())


def small_config(**changes: Any) -> Config:
    """Three epochs of 5 batches, quiet; changes are written section__key=value."""
    config = Config()
    config.train.epochs, config.train.batch_size, config.train.lr = 3, 2, 0.01
    config.train.tensorboard, config.eval.pictures, config.train.device = False, 0, "cpu"
    for name, value in changes.items():
        section, _, key = name.partition("__")
        setattr(getattr(config, section), key, value)
    return config


def small_adapter(folder: Path, config: Config, target: DotFrames | None = None, place: Processes = ALONE) -> Adapter:
    """An adapter of TwoConvs, always with the same initial weights; the target has its own frames."""
    folder.mkdir(exist_ok=True)
    for name in ("dataset.yaml", "target.yaml"):
        (folder / name).write_text("name: dots\n")
    torch.manual_seed(0)
    return Adapter(config, folder, TwoConvs(), DotFrames(), DotFrames(4), target or DotFrames(7), place)


def small_trainer(
    folder: Path, config: Config, frames: DotFrames | None = None, plain: bool = False, place: Processes = ALONE
) -> Trainer:
    """A trainer of TwoConvs, always with the same initial weights."""
    folder.mkdir(exist_ok=True)
    (folder / "dataset.yaml").write_text("name: dots\n")
    torch.manual_seed(0)
    return Trainer(config, folder, TwoConvs(plain), frames or DotFrames(), DotFrames(4), place)
