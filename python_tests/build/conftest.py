"""What the tests of the build share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from egformer_fast import _ext


@pytest.fixture
def library() -> Path:
    """The C++ library. Where it is missing the test fails, unless EGFORMER_BUILD=0 says that it was left out."""
    if os.environ.get("EGFORMER_BUILD") == "0":
        pytest.skip("EGFORMER_BUILD=0: this environment goes without the C++ library, which is what is tested here")
    assert _ext.LIBRARY.is_file(), f"{_ext.LIBRARY} is missing: install again, or set EGFORMER_BUILD=0 to go without"
    return _ext.LIBRARY
