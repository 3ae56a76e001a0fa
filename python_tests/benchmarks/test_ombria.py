"""The OMBRIA sweep: which configuration a run has, and when it is over."""

from __future__ import annotations

import pytest

from benchmarks.ombria import CONFIG_OF, CONFIGS, SWEEP, WITHHELD, is_over
from egformer_fast.data import load_description
from egformer_fast.train.config_file import load_config, save_config


@pytest.mark.parametrize(
    ("progress", "minutes", "over"),
    [
        (1.0, 12.0, True),
        (0.99, 19.9, False),
        (0.99, 20.1, True),  # its last evaluation took the rest
    ],
)
def test_a_run_is_over_when_its_budget_is_used_up(tmp_path, progress, minutes, over):
    save_config(load_config(CONFIGS / "ombria.yaml", SWEEP["default"]), tmp_path / "config.yaml")
    (tmp_path / "log.csv").write_text(f"step,epoch,progress,minutes\n4,2,0.5,10\n8,5,{progress},{minutes}\n")
    assert is_over(tmp_path) is over


@pytest.mark.parametrize("name", SWEEP)
def test_every_run_has_its_sensors(name):
    config = load_config(CONFIGS / CONFIG_OF.get(name, "ombria.yaml"), SWEEP[name])
    known = list(load_description(config.data.description).modalities)
    used = config.data.modalities or known
    assert set(used) <= set(known)
    for sensors in WITHHELD.get(name, ()):
        assert set(sensors.split(",")) < set(used)
