"""egformer-fast <command>: each command is a module with add_arguments(parser) and run(args), loaded when it is called.

A user's mistake (ConfigError, DataError, a missing file, a full disk) is one line on stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "train": ("egformer_fast.train.commands.train", "train a model from a config"),
    "adapt": ("egformer_fast.train.commands.adapt", "adapt a model to frames without labels"),
    "eval": ("egformer_fast.train.commands.evaluate", "score a checkpoint on a named split"),
    "predict": ("egformer_fast.train.commands.predict", "segment frames or folders into label images and figures"),
    "make-data": ("egformer_fast.data.synthetic.command", "draw street scenes with exact labels"),
    "check-data": ("egformer_fast.data.check", "walk a data set and report every problem"),
}


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "usage: egformer-fast <command> [options]   (<command> --help tells its options)\n\n" + "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    name = arguments[0]
    if name == "--version":
        from egformer_fast import __version__

        print(__version__)
        return 0
    if name not in COMMANDS:
        print(f"egformer-fast: unknown command {name!r}\n{_usage()}", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[name][0])
    parser = argparse.ArgumentParser(prog=f"egformer-fast {name}", description=COMMANDS[name][1])
    module.add_arguments(parser)
    parsed = parser.parse_args(arguments[1:])
    try:
        return int(module.run(parsed))
    except (ValueError, OSError, ImportError) as error:
        print(f"egformer-fast {name}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
