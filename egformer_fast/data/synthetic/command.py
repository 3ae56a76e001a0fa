"""`egformer-fast make-data`: draws a folder of street scenes, in several processes, going on where it stopped.

The folder's recipe (seed, size, domain) lies in make-data.json; frames of another recipe are never mixed in. Frames
depend on their number alone, so processes share nothing and a second run draws only what is missing. dataset.yaml
comes last: a folder that has one is complete.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.resources import files
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

from egformer_fast.errors import DataError
from egformer_fast.files import write_whole

from .domain import DOMAINS, HOME, Domain, find_domain
from .frame import SPLITS, case_of, draw_frame
from .writer import FOLDERS, frame_paths, is_written, write_frame

RECIPE = "make-data.json"
DESCRIPTION = "dataset.yaml"
_NAME = b"\nname: deliver_drawn"
_DEFAULT_SPLITS = {"train": 70.0, "val": 15.0, "test": 15.0}
_FRAMES_WORTH_A_PROCESS = 50  # a new process loads the package for seconds, a frame takes a tenth of one


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and (width or height).isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give pixels (256) or HEIGHTxWIDTH (256x512)")
    size = int(height), int(width or height)
    if min(size) < 32:
        raise argparse.ArgumentTypeError(f"{text!r} is too small: at least 32 pixels a side")
    return size


def _splits(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            shares[name.strip()] = float(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{part!r} is no share: write train=70,val=15,test=15") from None
    if set(shares) - set(SPLITS) or min(shares.values()) < 0 or not sum(shares.values()) > 0:
        raise argparse.ArgumentTypeError(f"{text!r}: the names are {', '.join(SPLITS)}, the shares >= 0, not all 0")
    return shares


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count: a whole number from 1 is wanted")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no seed: a whole number from 0 is wanted")
    return int(text)


def _domain(text: str) -> Domain:
    try:
        return find_domain(text)
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of make-data."""
    parser.description = "Draw street scenes with exact labels: RGB, depth, event, LiDAR, in DELIVER's folders."
    parser.add_argument("--out", type=Path, required=True, help="folder to fill; new, empty or from an earlier run")
    parser.add_argument("--frames", type=_positive, required=True, help="frames in all splits together")
    parser.add_argument("--size", type=_size, default=(256, 256), help="pixels, or HEIGHTxWIDTH (default 256)")
    parser.add_argument("--seed", type=_natural, default=0, help="same seed, same bytes (default 0)")
    parser.add_argument(
        "--domain", type=_domain, default=HOME, metavar="NAME",
        help=f"{' or '.join(DOMAINS)}: where it is drawn; away looks, is lit and is measured otherwise (default home)",
    )  # fmt: skip
    parser.add_argument(
        "--splits", type=_splits, default=_DEFAULT_SPLITS, metavar="train=70,val=15,test=15",
        help="how the frames are shared out; counts work too when they add up to --frames",
    )  # fmt: skip
    parser.add_argument("--workers", type=_positive, help="processes (default: the cores, fewer for few frames)")
    parser.add_argument("--overwrite", action="store_true", help="draw frames again that exist")


