"""The adaptation loop on a model of two convolutions: stopping, resuming, its methods, and what it must not read."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_engine import assert_same_run, stop_after
from torch.utils.data import default_collate
from training_standins import DotFrames, alone_on, small_adapter, small_config

from benchmarks.adaptation_runs import OF_THE_TARGET
from egformer_fast.train.adapt.engine import Adapter
from egformer_fast.train.adapt.pseudo_labels import CollapseWatch
from egformer_fast.train.checkpoint import load_state
from egformer_fast.train.config import Config
from egformer_fast.train.diverged import DivergedError


def adapt_config(**changes: Any) -> Config:
    options: dict[str, Any] = {"train__ema": 0.9, "train__log_every": 1, "adapt__mask_block": 8}
    return small_config(**{**options, **changes})


def log(folder: Path, kind: str = "train") -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["kind"] == kind]


@pytest.mark.parametrize("stop", [1, 6])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train__accumulate": 2, "adapt__rare_temperature": None},
        {"adapt__method": "entropy"},
        {"adapt__balance": 0.5, "adapt__style": 0.5, "adapt__by_class": True},
    ],
    ids=["mean-teacher", "accumulate", "entropy", "style"],
)
def test_an_adaptation_that_was_stopped_resumes_to_the_same_bits(
    tmp_path: Path, stop: int, changes: dict[str, Any], any_device: str
) -> None:
    def adapter(name: str) -> Adapter:
        return small_adapter(tmp_path / name, adapt_config(**changes), place=alone_on(any_device))

    whole = adapter("whole")
    assert whole.fit()
    first = adapter("parts")
    stop_after(first, stop)
    assert first.fit() is False
    second = adapter("parts")
    torch.manual_seed(99)
    assert second.resume()
    assert second.fit()
    assert_same_run(second, whole, ["last"])
    states = [load_state(one.output / "checkpoints/last")["adapt"] for one in (whole, second)]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0, equal_nan=True)
    assert [row["pseudo_share"] for row in log(second.output)] == [row["pseudo_share"] for row in log(whole.output)]


class Unlabelled(DotFrames):
    """Frames whose labels, were they read, would tell: 255, and any other class number breaks."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = super().__getitem__(index)
        return {**sample, "label": torch.full_like(sample["label"], 255)}


@pytest.mark.parametrize("method", ["mean_teacher", "entropy", "source_only"])
def test_labels_of_the_target_change_nothing(tmp_path: Path, method: str) -> None:
    runs = []
    for name, target in (("with", DotFrames(7)), ("without", Unlabelled(7))):
        runs.append(small_adapter(tmp_path / name, adapt_config(adapt__method=method), target))
        assert runs[-1].fit()
    assert_same_run(runs[0], runs[1], ["last"])


def test_the_log_tells_both_losses_and_how_sure_the_teacher_is(tmp_path: Path) -> None:
    adapter = small_adapter(tmp_path / "run", adapt_config())
    assert adapter.fit()
    rows = log(adapter.output)
    for row in rows:
        assert float(row["loss"]) == pytest.approx(float(row["source_loss"]) + float(row["target_loss"]), rel=1e-4)
        assert 0 <= float(row["pseudo_share"]) <= 1
        assert 0.5 <= float(row["pseudo_confidence"]) <= 1
        assert 0.5 <= float(row["pseudo_top_share"]) <= 1
    assert float(log(adapter.output, "eval")[-1]["miou"]) > 0


def test_a_row_of_the_log_has_the_means_of_its_steps(tmp_path: Path) -> None:
    steps = small_adapter(tmp_path / "steps", adapt_config(eval__every=100))
    assert steps.fit()
    rows = log(steps.output)
    whole = small_adapter(tmp_path / "whole", adapt_config(eval__every=100, train__log_every=len(rows)))
    assert whole.fit()
    (row,) = log(whole.output)
    for name in ("loss", "source_loss", "target_loss", "pseudo_confidence"):
        own = [float(one[name]) for one in rows]
        assert max(own) > min(own)
        assert float(row[name]) == pytest.approx(sum(own) / len(own), rel=1e-4), name


def test_no_checkpoint_is_chosen_by_a_score(tmp_path: Path) -> None:
    adapter = small_adapter(tmp_path / "run", adapt_config())
    assert adapter.fit()
    assert [path.name for path in (adapter.output / "checkpoints").iterdir()] == ["last"]
    assert "last miou" in adapter.outcome()


def test_source_only_is_plain_training(tmp_path: Path) -> None:
    """The target is not even loaded."""
    target = DotFrames(7, broken=range(7))
    adapter = small_adapter(tmp_path / "run", adapt_config(adapt__method="source_only"), target)
    assert adapter.fit()
    assert {row["target_loss"] for row in log(adapter.output)} == {""}


