"""egformer-fast eval: score a checkpoint on a named split; a table on the screen, a JSON file beside the checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from egformer_fast.train.commands.options import add_data_options, add_model_options, check_keep, names
from egformer_fast.train.evaluate import Subsets, evaluate
from egformer_fast.train.loading import load_run
from egformer_fast.train.report import format_report, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    add_data_options(parser)
    parser.add_argument("--split", required=True, help="split to score, as the description names it: val, test")
    parser.add_argument("--subsets", help="score with only some sensors given: all, or rgb+depth,rgb")
    parser.add_argument("--json", type=Path, help="where to write the report (default: in the checkpoint's folder)")


def run(args: argparse.Namespace) -> int:
    loaded = load_run(args.checkpoint, args.device)
    check_keep(loaded, args.keep)
    report = evaluate(
        loaded.model,
        loaded.dataset(args.split, args.data, args.root, args.missing),
        batch_size=args.batch_size,
        subsets=_subsets(args.subsets),
        keep=args.keep,
        missing=args.missing,
        tta=args.tta,
        workers=args.workers,
        progress=True,
    )
    print(format_report(report), flush=True)
    path = args.json or loaded.folder / _file_name(args, report["dataset"])
    write_json({"checkpoint": str(args.checkpoint), **report}, path)
    print(f"\nreport: {path}")
    return 0


def _subsets(text: str | None) -> Subsets | None:
    if text is None or text == "all":
        return text
    return [subset.split("+") for subset in names(text)]


def _file_name(args: argparse.Namespace, dataset: str) -> str:
    """Another name for other settings, so that one report never replaces another by accident."""
    parts = ["eval", args.split]
    parts += [dataset.replace("/", "_")] if args.data else []
    parts += [f"without_{'+'.join(args.missing)}"] if args.missing else []
    parts += [f"keep_{'_'.join(map(str, args.keep))}"] if args.keep else []
    parts += [f"tta_{args.tta}"] if args.tta != "none" else []
    parts += [f"subsets_{args.subsets.replace(',', '_')}"] if args.subsets else []
    return "-".join(parts) + ".json"
