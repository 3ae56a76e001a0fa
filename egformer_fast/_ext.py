"""The compiled library: loaded before any op is defined, since it owns the schemas; where it is absent, why.

Its absence is never an error: every op then runs on the backends that are left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

LIBRARY = Path(__file__).with_name("_C.so")


def _load() -> str | None:
    if not LIBRARY.is_file():
        return "the C++ library is not built; `pip install .` builds it where there is a C++ compiler"
    try:
        torch.ops.load_library(str(LIBRARY))
    except OSError as error:
        return (
            f"the C++ library does not load under torch {torch.__version__} ({error}); install again to build it anew"
        )
    return None


def build_facts() -> dict[str, Any]:
    """What the library was built with: {"torch": version, "cuda_archs": [...]}; empty where there is none."""
    facts = LIBRARY.with_name("_build.json")
    return dict(json.loads(facts.read_text())) if facts.is_file() else {}


# Why the library is not there; None when it is.
absence: str | None = _load()

# The backends whose kernels it holds: the library defines a forced name for each.
backends: tuple[str, ...] = tuple(
    backend for backend in ("cpu", "cuda") if hasattr(torch.ops.egformer_fast, f"modality_score_{backend}")
)
