"""python -m benchmarks.frontier: train and score the runs of the frontier, time its models, draw its picture.

    run       OMBRIA_ROOT=... MRI_ROOT=... python -m benchmarks.frontier run [task ...] --budget steps --jobs 2
              resumable: what has a result file is skipped, what was stopped goes on; Ctrl-C saves and stops
    latency   the models of a task in turns, on a quiet machine
    plot      docs/frontier.png from the results
    score     one run that has been trained (run calls it)

Tables: python -m benchmarks.tables.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.frontier import execution, plot, speed
from benchmarks.frontier.runs import BUDGETS, SEEDS, TASKS, Run, find_run, sweep


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.frontier", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and score")
    run.add_argument("tasks", nargs="*", metavar="task", help=f"default: of {', '.join(TASKS)} those with their data")
    run.add_argument("--budget", choices=BUDGETS, default="steps", help="what all rows have alike (default steps)")
    run.add_argument("--names", nargs="+", help="rows (default: all)")
    run.add_argument("--seeds", nargs="+", type=int, help="seeds (default: all that a row has)")
    run.add_argument("--jobs", type=int, choices=range(1, 65), default=1, metavar="N", help="runs at once (default 1)")
    score = commands.add_parser("score", help="score one trained run")
    score.add_argument("key", help="task/budget/name/seed")
    for command in (run, score):
        command.add_argument("--runs", type=Path, default=Path("runs/frontier"), help="folder of the run folders")
    latency = commands.add_parser("latency", help="time the models")
    latency.add_argument("tasks", nargs="*", metavar="task", help="default: all")
    commands.add_parser("plot", help="draw docs/frontier.png")
    options = parser.parse_args(arguments)
    for task in getattr(options, "tasks", []):
        if task not in TASKS:
            parser.error(f"task: found {task!r}, wanted one of {', '.join(TASKS)}")
    if options.command == "run":
        return _run(parser, options)
    if options.command == "score":
        print(execution.score_run(find_run(options.key), options.runs.resolve()))
    elif options.command == "latency":
        for task in options.tasks or TASKS:
            print(speed.measure(task), flush=True)
    else:
        print(plot.draw())
    return 0


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Exit status: 1 where a run failed, 130 where it was stopped."""
    chosen = _chosen(parser, options)
    processes = execution.Processes()
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        failures = execution.carry_out(chosen, options.runs.resolve(), options.jobs, processes)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"{len(failures)} of {len(chosen)} run(s) failed" if failures else "all runs have their results")
    return 1 if failures else 0


def _chosen(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Run]:
    """The runs that are asked for and whose data are at hand."""
    chosen: list[Run] = []
    known: set[str] = set()
    for task in options.tasks or TASKS:
        root = TASKS[task].root
        if root is not None and root not in os.environ:
            if options.tasks:
                parser.error(f"{task}: the environment variable {root} is not set, wanted the folder of the data")
            print(f"{task}: left out, the environment variable {root} is not set", flush=True)
            continue
        runs = sweep(task, options.budget)
        known |= {run.name for run in runs}
        chosen += [
            run
            for run in runs
            if run.name in (options.names or [run.name]) and run.seed in (options.seeds or [run.seed])
        ]
    unknown = [name for name in options.names or [] if name not in known]
    if unknown:
        parser.error(f"--names: found {unknown[0]!r}, wanted some of {', '.join(sorted(known))}")
    if not chosen:
        parser.error(f"no run has these tasks, names and seeds; seeds are among {SEEDS}")
    return chosen


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
