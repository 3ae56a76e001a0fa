"""FolderDataset: the frames of one split of a `dataset.yaml`, as model inputs with a label (DescribedFrames).

    files -> read (cached raw) -> scale -> match the label's size -> transform -> normalise -> sample

A sample holds every modality, zeros where a sensor is absent; `present` tells them apart. `ds[i]` draws nothing at
random and may have no sensor at all (evaluation says so); `ds.sample(i, rng)` is for training and refuses such a frame.
NaN or inf in a float file stays as it is: the model detects the broken sensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from egformer_fast.errors import DataError

from .description import IGNORE, Description, Label, Modality, load_description
from .display import displayed
from .frame import Frame
from .listing import base_split, find_root, list_names, place
from .reading import full_scale, read_label
from .section import nearest
from .sensor_files import is_there, read_sensor, trimmed
from .transforms import Transform, deterministic_part, resize


class DescribedFrames(Dataset[dict[str, Any]], ABC):
    """Frames whose files are read, scaled and normalised as a description says; a subclass says which files.

    A sample: inputs {name: float32 (C, H, W)}, present bool (M,) in the order of `modalities`, degraded bool (M,), True
    where a present one is dead or known to be worse than it should be (drawn, or its failure is the frame's case),
    label int64 (H, W) with 255 = ignore, padding bool (H, W), True beyond the edge of the frame, name, condition and
    case ("" where the set has none); where degradations are drawn aside, "worse": inputs with them, which `degraded` is
    of. `default_collate` batches it where sizes agree.

    Args:
        description, sensors: the description, and those of its modalities that are read, in this order.
        names: one name a frame. split: what to call them together.
        transform: see transforms.py; `ds[i]` applies its deterministic part, `ds.sample` all of it.
        cache: keep decoded files in memory once they were read (in each loading process).
    """

    ignore_index = IGNORE

    def __init__(
        self,
        description: Description,
        sensors: dict[str, Modality],
        names: list[str],
        split: str,
        transform: Transform | None = None,
        cache: bool = False,
    ) -> None:
        self.description, self.sensors, self.names, self.split = description, sensors, names, split
        self.name, self.transform = description.name, transform
        self.modalities = {name: sensor.channels for name, sensor in sensors.items()}
        self.angles = [name for name, sensor in sensors.items() if sensor.kind == "aolp"]
        self.classes, self.palette = list(description.classes), description.palette
        self._cache: dict[tuple[str, Path], np.ndarray] | None = {} if cache else None

    @abstractmethod
    def files(self, index: int) -> dict[str, Path]:
        """Path of every modality that a frame has, and of its label ("label"). With {part} in it, where a sensor has
        several files (see sensor_files.py)."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._sample(index, self._still(index))

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """The frame with `transform` drawn from rng. Raises DataError where no sensor is present and finite."""
        return next(self.samples(index, [rng]))

    def samples(self, index: int, rngs: Iterable[np.random.Generator]) -> Iterator[dict[str, Any]]:
        """One draw of `sample` after the other, of a frame that is read once."""
        frame = self.frame(index)
        if not frame.live:
            raise DataError(f"frame '{self.names[index]}' of {self.name}: all sensors are absent or not finite")
        if len(self) > 1:
            frame = replace(frame, other=lambda rng: self.frame(_another(index, len(self), rng)))
        for rng in rngs:
            yield self._sample(index, self.transform(frame, rng) if self.transform else frame)

    def raw(self, index: int) -> dict[str, Any]:
        """For pictures, of the size of `ds[i]`: inputs {name: uint8 (H, W, 3)}, label int64 (H, W), present, name,
        condition. rgb is shown as it is, other kinds stretched from their 1st to their 99th percentile."""
        frame = self._still(index)
        inputs = {name: displayed(image, frame.kinds[name]) for name, image in frame.maps.items()}
        return self._tags(index, frame) | {"inputs": inputs, "label": frame.label.astype(np.int64)}

    def read_map(self, name: str, path: Path) -> np.ndarray:
        """(C, H, W) of one file of a modality (of several, where {part} is in the path), not yet scaled; not to be
        written to."""
        return self._cached(name, path, lambda: read_sensor(path, self.sensors[name], self.description.cut))

    def read_label(self, path: Path) -> np.ndarray:
        """(H, W) uint8 of a label file; not to be written to."""
        label = self.description.label
        assert label is not None
        cut = self.description.cut
        return self._cached("label", path, lambda: trimmed(read_label(path, label.values, label.channel), cut, path))

    def frame(self, index: int) -> Frame:
        """The frame as it lies in the files, scaled, all maps of one size."""
        files = self.files(index)
        label = self.read_label(files["label"]) if "label" in files else None
        raws = {name: self.read_map(name, path) for name, path in files.items() if name != "label"}
        if not files:
            sensors = ", ".join(self.sensors)
            raise DataError(f"frame '{self.names[index]}' of {self.name} has no label and no file of {sensors}")
        size, owner = self.frame_size(files, label, raws)
        label = np.full(size, IGNORE, np.uint8) if label is None else label
        maps, dead = {}, set()
        for name, sensor in self.sensors.items():
            if name not in raws:
                maps[name] = np.zeros((sensor.channels, *size), np.float32)
                continue
            if problem := size_problem(sensor, raws[name].shape[1:], files[name], size, owner):
                raise DataError(problem)
            image = scaled(raws[name], sensor)
            maps[name] = resize(image, size, sensor.resize or "nearest")
            if raws[name].dtype.kind == "f" and not np.isfinite(image).all():
                dead.add(name)
        kinds = {name: sensor.kind for name, sensor in self.sensors.items()}
        failing = self.description.failing.get(self.group(index)[1])
        degraded = frozenset(name for name in raws if name == failing and name not in dead)
        present = {name: name in raws for name in self.sensors}
        return Frame(maps, label, kinds, present, frozenset(dead), degraded=degraded)

    def frame_size(
        self, files: dict[str, Path], label: np.ndarray | None, raws: dict[str, np.ndarray]
    ) -> tuple[tuple[int, int], Path]:
        """(height, width) of a frame and the file that sets it: the label, else the first map that is not resized."""
        if label is not None:
            return (label.shape[0], label.shape[1]), files["label"]
        name = min(raws, key=lambda name: self.sensors[name].resize is not None)
        return (raws[name].shape[1], raws[name].shape[2]), files[name]

    def _cached(self, key: str, path: Path, read: Callable[[], np.ndarray]) -> np.ndarray:
        """By modality too: two may lie in one file."""
        if self._cache is None:
            return read()
        if (key, path) not in self._cache:
            self._cache[key, path] = read()
        return self._cache[key, path]

    def _still(self, index: int) -> Frame:
        # The deterministic part draws nothing; a generator is only there for the signature.
        return deterministic_part(self.transform)(self.frame(index), np.random.default_rng(0))

    def group(self, index: int) -> tuple[str, str]:
        """(condition, case) of a frame, "" where it has none."""
        name = self.names[index]
        condition, _, rest = name.partition("/") if self.description.has_conditions else ("", "", name)
        return condition, next((case for case, word in self.description.cases.items() if word in rest), "")

    def _tags(self, index: int, frame: Frame) -> dict[str, Any]:
        condition, case = self.group(index)
        present = torch.tensor(list(frame.present.values()))
        return {"present": present, "name": self.names[index], "condition": condition, "case": case}

    def _sample(self, index: int, frame: Frame) -> dict[str, Any]:
        inputs = self._inputs(frame, frame.maps)
        worse = {} if frame.worse is None else {"worse": inputs | self._inputs(frame, frame.worse)}
        padding = np.zeros(frame.label.shape, bool) if frame.padding is None else frame.padding
        clean = frame.clean
        return (
            self._tags(index, frame)
            | worse
            | {
                "inputs": inputs,
                "degraded": torch.tensor([here and name not in clean for name, here in frame.present.items()]),
                "label": torch.from_numpy(frame.label.astype(np.int64)),
                "padding": torch.from_numpy(padding.copy()),
            }
        )

    def _inputs(self, frame: Frame, maps: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Normalised maps; zeros where a sensor is absent."""
        return {
            name: _normalised(image, self.sensors[name]) if frame.present[name] else torch.zeros(image.shape)
            for name, image in maps.items()
        }


class FolderDataset(DescribedFrames):
    """One split of a data set.

    Args:
        description: path of a dataset.yaml (see description.py), name of one that comes with the package, or one
            that is loaded.
        root: folder of the data; default: the environment variable that `root_env` names, else `root` of the
            description relative to its file, else its file's folder.
        split: name of a split in the description.
        modalities: names of those to read, in this order; default all.
        transform, cache: see DescribedFrames, also for what a sample is.
        labels: False opens no label file, every label is all ignore, and the frames are those that one of these
            modalities has a file of, labelled or not.

    Raises DataError: what is wrong in the description, an unknown split or modality, an empty split; when reading, what
    is wrong with a file, which it names. FileNotFoundError without the description.
    """

    def __init__(
        self,
        description: str | Path | Description,
        root: str | Path | None = None,
        split: str = "train",
        modalities: Sequence[str] | None = None,
        transform: Transform | None = None,
        cache: bool = False,
        labels: bool = True,
    ) -> None:
        described = description if isinstance(description, Description) else load_description(description)
        self.root = find_root(described, root)
        sensors = _choose(described, modalities)
        if not labels:
            described = _without_labels(described, sensors, split)
        super().__init__(described, sensors, list_names(described, self.root, split), split, transform, cache)
        base = base_split(described, split)
        self._folder = base.folder or ""
        self._label = described.label if labels and not base.unlabelled else None

    @property
    def labelled(self) -> bool:
        """Whether frames of this split have labels that are read."""
        return self._label is not None

    def files(self, index: int) -> dict[str, Path]:
        """Path of every modality and of the label ("label"); optional ones only where the file exists."""
        name, conditions = self.names[index], self.description.has_conditions
        owners: dict[str, Modality | Label] = dict(self.sensors)
        if self._label:
            owners["label"] = self._label
        paths = {key: self.root / place(owner.path, self._folder, name, conditions) for key, owner in owners.items()}
        return {key: p for key, p in paths.items() if not owners[key].optional or is_there(p, self.sensors.get(key))}


def _another(index: int, count: int, rng: np.random.Generator) -> int:
    """Any index below count but this one."""
    return (index + 1 + int(rng.integers(count - 1))) % count


def scaled(raw: np.ndarray, sensor: Modality) -> np.ndarray:
    """(C, H, W) in the file's dtype -> new float32 array, divided by the sensor's scale, less its shift."""
    divisor = sensor.scale or full_scale(raw.dtype)
    image = np.divide(raw, divisor, dtype=np.float32, casting="unsafe")
    return np.subtract(image, np.float32(sensor.shift), out=image) if sensor.shift else image


def size_problem(
    sensor: Modality, found: Sequence[int], path: Path, wanted: tuple[int, int], owner: Path
) -> str | None:
    """What is wrong with a map's size beside that of the file that sets it, or None."""
    if tuple(found) == wanted or sensor.resize:
        return None
    return (
        f"{path}: {found[0]}x{found[1]} pixels (height x width), but {owner} has {wanted[0]}x{wanted[1]}; "
        f"`resize: nearest` or `resize: bilinear` of modality '{sensor.name}' would fit it"
    )


def _choose(description: Description, modalities: Sequence[str] | None) -> dict[str, Modality]:
    known = description.modalities
    names = list(known) if modalities is None else list(modalities)
    for name in names:
        if name not in known:
            raise DataError(f"data set '{description.name}' has no modality '{name}'; {nearest(name, list(known))}")
    if not names or len(set(names)) < len(names):
        raise DataError(f"modalities: wanted one or more distinct names of {', '.join(known)}; found {names}")
    return {name: known[name] for name in names}


def _without_labels(description: Description, sensors: dict[str, Modality], split: str) -> Description:
    """The same data set with these sensors and no labels, so that frames are listed by the sensors' files. A list file
    says which frames there are, and files outside the folders of conditions do not."""
    listed = split in description.splits and base_split(description, split).list_file
    outside = description.has_conditions and any("{condition}" not in s.path for s in sensors.values())
    return description if listed or outside else replace(description, label=None, modalities=sensors)


def _normalised(image: np.ndarray, sensor: Modality) -> torch.Tensor:
    """(image - mean) / std per channel, in new memory in C order (flips and turns leave negative strides)."""
    out = np.empty(image.shape, np.float32)
    np.subtract(image, np.array(sensor.mean, np.float32)[:, None, None], out=out)
    return torch.from_numpy(np.divide(out, np.array(sensor.std, np.float32)[:, None, None], out=out))
