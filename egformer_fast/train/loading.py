"""From a run or checkpoint folder to a model and its data.

    RUN/                            config.yaml, dataset.yaml, checkpoints/{best,last}/
    RUN/checkpoints/best/           config.json, model.safetensors, dataset.yaml, and frames.json where frames are
                                    resized: enough alone, wherever it is copied to

A run folder means its best checkpoint; of an adaptation, which has no labels to choose by, the last. The checkpoint's
dataset.yaml says how inputs are scaled and normalised; the root of the data comes from the caller, else from the run's
config.yaml where that folder is still there, else it is as the description says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from egformer_fast.errors import ConfigError
from egformer_fast.models import EGFormer
from egformer_fast.train.checkpoint import find_checkpoint, load_size
from egformer_fast.train.config import Config
from egformer_fast.train.config_file import load_config

if TYPE_CHECKING:
    from egformer_fast.data import FolderDataset
    from egformer_fast.data.transforms import Resize

DESCRIPTION = "dataset.yaml"


@dataclass(frozen=True)
class LoadedRun:
    """folder: of the checkpoint. description: its dataset.yaml. size: height and width that frames are resized to, or
    None. config: of the run, None beside a lone checkpoint."""

    model: EGFormer
    folder: Path
    description: Path
    size: tuple[int, int] | None
    config: Config | None

    @property
    def transform(self) -> Resize | None:
        """What makes frames of the files those that the model was trained on."""
        from egformer_fast.data.transforms import Resize

        return None if self.size is None else Resize(self.size)

    def dataset(
        self,
        split: str,
        description: str | Path | None = None,
        root: str | Path | None = None,
        missing: Sequence[str] = (),
    ) -> FolderDataset:
        """The data set to run the model on, with the modalities that the model takes and the frame size of its run.

        Args:
            split: a split named in the description.
            description: another dataset.yaml than the checkpoint's; its own scaling and normalisation count then.
            root: the folder of the data.
            missing: modalities that need not be there.

        Raises:
            DataError, FileNotFoundError: see FolderDataset.
        """
        from egformer_fast.data import FolderDataset

        modalities = [name for name in self.model.modalities if name not in missing]
        if description is None:
            recorded = self.config.scored.root if self.config else None
            # A run folder that was moved to another machine leaves its data root behind.
            root = root or (recorded if recorded and Path(recorded).is_dir() else None)
        return FolderDataset(description or self.description, root, split, modalities, self.transform)


def load_run(path: str | Path, device: str = "cpu") -> LoadedRun:
    """Open a run folder (its best checkpoint) or a checkpoint folder. device: "auto" takes a GPU where there is one.

    Raises:
        FileNotFoundError: no such folder, or a file is missing in it; the message names it.
        ValueError: a file is damaged, or the device is not there.
    """
    if not Path(path).is_dir():
        raise FileNotFoundError(f"checkpoint {path}: no such folder; wanted a run folder or a checkpoint folder")
    folder = find_checkpoint(path, "last" if _adapts(Path(path)) else "best")
    # The checkpoints of a run are two folders below it.
    above = folder.absolute().parent.parent
    in_run = folder.absolute().parent.name == "checkpoints" and (above / "config.yaml").is_file()
    description = folder / DESCRIPTION
    if not description.is_file():
        raise FileNotFoundError(f"{folder}: no {DESCRIPTION} beside the weights, which says how to read the inputs")
    model = EGFormer.from_pretrained(folder).eval().to(pick_device(device))
    config = load_config(above / "config.yaml") if in_run else None
    size = load_size(folder)
    if size is None and config is not None and config.size is not None:
        height, width = config.size  # of a checkpoint from before frames.json
        size = (height, width)
    return LoadedRun(model, folder, description, size, config)


def _adapts(folder: Path) -> bool:
    """Whether this is the folder of an adaptation."""
    return (folder / "config.yaml").is_file() and load_config(folder / "config.yaml").adapts


def pick_device(name: str) -> str:
    """ "auto" -> "cuda" or "cpu"; raises ConfigError for a GPU that is not there, or what is no device."""
    import torch

    available = torch.cuda.is_available()
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ConfigError(f"device: found {name!r}, wanted auto, cpu, cuda or cuda:NUMBER")
    if available and int(name.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device: found {name!r}, but torch sees {torch.cuda.device_count()} GPU(s) here")
    if name.startswith("cuda") and not available:
        raise ConfigError(f"device: found {name!r}, but torch sees no GPU here; wanted auto or cpu")
    return ("cuda" if available else "cpu") if name == "auto" else name
