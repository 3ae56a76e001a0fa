"""The interpreter is on or off for a whole process: its tests belong to the process that has it on."""

from __future__ import annotations

from egformer_fast.ops import _backend

collect_ignore = [] if _backend.INTERPRETED else ["test_interpreted.py", "test_traffic.py"]
