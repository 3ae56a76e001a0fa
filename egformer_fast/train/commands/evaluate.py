"""egformer-fast eval: score a checkpoint on a named split; tables on the screen, a JSON file beside the checkpoint.

--protocol runs the frames again as the robustness protocols have it, and draws their bars beside the JSON file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from egformer_fast.errors import ConfigError
from egformer_fast.train.commands.options import add_data_options, add_model_options, check_keep, names
from egformer_fast.train.evaluate import Subsets, evaluate_frames
from egformer_fast.train.failures import run_failures
from egformer_fast.train.loading import load_run
from egformer_fast.train.protocol_report import format_protocols, plot_protocols
from egformer_fast.train.protocols import SETTINGS, run_protocols
from egformer_fast.train.records import Records
from egformer_fast.train.report import format_report, write_json
from egformer_fast.train.runner import Runner

PROTOCOLS = (*SETTINGS, "failures")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    add_data_options(parser)
    parser.add_argument("--split", required=True, help="split to score, as the description names it: val, test")
    parser.add_argument("--subsets", help="score with only some sensors given: all, or rgb+depth,rgb")
    parser.add_argument(
        "--protocol",
        action="extend",
        type=names,
        default=[],
        help=f"robustness protocols, {', '.join(PROTOCOLS)}: one or several, comma separated or repeated",
    )
    parser.add_argument("--permute", action="store_true", help="score all frames again with the scores of other frames")
    parser.add_argument("--seed", type=int, default=0, help="of what --protocol and --permute draw (default 0)")
    parser.add_argument("--frames", type=Path, help="also write a CSV file: each frame's scores, and who lost to whom")
    parser.add_argument("--json", type=Path, help="where to write the report (default: in the checkpoint's folder)")


def run(args: argparse.Namespace) -> int:
    protocols = _protocols(args.protocol)
    loaded = load_run(args.checkpoint, args.device)
    check_keep(loaded, args.keep)
    runner = Runner(
        loaded.model,
        loaded.dataset(args.split, args.data, args.root, args.missing),
        batch_size=args.batch_size,
        keep=args.keep,
        missing=args.missing,
        tta=args.tta,
        workers=args.workers,
        progress=True,
    )
    permute = args.permute or "failures" in protocols
    report, records = evaluate_frames(runner, _subsets(args.subsets), permute, seed=args.seed)
    print(format_report(report), flush=True)
    path = args.json or loaded.folder / _file_name(args, protocols, report["dataset"])
    if protocols:
        report["protocols"] = _run(runner, protocols, report, records, args.seed)
        print("\n" + format_protocols(report["protocols"]), flush=True)
        plot_protocols(report["protocols"], report["miou"], path.with_suffix(".png"))
        print(f"\nplot: {path.with_suffix('.png')}")
    if args.frames:
        records.write_csv(args.frames)
        print(f"\nframes: {args.frames}")
    write_json({"checkpoint": str(args.checkpoint), **report}, path)
    print(f"\nreport: {path}")
    return 0


def _run(
    runner: Runner, protocols: list[str], report: dict[str, Any], records: Records, seed: int
) -> dict[str, dict[str, Any]]:
    """Protocol -> its results, in the order asked for."""
    together = [name for name in protocols if name in SETTINGS]
    found = run_protocols(runner, together, seed) if together else {}
    if "failures" in protocols:
        found["failures"] = run_failures(runner, report, records, seed)
    return {name: found[name] for name in protocols}


def _protocols(found: list[str]) -> list[str]:
    for name in found:
        if name not in PROTOCOLS:
            raise ConfigError(f"--protocol: found {name!r}, wanted some of {', '.join(PROTOCOLS)}")
    return list(dict.fromkeys(found))


def _subsets(text: str | None) -> Subsets | None:
    if text is None or text == "all":
        return text
    return [subset.split("+") for subset in names(text)]


def _file_name(args: argparse.Namespace, protocols: list[str], dataset: str) -> str:
    """Another name for other settings, so that one report never replaces another by accident."""
    parts = ["eval", args.split]
    parts += [dataset.replace("/", "_")] if args.data else []
    parts += [f"without_{'+'.join(args.missing)}"] if args.missing else []
    parts += [f"keep_{'_'.join(map(str, args.keep))}"] if args.keep else []
    parts += [f"tta_{args.tta}"] if args.tta != "none" else []
    parts += [f"subsets_{args.subsets.replace(',', '_')}"] if args.subsets else []
    parts += [f"protocol_{'_'.join(protocols)}"] if protocols else []
    parts += ["permuted"] if args.permute else []
    parts += [f"seed_{args.seed}"] if args.seed else []
    return "-".join(parts) + ".json"
