"""python -m benchmarks.tables: write the tables of README.md and docs/*.md from the committed result files.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; its function has that name.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.tables import (  # noqa: F401  (each registers its tables)
    adaptation,
    cpu,
    cuda,
    frontier,
    gpu,
    model,
    pilots,
    triton,
)
from benchmarks.tables.shared import TABLES

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def rendered(text: str) -> str:
    def fill(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", fill, text, flags=re.S)
