"""egformer-fast adapt: a labelled source and an unlabelled target in, a run folder out (see train/adapt)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from egformer_fast.train.commands.runs import add_run_options as add_arguments
from egformer_fast.train.commands.runs import carry_out, read_run

if TYPE_CHECKING:
    from egformer_fast.train.distributed import Processes
    from egformer_fast.train.engine import Trainer

__all__ = ["add_arguments", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Adapt; 0 when the run is complete or a signal stopped it."""
    from egformer_fast.train.adapt.build import all_modalities, check_adaptation, describe_domains, make_domains
    from egformer_fast.train.adapt.engine import Adapter
    from egformer_fast.train.build import make_model

    config, output = read_run(arguments)
    check_adaptation(config)

    def build(place: Processes, begins: bool) -> tuple[Trainer, dict[str, Any], list[str]]:
        source, target, scored = make_domains(config, place.world)
        model = make_model(config, source, all_modalities(source, target), begins)
        adapter = Adapter(config, output, model, source, scored, target, place)
        return adapter, {"data": source, "target": target}, describe_domains(source, target, scored)

    carry_out(config, output, arguments, build)
    return 0
