"""Frames from files that no split describes: `predict --input rgb=path --input depth=path`.

A path is a file (then all are, and there is one frame) or a folder with a file for each frame. Files of different
sensors belong together by their frame's id: what {id} stands for in the file name of the description's template, as in
"S2_after_{id}.png", or the file's name without its suffix where a folder is not named that way. A frame that some
folder lacks has that sensor missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from egformer_fast.data import DescribedFrames, Description, Modality
from egformer_fast.data.transforms import Transform
from egformer_fast.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".npy", ".npz", ".bin", ".h5", ".bmp", ".tif", ".tiff")
Files = dict[str, Path]


class InputFrames(DescribedFrames):
    """Named files as a data set without labels, read, scaled and normalised as a description says.

    Args:
        description: that of the checkpoint.
        modalities: those of the model that it describes; the ones without a path are missing in every frame.
        paths: modality -> file or folder.
        transform: see DescribedFrames.

    Raises:
        FileNotFoundError: a path does not exist.
        DataError: files and folders are mixed, a folder holds no image, or no frame is in more than one folder.
    """

    def __init__(
        self,
        description: Description,
        modalities: list[str],
        paths: Mapping[str, Path],
        transform: Transform | None = None,
    ) -> None:
        several = [name for name in paths if description.modalities[name].parts]
        if several:
            parts = ", ".join(description.modalities[several[0]].parts)
            raise DataError(f"input {several[0]}: each frame has {parts} in files of their own; wanted --split instead")
        self._frames = _frames({name: Path(path) for name, path in paths.items()}, description.modalities)
        sensors = {
            name: replace(description.modalities[name], path="{id}", optional=True, parts=()) for name in modalities
        }
        unlabelled = replace(description, label=None, modalities=sensors, cases={})
        super().__init__(unlabelled, sensors, sorted(self._frames), "input", transform)

    def files(self, index: int) -> Files:
        return self._frames[self.names[index]]


def _frames(paths: Files, sensors: Mapping[str, Modality]) -> dict[str, Files]:
    """Frame id -> modality -> file."""
    for name, path in paths.items():
        if not path.exists():
            raise FileNotFoundError(f"input {name}={path}: no such file or folder")
    folders = [name for name, path in paths.items() if path.is_dir()]
    if not folders:
        return {next(iter(paths.values())).stem: dict(paths)}
    if len(folders) < len(paths):
        single = next(name for name in paths if name not in folders)
        raise DataError(f"inputs: {single} is a file and {folders[0]} a folder; wanted all files or all folders")
    by_sensor = {name: _folder(name, path, sensors[name]) for name, path in paths.items()}
    frames: dict[str, Files] = {}
    for name, files in by_sensor.items():
        for frame, path in files.items():
            frames.setdefault(frame, {})[name] = path
    if len(paths) > 1 and max(map(len, frames.values())) == 1:
        seen = ", ".join(f"{name} has {min(files)!r}" for name, files in by_sensor.items())
        raise DataError(f"inputs: no frame is in more than one folder ({seen}); wanted the same names in all of them")
    return frames


def _folder(name: str, folder: Path, sensor: Modality) -> Files:
    """Frame id -> file."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"input {name}={folder}: no image there; wanted files ending in {', '.join(SUFFIXES)}")
    matches = [_pattern(sensor).fullmatch(path.name) for path in files]
    ids = [match["id"] if match else path.stem for match, path in zip(matches, files, strict=True)]
    if not all(matches):
        ids = [path.stem for path in files]
    for number, frame in enumerate(ids):
        if frame in ids[:number]:
            first = files[ids.index(frame)].name
            raise DataError(f"input {name}={folder}: {first} and {files[number].name} are both frame {frame!r}")
    return dict(zip(ids, files, strict=True))


def _pattern(sensor: Modality) -> re.Pattern[str]:
    """The template's file name with {id} as a group; matches nothing where the id is not in the file name."""
    parts = re.split(r"({\w+})", sensor.path.rpartition("/")[2])
    if parts.count("{id}") != 1:
        return re.compile(r"(?!)(?P<id>)")
    known = {"{id}": "(?P<id>.+)"}
    return re.compile("".join(known.get(part, ".+" if part.startswith("{") else re.escape(part)) for part in parts))
