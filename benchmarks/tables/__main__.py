from __future__ import annotations

import argparse
import sys

import benchmarks.tables
from benchmarks.tables import PAGES, rendered


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=benchmarks.tables.__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a page is out of date")
    check = parser.parse_args().check
    for page in PAGES:
        text = page.read_text()
        new = rendered(text)
        if new == text:
            continue
        if check:
            sys.exit(f"{page.name}: its tables are not those of benchmarks/results; run `python -m benchmarks.tables`")
        page.write_text(new)


if __name__ == "__main__":
    main()
