"""The OMBRIA sweep: which configuration a run has."""

from __future__ import annotations

import pytest

from benchmarks.ombria import CONFIG_OF, CONFIGS, SWEEP, WITHHELD
from egformer_fast.data import load_description
from egformer_fast.train.config_file import load_config


@pytest.mark.parametrize("name", SWEEP)
def test_every_run_has_its_sensors(name):
    config = load_config(CONFIGS / CONFIG_OF.get(name, "ombria.yaml"), SWEEP[name])
    known = list(load_description(config.data.description).modalities)
    used = config.data.modalities or known
    assert set(used) <= set(known)
    for sensors in WITHHELD.get(name, ()):
        assert set(sensors.split(",")) < set(used)
