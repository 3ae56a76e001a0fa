"""`egformer-fast check-data`: walks a data set before a training does, and says everything that is wrong with it.

Every file of every frame is decoded: absent and corrupt files, size mismatches, unknown label values, NaN and inf,
frames without a usable sensor, sensor files that no label goes with, another number of frames than the published set
has. What many frames lack alike, such as the folder of a sensor, is one line. The summary has what a description
needs: mean and standard deviation per channel over all finite pixels after scaling (per-frame moments, merged pairwise
as in Chan, Golub, LeVeque 1983), value ranges, presence, class shares.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from egformer_fast.errors import DataError

from .description import load_description
from .folder import FolderDataset, scaled, size_problem
from .listing import base_split, list_names, matching_names
from .sensor_files import files_of
from .sources import known_sets


@dataclass
class Moments:
    """Per channel, over finite values: count, mean, sum of squared deviations, lowest, highest; each (C,) float64."""

    count: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> Moments:
        """image: (C, H, W) float."""
        flat = image.reshape(len(image), -1).astype(np.float64)
        finite = np.isfinite(flat)
        count = finite.sum(1).astype(np.float64)
        mean = np.sum(flat, axis=1, where=finite) / np.maximum(count, 1)
        deviation = np.sum((flat - mean[:, None]) ** 2, axis=1, where=finite)
        low = np.min(flat, axis=1, where=finite, initial=np.inf)
        return cls(count, mean, deviation, low, np.max(flat, axis=1, where=finite, initial=-np.inf))

    @classmethod
    def none(cls, channels: int) -> Moments:
        zeros = np.zeros(channels)
        return cls(zeros, zeros, zeros, zeros + np.inf, zeros - np.inf)

    def merged(self, other: Moments) -> Moments:
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        step = other.mean - self.mean
        deviation = self.deviation + other.deviation + step**2 * self.count * share
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Moments(count, self.mean + step * share, deviation, low, high)

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(self.deviation / np.maximum(self.count, 1))


@dataclass
class CheckReport:
    """What a walk over one split found.

    problems: one line each, naming file and value. presence: frames with a readable file, by modality. moments: of the
    scaled values, by modality. pixels: (num_classes + 1,) label pixels, the ignored ones last.
    """

    name: str
    split: str
    frames: int
    classes: list[str]
    problems: list[str]
    presence: dict[str, int]
    moments: dict[str, Moments]
    pixels: np.ndarray
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def class_shares(self) -> dict[str, float]:
        """Share of each class in the labelled pixels."""
        labelled = max(1, int(self.pixels[:-1].sum()))
        return {name: int(count) / labelled for name, count in zip(self.classes, self.pixels, strict=False)}

    def __str__(self) -> str:
        lines = [f"{self.name}, split '{self.split}': {self.frames} frames"]
        lines += [f"  problem: {problem}" for problem in self.problems]
        lines += [f"  {note}" for note in self.notes]
        for name, moments in self.moments.items():
            lines.append(f"  {name}: in {self.presence[name]} of {self.frames} frames")
            if moments.count.any():
                lines.append(f"    range: {moments.low.min():.5g} to {moments.high.max():.5g}")
                lines += [f"    {key}: [{_numbers(getattr(moments, key))}]" for key in ("mean", "std")]
        shares = ", ".join(f"{name} {100 * share:.2f} %" for name, share in self.class_shares().items())
        ignored = 100 * int(self.pixels[-1]) / max(1, int(self.pixels.sum()))
        lines.append(f"  labelled pixels: {shares}; ignored: {ignored:.2f} % of all")
        return "\n".join([*lines, f"  {len(self.problems) or 'no'} problem(s)"])


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


@dataclass
class _Facts:
    """One frame's part of the report; `absent`: files that should be there, by modality ("label" for the label)."""

    problems: list[str] = field(default_factory=list)
    absent: dict[str, Path] = field(default_factory=dict)
    unusable: bool = False
    moments: dict[str, Moments] = field(default_factory=dict)
    pixels: np.ndarray | None = None


def check_dataset(dataset: FolderDataset, progress: bool = True) -> CheckReport:
    """Read all frames of a split, in as many threads as there are cores."""
    from tqdm import tqdm

    classes, frames = list(dataset.classes), len(dataset)
    moments = {name: Moments.none(channels) for name, channels in dataset.modalities.items()}
    report = CheckReport(
        dataset.name, dataset.split, frames, classes, [], dict.fromkeys(moments, 0), moments,
        np.zeros(len(classes) + 1, np.int64), [*_groups(dataset), *_mapping(dataset)],
    )  # fmt: skip
    lacks = _Lacks(dataset)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        walk = pool.map(partial(_inspect, dataset), range(frames))
        for facts in tqdm(walk, f"checking '{dataset.split}'", frames, unit="frame", disable=not progress):
            lacks.add(facts)
            for name, found in facts.moments.items():
                report.moments[name] = report.moments[name].merged(found)
                report.presence[name] += 1
            if facts.pixels is not None:
                report.pixels += facts.pixels
    report.problems = [*_wrong_count(dataset), *_without_label(dataset), *lacks.lines()]
    return report


