"""python -m benchmarks.run [case ...]: measure, and write benchmarks/results/<case>.json."""

from __future__ import annotations

import argparse

# Each registers its cases.
from benchmarks import (  # noqa: F401
    complexity,
    cuda_counters,
    cuda_resources,
    latency,
    ops,
    train_backends,
    triton_traffic,
)
from benchmarks.registry import CASES, Unavailable, run_case


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"default: all of {', '.join(CASES)}")
    named = parser.parse_args().cases
    chosen = named or list(CASES)
    unknown = [name for name in chosen if name not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}; one of {', '.join(CASES)}")
    for name in chosen:
        print(f"{name} ...", flush=True)
        try:
            print(f"  {run_case(name)}")
        except Unavailable as missing:
            if named:
                parser.exit(1, f"  {missing}\n")
            print(f"  left out: {missing}")


if __name__ == "__main__":
    main()
