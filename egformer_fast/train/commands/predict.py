"""egformer-fast predict: label images, overlays and figures for a split, or for files and folders of each sensor.

OUT/labels/NAME.png     palette PNG; pixel values are class numbers, 255 where no sensor was usable
OUT/overlays/NAME.png   the prediction over the first usable sensor
OUT/figures/NAME.png    inputs, label where known, prediction, overlay, scores and kept sensors by stage
OUT/overview.png        the first frames in one picture
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from egformer_fast.data import load_description
from egformer_fast.errors import ConfigError
from egformer_fast.train.commands.options import add_data_options, add_model_options, check_keep, positive
from egformer_fast.train.inference import check_classes
from egformer_fast.train.input_files import InputFrames
from egformer_fast.train.loading import LoadedRun, load_run
from egformer_fast.train.pictures import (
    FrameView,
    frame_figure,
    frame_overlay,
    frame_views,
    save_label,
    save_picture,
    write_grid,
)

OVERVIEW_FRAMES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    add_data_options(parser)
    parser.add_argument("--split", help="split to predict, as the description names it")
    parser.add_argument(
        "--input", action="append", default=[], metavar="SENSOR=PATH", help="file or folder of a sensor; repeat it"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--limit", type=positive, help="at most so many frames, spread evenly")
    parser.add_argument("--labels-only", action="store_true", help="write the label images alone")


def run(args: argparse.Namespace) -> int:
    loaded = load_run(args.checkpoint, args.device)
    check_keep(loaded, args.keep)
    dataset = _dataset(args, loaded)
    check_classes(loaded.model, dataset)
    count = min(args.limit or len(dataset), len(dataset))
    indices = [number * len(dataset) // count for number in range(count)]
    # Of inputs it is known what is there: an adapted model can take sensors that its target does not have.
    lacking = [name for name in loaded.model.modalities if args.input and name not in dataset.modalities]
    views = frame_views(
        loaded.model, dataset, indices, args.keep, [*args.missing, *lacking], args.tta, args.batch_size, args.workers
    )
    notes = Counter[str]()
    written = _written(tqdm(views, total=count, unit="frame", desc="predict", leave=False), dataset, args, notes)
    if not args.labels_only:
        write_grid(islice(written, OVERVIEW_FRAMES), dataset, args.out / "overview.png")
    for _ in written:
        pass
    kinds = "labels" if args.labels_only else "labels, overlays, figures and overview.png"
    print(f"{count} frame(s) of {dataset.name}, {dataset.split}: {kinds} in {args.out}")
    for note, frames in notes.items():
        print(f"{note} in {frames} of {count} frame(s)")
    return 0


def _dataset(args: argparse.Namespace, loaded: LoadedRun) -> Any:
    if bool(args.input) == bool(args.split):
        raise ConfigError("found neither or both, wanted either --split, or --input SENSOR=PATH for each sensor")
    if args.split:
        return loaded.dataset(args.split, args.data, args.root, args.missing)
    for option in ("data", "root"):
        if getattr(args, option):
            raise ConfigError(f"--{option}: goes with --split, not with --input")
    paths: dict[str, Path] = {}
    description = load_description(loaded.description)
    known = [name for name in loaded.model.modalities if name in description.modalities]
    for text in args.input:
        name, equals, path = text.partition("=")
        if not equals or not path or name not in known or name in paths:
            raise ConfigError(f"--input: found {text!r}, wanted SENSOR=PATH once for sensors among {', '.join(known)}")
        paths[name] = Path(path)
    return InputFrames(description, known, paths, loaded.transform)


def _written(
    views: Iterable[FrameView], dataset: Any, args: argparse.Namespace, notes: Counter[str]
) -> Iterator[FrameView]:
    """The same frames, each after its files are written; `notes` counts what is missing."""
    for view in views:
        name = f"{view.name}.png"
        save_label(view.prediction, dataset.palette, args.out / "labels" / name, dataset.ignore_index)
        if not args.labels_only:
            save_picture(Image.fromarray(frame_overlay(view, dataset)), args.out / "overlays" / name)
            frame_figure(view, dataset, args.out / "figures" / name)
        missing = [sensor for sensor, image in view.images.items() if image is None]
        notes.update(
            ["no usable sensor, the label is all ignore (255),"]
            if view.blind
            else [f"{sensor} is missing or broken" for sensor in missing]
        )
        yield view
