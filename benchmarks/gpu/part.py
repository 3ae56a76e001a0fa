"""A result file that grows row by row, and a part that runs in a process of its own.

A wrong kernel can end the process or leave its GPU context unusable. So a part says what it is about to run before it
does; when its process is gone, the one that watches it records who was running, and starts it again without that one.
Rows that are done stay.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.device import facts, is_gpu, slug, synchronize
from benchmarks.registry import machine, write_result

ROOT = Path(__file__).parent.parent.parent
GRACE = 15.0  # seconds between the time at which a part should stop by itself and the one at which it is killed
ATTEMPTS = 6


class DeviceLost(RuntimeError):
    """The device answers nothing any more in this process."""


class OutOfTime(RuntimeError):
    """The time of a part is over."""


def commit() -> str:
    """The commit that was measured, "-dirty" where the checkout differs from it; EGFORMER_COMMIT says it for a copy."""
    if said := os.environ.get("EGFORMER_COMMIT"):
        return said
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return run.stdout.strip()


def first_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


class Part:
    """benchmarks/results/gpu/<chip>_<name>.json while it is made.

    rows: what was measured; failures: {"where", "implementation", "error", "ours"}; lost: implementations that took the
    process with them and are left out since; not_reached: what there was no time for.
    """

    def __init__(self, name: str, device: str, folder: Path, tiny: bool, until: float) -> None:
        self.device, self.folder, self.until, self.tiny = device, folder, until, tiny
        self.file = f"{slug(device)}_{name}"
        self.data: dict[str, Any] = {
            "case": f"gpu {name}",
            "command": "bash benchmarks/gpu_day.sh" + (" --rehearse" if tiny else ""),
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "commit": commit(),
            "device": torch.device(device).type,
            "rehearsal": tiny or not is_gpu(device),
            "machine": machine() | facts(device),
            "complete": False,
            "running": None,
            "lost": [],
            "skipped": [],
            "not_reached": [],
            "failures": [],
            "rows": [],
        }

    @property
    def path(self) -> Path:
        return self.folder / f"{self.file}.json"

    def resume(self) -> None:
        """Go on with what an earlier process of this run has left."""
        if self.path.is_file():
            self.data = json.loads(self.path.read_text())

    def write(self) -> None:
        write_result(self.file, self.data, self.folder)

    def left(self) -> float:
        """Seconds."""
        return self.until - time.time()

    def late(self) -> bool:
        return self.left() < 0

    def has(self, where: Mapping[str, Any]) -> bool:
        """Whether an earlier process has finished with this place, or has ended in it for no one's fault."""
        return dict(where) in self.data["skipped"] or any(
            all(row.get(key) == value for key, value in where.items()) for row in self.data["rows"]
        )

    def begin(self, where: Mapping[str, Any], implementation: str | None = None, ours: bool = True) -> None:
        """Say what runs next.

        Raises:
            OutOfTime: nothing should.
        """
        if self.late():
            raise OutOfTime
        self.data["running"] = {"where": dict(where), "implementation": implementation, "ours": ours}
        self.write()

    def fail(
        self, where: Mapping[str, Any], implementation: str | None, error: BaseException | str, ours: bool
    ) -> None:
        """Record a failure.

        Raises:
            DeviceLost: the device has failed with it.
        """
        text = error if isinstance(error, str) else first_line(error)
        failure = {"where": dict(where), "implementation": implementation, "error": text, "ours": ours}
        if failure not in self.data["failures"]:  # a place is run again after a crash in it
            self.data["failures"].append(failure)
        try:
            synchronize(self.device)
        except RuntimeError as lost:
            if implementation is not None:
                self.data["lost"].append(implementation)
            else:
                self.data["skipped"].append(dict(where))
            self.data["running"] = None
            self.write()
            raise DeviceLost(first_line(lost)) from lost

    def attempt(self, where: Mapping[str, Any], measure: Callable[[], None]) -> None:
        """Measure a place, unless an earlier process has. What goes wrong there is recorded; the other places go on.

        Raises:
            DeviceLost: the device has failed with it.
        """
        if self.has(where):
            return
        try:
            measure()
        except DeviceLost:
            raise
        except OutOfTime:
            self.data["not_reached"].append(dict(where))
        except Exception as error:  # memory, for one
            self.fail(where, None, error, ours=True)

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.data["rows"] += [dict(row) for row in rows]
        self.data["running"] = None
        self.write()

    def finish(self) -> int:
        """Exit status: 0, or 1 where one of ours failed or something was not reached."""
        self.data["complete"], self.data["running"] = True, None
        self.write()
        bad = self.data["not_reached"] or any(failure["ours"] for failure in self.data["failures"])
        return 1 if bad else 0


def blame(path: Path, reason: str) -> bool:
    """Record who was running when the process of a part ended; False when that says nothing about how to go on."""
    if not path.is_file():
        return False
    data = json.loads(path.read_text())
    running = data["running"]
    if running is None:
        return bool(data["lost"] or data["skipped"])
    data["failures"].append({**running, "error": reason})
    if running["implementation"] is None:
        data["skipped"].append(running["where"])
    else:
        data["lost"].append(running["implementation"])
    data["running"] = None
    write_result(path.stem, data, path.parent)
    return True


def watched(command: Sequence[str], path: Path, until: float) -> int:
    """Run a part until it ends by itself; after a crash again, without the implementation that was running.

    Returns its exit status: 0 or 1 (see Part.finish), 2 when it could not be brought to its end.
    """
    path.unlink(missing_ok=True)
    for _ in range(ATTEMPTS):
        left = until + GRACE - time.time()
        if left <= 0:
            break
        try:
            status = subprocess.run(command, cwd=ROOT, timeout=left, check=False).returncode
        except subprocess.TimeoutExpired:
            blame(path, "still running when the time was up")
            break
        if path.is_file() and json.loads(path.read_text())["complete"]:
            return status
        if not blame(path, f"the process ended with status {status}"):
            break
        print(f"  {path.stem}: started again without what ended it", file=sys.stderr, flush=True)
    return 2
