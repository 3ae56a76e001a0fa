"""mutate.py's faults are still of the kernels as they are; it runs them."""

from __future__ import annotations

import pytest
from seeded_faults import FAULTS, KERNELS


@pytest.mark.parametrize(("module", "old", "new"), FAULTS, ids=lambda text: " ".join(text.split())[:60])
def test_every_fault_can_still_be_seeded(module: str, old: str, new: str) -> None:
    assert (KERNELS / f"{module}.py").read_text().count(old) == 1
    assert new != old