def run(args: argparse.Namespace) -> int:
    """Draw what the arguments ask for; prints one closing line; 130 when stopped by Ctrl-C."""
    try:
        drawn, kept = make_data(
            args.out,
            args.frames,
            args.size,
            args.seed,
            args.splits,
            args.workers,
            args.overwrite,
            progress=True,
            domain=args.domain,
        )
    except KeyboardInterrupt:
        print(f"{args.out}: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"{args.out}: {drawn} frames drawn, {kept} were there already; the description is {DESCRIPTION}")
    return 0


def share_out(frames: int, shares: dict[str, float]) -> dict[str, int]:
    """Whole counts in proportion to the shares that add up to `frames` (largest remainders get the rest)."""
    total = sum(shares.values())
    exact = {name: frames * share / total for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_rest[: frames - sum(counts.values())]:
        counts[name] += 1
    return counts


def make_data(
    out: Path,
    frames: int,
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
    splits: dict[str, float] | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
    domain: Domain = HOME,
) -> tuple[int, int]:
    """Fill `out` with `frames` frames of height and width `size`; returns how many were drawn and how many kept.

    Raises DataError when `out` holds something else, frames of another seed, size or domain or beyond those asked for,
    or when the disk refuses.
    """
    _claim(out, {"domain": domain.name, "seed": seed, "height": size[0], "width": size[1]})
    counts = share_out(frames, splits or _DEFAULT_SPLITS)
    tasks = [(split, index) for split, count in counts.items() for index in range(count)]
    _refuse_others(out, {frame_paths(out, *task, case_of(task[1], domain))["label"] for task in tasks})
    missing = [
        (split, index)
        for split, index in tasks
        if overwrite or not is_written(out, split, index, case_of(index, domain))
    ]
    try:
        if missing:
            (out / DESCRIPTION).unlink(missing_ok=True)
        for _ in _progress(_draw_all(out, seed, size, domain, missing, workers), len(missing), progress):
            pass
        write_whole(out / DESCRIPTION, _description(domain))
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror or error}; run it again to go on from here") from error
    return len(missing), len(tasks) - len(missing)


def _refuse_others(out: Path, wanted: set[Path]) -> None:
    """Frames of an earlier call would be in the splits too."""
    folder = out / FOLDERS["label"][0]
    others = sorted(path for path in folder.rglob("*.png") if path not in wanted)
    if others:
        raise DataError(
            f"{out} holds {len(others)} frame(s) beyond those asked for, the first {others[0].relative_to(folder)}: "
            "ask for as many in the same splits, or choose another folder"
        )


def _description(domain: Domain) -> bytes:
    """dataset.yaml, its name that of the domain where that is not home."""
    text = files(__package__).joinpath(DESCRIPTION).read_bytes()
    return text if domain.name == HOME.name else text.replace(_NAME, _NAME + f"_{domain.name}".encode())


def _claim(out: Path, recipe: dict[str, int | str]) -> None:
    """Make the folder ours, or refuse it."""
    note = out / RECIPE
    try:
        if note.is_file():
            found = json.loads(note.read_text())
            if isinstance(found, dict):  # a folder from before there were domains is of the first
                found = {"domain": HOME.name} | found
            if found != recipe:
                raise DataError(f"{out} was drawn with {found}, asked for is {recipe}: choose another folder")
            return
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise DataError(f"{out} holds something else (no {RECIPE} in it): choose a new or an empty folder")
        write_whole(note, json.dumps(recipe).encode())
    except json.JSONDecodeError as error:
        raise DataError(f"{note} is no recipe of make-data ({error}): choose another folder") from error
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror or error}") from error


def _draw_one(out: Path, seed: int, size: tuple[int, int], domain: Domain, task: tuple[str, int]) -> None:
    split, index = task
    case = case_of(index, domain)
    write_frame(out, split, index, draw_frame(seed, split, index, size, case, domain), case)


def _follow_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when the parent is gone, which the pool itself would not see."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def _draw_all(
    out: Path, seed: int, size: tuple[int, int], domain: Domain, tasks: list[tuple[str, int]], workers: int | None
) -> Iterator[None]:
    """Draw the tasks, one item a finished frame."""
    draw = partial(_draw_one, out, seed, size, domain)
    if workers is None:
        workers = min(os.cpu_count() or 1, 1 + len(tasks) // _FRAMES_WORTH_A_PROCESS)
    if workers == 1 or len(tasks) < 2:
        yield from map(draw, tasks)
        return
    pool = ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn"), _follow_parent)
    try:
        yield from pool.map(draw, tasks)
    finally:
        pool.shutdown(cancel_futures=True)


def _progress(items: Iterator[None], total: int, shown: bool) -> Iterator[None]:
    from tqdm import tqdm

    return iter(tqdm(items, total=total, unit="frame", desc="make-data", disable=not shown))
