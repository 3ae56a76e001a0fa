"""The whole job on drawn street scenes, from nothing: data, training, evaluation, pictures (`make demo`).

Each step is the command a user would type; a step that is done is skipped, so that an interrupted demo goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from egformer_fast.cli import main as command

CONFIG = Path(__file__).parent.parent / "configs" / "drawn.yaml"


def step(title: str, *arguments: str) -> None:
    start = time.perf_counter()
    print(f"\n$ egformer-fast {' '.join(arguments)}", flush=True)
    status = command(arguments)
    if status != 0:
        sys.exit(status)
    print(f"  {title}: {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--out", default="demo", help="folder for scenes, run and pictures (default: demo)")
    parser.add_argument("--frames", default="240", help="scenes to draw, training and validation together")
    arguments = parser.parse_args()
    out = Path(arguments.out)
    scenes, run, pictures = out / "scenes", out / "run", out / "pictures"
    start = time.perf_counter()
    splits = f"train={int(arguments.frames) - 60},val=40,test=20"
    step(
        "scenes drawn",
        *("make-data", "--out", str(scenes), "--frames", arguments.frames, "--splits", splits),
        *("--size", "128", "--workers", "2"),
    )
    described = f"data.description={scenes / 'dataset.yaml'}"
    step("trained", "train", "--config", str(CONFIG), "--set", described, "--output", str(run), "--resume")
    step("evaluated", "eval", "--checkpoint", str(run), "--root", str(scenes), "--split", "test")
    step(
        "predicted",
        *("predict", "--checkpoint", str(run), "--root", str(scenes), "--split", "test", "--out", str(pictures)),
        *("--limit", "8"),
    )
    print(f"\nAll of it took {time.perf_counter() - start:.0f} s. Look at the pictures in {pictures}")


if __name__ == "__main__":
    main()