def test_source_only_reads_no_key_of_the_target(tmp_path: Path) -> None:
    """By this the sweep of adaptations says which of its results are stale."""

    def another(value: Any) -> Any:
        if isinstance(value, bool):
            return not value
        return 1.5 if value is None else value // 2 if isinstance(value, int) else value / 2 or 0.25

    plain = adapt_config(adapt__method="source_only")
    changes = {f"adapt__{key}": another(getattr(plain.adapt, key)) for key in OF_THE_TARGET}
    changed = adapt_config(adapt__method="source_only", **changes)
    runs = [small_adapter(tmp_path / name, config) for name, config in (("plain", plain), ("changed", changed))]
    assert all(adapter.fit() for adapter in runs)
    for one, other in zip(*(adapter.model.state_dict().values() for adapter in runs), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weight", 0.0),
        ("masked", 0.0),
        ("mix", False),
        ("jaccard", 0.5),
        ("by_class", True),
        ("jitter", 0.0),
        ("hue", False),
        ("style", 1.0),
        ("balance", 1.0),
        ("source_jitter", 0.3),
        ("drop_sensors", 0.0),
        ("score_confidence", False),
        ("score_alignment", 0.0),
        ("threshold", 0.9),
        ("rare_temperature", None),
    ],
)
def test_every_part_matters(tmp_path: Path, key: str, value: Any) -> None:
    """Each option changes the weights that a run ends with."""
    # Confident from the start, so that pseudo-labels count.
    common = {"train__epochs": 2, "adapt__threshold": 0.6}
    with_it = small_adapter(tmp_path / "with", adapt_config(**common))
    without = small_adapter(tmp_path / "without", adapt_config(**{**common, f"adapt__{key}": value}))
    for adapter in (with_it, without):
        # Sensors that are less sure of the target than of the source.
        adapter.trust.value, adapter.trust.count = torch.tensor([0.9, 1e9], dtype=torch.float64)
        assert adapter.fit()
    weights = [adapter.model.state_dict()["head.weight"] for adapter in (with_it, without)]
    assert not torch.equal(*weights)


def test_only_scans_of_the_source_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The range sensor of the dots is a camera in one run, a scanner in the other."""
    config = adapt_config(adapt__source_thinning=0.9, adapt__jitter_probability=1.0)
    camera = small_adapter(tmp_path / "camera", config)
    sensors = {**DotFrames.sensors, "depth": SimpleNamespace(**{**vars(DotFrames.sensors["depth"]), "kind": "lidar"})}
    monkeypatch.setattr(DotFrames, "sensors", sensors)
    scanner = small_adapter(tmp_path / "scanner", config)
    batch = default_collate([DotFrames()[index] for index in range(4)])
    seen, thin = (adapter.source_view(batch, None, 0).inputs for adapter in (camera, scanner))
    assert torch.equal(seen["rgb"], thin["rgb"]) and torch.equal(seen["rgb"], batch["inputs"]["rgb"])
    assert torch.equal(seen["depth"], batch["inputs"]["depth"])
    assert 0.1 < (thin["depth"] == 0).float().mean() < 0.9  # 0 is what a file's 0 becomes here


@pytest.mark.parametrize("method", ["mean_teacher", "entropy"])
def test_a_collapse_is_said_and_stays_in_the_outcome(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    changes = {"adapt__collapse_share": 0.9, "train__lr": 1e-9, "adapt__method": method}
    adapter = small_adapter(tmp_path / "run", adapt_config(**changes))
    adapter.watch = CollapseWatch(DotFrames.classes, 0.9, decay=0.5)
    for model in (adapter.model, adapter.ema.model):  # type: ignore[union-attr]
        torch.nn.init.zeros_(model.head.weight)
        model.head.bias.data = torch.tensor([5.0, 0.0])
    assert adapter.fit()
    assert float(log(adapter.output)[-1]["pseudo_top_share"]) > 0.9
    assert "collapse: since step" in adapter.outcome()
    assert capsys.readouterr().err.count("collapse: since step") == 1


@pytest.mark.parametrize("method", ["mean_teacher", "entropy"])
@pytest.mark.parametrize("broken", ["loss", "gradient norm"])
def test_a_divergence_names_the_frames_of_both_domains(tmp_path: Path, method: str, broken: str) -> None:
    target = DotFrames(7, broken=range(7) if broken == "loss" else ())
    target.names = [f"away_{index}" for index in range(7)]
    adapter = small_adapter(tmp_path / "run", adapt_config(adapt__method=method), target)
    if broken != "loss":
        adapter.model.head.bias.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(DivergedError, match=f"{broken} is (inf|nan) at step 1") as error:
        adapter.fit()
    for name in (r"frame_\d\d \(rgb/frame", r"away_\d \(rgb/away"):
        assert len(re.findall(name, str(error.value))) == 2


def test_views_differ_from_step_to_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    adapter = small_adapter(tmp_path / "run", adapt_config(train__epochs=1))
    usual = np.random.default_rng

    def spy(seed: Any) -> np.random.Generator:
        if isinstance(seed, tuple) and 7 << 40 <= seed[-1] < 8 << 40:
            seen.append(seed[1])
        return usual(seed)

    monkeypatch.setattr(np.random, "default_rng", spy)
    assert adapter.fit()
    assert seen == list(range(5))