class _Lacks:
    """The problems of the frames in their order; what more than MOST frames lack alike becomes one line ahead."""

    MOST = 3

    def __init__(self, dataset: FolderDataset) -> None:
        self.dataset = dataset
        self._lines: list[tuple[str, str]] = []
        self._absent: dict[str, list[Path]] = {}
        self._unusable: list[str] = []
        self._seen = 0

    def add(self, facts: _Facts) -> None:
        """The next frame's problems."""
        for key, path in facts.absent.items():
            self._absent.setdefault(key, []).append(path)
            self._lines.append((key, f"{path}: no such file"))
        self._lines += [("", problem) for problem in facts.problems]
        if facts.unusable:
            self._unusable.append(self.dataset.names[self._seen])
            self._lines.append(("no sensor", f"frame '{self._unusable[-1]}' has no usable sensor"))
        self._seen += 1

    def lines(self) -> list[str]:
        many = {key: paths for key, paths in self._absent.items() if len(paths) > self.MOST}
        summaries = [self._summary(key, paths) for key, paths in many.items()]
        skipped = set(many)
        if len(self._unusable) > self.MOST:
            skipped.add("no sensor")
            summaries.append(f"{len(self._unusable)} frames have no usable sensor, the first '{self._unusable[0]}'")
        return summaries + [text for key, text in self._lines if key not in skipped]

    def _summary(self, key: str, paths: list[Path]) -> str:
        owner = "label" if key == "label" else f"modality '{key}'"
        missing = next((folder for folder in reversed(paths[0].parents) if not folder.is_dir()), None)
        if len(paths) < self._seen or missing is None:
            return f"{owner}: {len(paths)} of {self._seen} frames have no file, the first {paths[0]}"
        return f"{owner}: none of the {self._seen} frames has a file; folder {missing} does not exist"


def _groups(dataset: FolderDataset) -> Iterator[str]:
    """How many frames each condition and each case has: those that scores come for."""
    groups = zip(*(dataset.group(index) for index in range(len(dataset))), strict=True)
    for title, names in zip(("conditions", "cases"), groups, strict=True):
        counts = Counter(name for name in sorted(names) if name)
        if counts:
            yield f"{title}: " + ", ".join(f"{name} {count}" for name, count in counts.items())


def _mapping(dataset: FolderDataset) -> Iterator[str]:
    if mapped := dataset.description.mapped:
        yield f"ignored, not in {mapped.space.name} or void: {', '.join(mapped.ignored) or 'nothing'}"
        yield f"classes of {mapped.space.name} that no label becomes: {', '.join(mapped.empty) or 'none'}"


def _wrong_count(dataset: FolderDataset) -> Iterator[str]:
    wanted = dataset.description.splits[dataset.split].frames
    if wanted not in (None, len(dataset)):
        yield f"split '{dataset.split}' has {len(dataset)} frames here, the published one {wanted}"


def _inspect(dataset: FolderDataset, index: int) -> _Facts:
    """Each file for itself, so that a frame's first problem does not hide the next."""
    facts, raws, label, files = _Facts(), {}, None, dataset.files(index)
    for key, path in files.items():
        sensor = dataset.sensors.get(key)
        lacking = [file for file in (files_of(path, sensor) if sensor else [path]) if not file.is_file()]
        if lacking:
            facts.absent[key] = lacking[0]
            continue
        try:
            if key == "label":
                label = dataset.read_label(path)
            else:
                raws[key] = dataset.read_map(key, path)
        except DataError as error:
            facts.problems.append(str(error))
    finite = set()
    for name, raw in raws.items():
        image = scaled(raw, dataset.sensors[name])
        facts.moments[name] = Moments.of(image)
        broken = image.size - int(facts.moments[name].count.sum())
        if broken:
            facts.problems.append(f"{files[name]}: {broken} of {image.size} values are NaN or infinite")
        else:
            finite.add(name)
    facts.unusable = not finite
    if label is not None:
        facts.pixels = np.bincount(np.minimum(label.ravel(), len(dataset.classes)), minlength=len(dataset.classes) + 1)
    if raws:
        size, owner = dataset.frame_size(files, label, raws)
        found = (size_problem(dataset.sensors[n], raw.shape[1:], files[n], size, owner) for n, raw in raws.items())
        facts.problems.extend(problem for problem in found if problem)
    return facts


def _without_label(dataset: FolderDataset) -> Iterator[str]:
    """Sensor files that no label goes with: frames that the split lacks, so scores would be over fewer frames."""
    description, base = dataset.description, base_split(dataset.description, dataset.split)
    label = description.label
    if label is None or label.optional or base.unlabelled or base.list_file:
        return
    folder, conditions = base.folder or "", description.has_conditions
    labelled = set(list_names(description, dataset.root, base.name))
    for name, sensor in dataset.sensors.items():
        if conditions and "{condition}" not in sensor.path:
            continue
        extra = sorted(matching_names(sensor.first_path, dataset.root, folder, conditions) - labelled)
        if extra:
            yield f"modality '{name}' has {len(extra)} file(s) without a label file, the first of frame '{extra[0]}'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of check-data."""
    parser.description = "Read every file of a data set; print problems and the statistics a description needs."
    known = ", ".join(known_sets())
    parser.add_argument("--data", required=True, help=f"the description: a dataset.yaml, or one of {known}")
    parser.add_argument("--root", type=Path, help="its folder (default: as the description says)")
    parser.add_argument("--split", help="walk this split (default: all that are not a part of another)")


def run(args: argparse.Namespace) -> int:
    """Print a report for each split; 2 where there is a problem."""
    description = load_description(args.data)
    splits = [args.split] if args.split else [name for name, split in description.splits.items() if split.of is None]
    found = False
    for name in splits:
        try:
            report = check_dataset(FolderDataset(description, args.root, name))
        except DataError as error:
            print(f"problem: {error}")
            found = True
            continue
        print(report)
        found = found or not report.ok
    return 2 if found else 0
