"""python -m benchmarks.run [case ...]: measure, and write benchmarks/results/<case>.json."""

from __future__ import annotations

import argparse

from benchmarks import complexity, latency, ops, train_backends, triton_traffic  # noqa: F401  (each registers its cases)
from benchmarks.registry import CASES, run_case


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"default: all of {', '.join(CASES)}")
    chosen = parser.parse_args().cases or list(CASES)
    unknown = [name for name in chosen if name not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}; one of {', '.join(CASES)}")
    for name in chosen:
        print(f"{name} ...", flush=True)
        print(f"  {run_case(name)}")


if __name__ == "__main__":
    main()
