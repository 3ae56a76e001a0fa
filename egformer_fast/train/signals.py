"""SIGTERM and Ctrl-C as a request to save and stop, instead of a sudden end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interrupted(Exception):  # noqa: N818 - a request, not an error
    """A signal came while a block that may be given up was running."""


class StopSignals:
    """While open, the first SIGTERM or SIGINT sets `received`; the second SIGINT stops at once (KeyboardInterrupt).

    Inside `giving_up()` a signal raises Interrupted, for work that is done again on resuming (an evaluation can take
    longer than the time a scheduler leaves between SIGTERM and SIGKILL). Signals are only taken in the main thread.
    """

    received = False
    _raise = False

    def __enter__(self) -> StopSignals:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True
        if self._raise:
            raise Interrupted

    @contextlib.contextmanager
    def giving_up(self) -> Iterator[None]:
        """A block in which a signal raises Interrupted."""
        self._raise = True
        try:
            if self.received:
                raise Interrupted
            yield
        finally:
            self._raise = False


def leave_to_parent(worker: int) -> None:
    """For data loading processes: a signal sent to the whole process group is the training process's to answer."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
