"""The training loop on a model of two convolutions: stopping, resuming, accumulating, diverging, choosing the best."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training_standins import DotFrames, alone_on, small_config, small_trainer

from egformer_fast.errors import ConfigError, DataError
from egformer_fast.train import engine
from egformer_fast.train.checkpoint import load_state
from egformer_fast.train.diverged import DivergedError
from egformer_fast.train.ema import Ema
from egformer_fast.train.engine import Trainer


def stop_after(trainer: Trainer, step: int, number: int = signal.SIGTERM) -> None:
    """Have this process send itself a signal in mid-step."""
    usual = trainer._train_step

    def step_and_signal(frames: Any) -> None:
        if trainer.step + 1 == step:
            os.kill(os.getpid(), number)
        usual(frames)

    trainer._train_step = step_and_signal  # type: ignore[method-assign]


def rows(folder: Path) -> list[tuple[str, str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return [(row["kind"], row["step"], row["miou"]) for row in csv.DictReader(file)]


def assert_same_run(one: Trainer, other: Trainer, checkpoints: Sequence[str] = ("last", "best")) -> None:
    assert (one.step, one.best, one.evaluated_step) == (other.step, other.best, other.evaluated_step)
    for name in checkpoints:
        weights, wanted = (load_file(t.output / "checkpoints" / name / "model.safetensors") for t in (one, other))
        assert weights.keys() == wanted.keys()
        assert all(torch.equal(weights[key], wanted[key]) for key in wanted), name
    state, wanted_state = one.state_dict(), other.state_dict()
    for key, part in (("model", None), ("optimizer", "state"), ("ema", "model")):
        if state[key] is not None:
            values, wanted_values = (s[key] if part is None else s[key][part] for s in (state, wanted_state))
            torch.testing.assert_close(values, wanted_values, rtol=0, atol=0)
    assert rows(one.output) == rows(other.output)


@pytest.mark.parametrize("stop", [1, 5, 7])
@pytest.mark.parametrize(
    "changes",
    [{}, {"train__ema": 0.9, "train__accumulate": 2, "train__clip": 0.1, "train__schedule": "one_cycle"}],
    ids=["plain", "ema-accumulate-clip"],
)
def test_a_run_that_was_stopped_resumes_to_the_same_bits(
    tmp_path: Path, stop: int, changes: dict[str, Any], any_device: str
) -> None:
    def trainer(name: str) -> Trainer:
        return small_trainer(tmp_path / name, small_config(train__log_every=1, **changes), place=alone_on(any_device))

    whole = trainer("whole")
    assert whole.fit()
    first = trainer("parts")
    stop_after(first, stop)
    assert first.fit() is False
    assert first.step == stop
    second = trainer("parts")
    torch.manual_seed(99)
    assert second.resume()
    assert second.fit()
    assert_same_run(second, whole)


def test_signals_stop_once_and_give_the_handlers_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    trainer = small_trainer(tmp_path / "run", small_config())
    stop_after(trainer, 3, signal.SIGINT)
    assert trainer.fit() is False
    assert load_state(tmp_path / "run/checkpoints/last")["step"] == 3
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_signal_in_an_evaluation_gives_it_up_and_resuming_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small_trainer(tmp_path / "whole", small_config())
    whole.fit()
    first = small_trainer(tmp_path / "parts", small_config())
    with monkeypatch.context() as patch:
        patch.setattr(engine, "validate", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        assert first.fit() is False
    assert (first.step, first.evaluated_step) == (5, 0)
    second = small_trainer(tmp_path / "parts", small_config())
    second.resume()
    assert second.fit()
    assert_same_run(second, whole)


def test_resume_finds_nothing_in_a_new_folder(tmp_path: Path) -> None:
    assert small_trainer(tmp_path / "run", small_config()).resume() is False


def test_loading_processes_change_nothing(tmp_path: Path) -> None:
    runs = [small_trainer(tmp_path / str(n), small_config(data__workers=n, train__epochs=2)) for n in (0, 2)]
    assert all(run.fit() for run in runs)
    assert_same_run(runs[1], runs[0])


def test_accumulating_two_batches_is_one_step_on_both(tmp_path: Path) -> None:
    changes = {"train__epochs": 1, "train__schedule": "constant", "train__warmup": 0.0, "train__wider_keep": 0.0}
    large = small_trainer(tmp_path / "large", small_config(train__batch_size=4, **changes), plain=True)
    small = small_trainer(tmp_path / "small", small_config(train__accumulate=2, **changes), plain=True)
    for trainer in (large, small):
        trainer.fit()
    assert (large.step, small.step) == (2, 2)
    torch.testing.assert_close(small.model.state_dict(), large.model.state_dict(), rtol=1e-4, atol=1e-6)


def test_steps_use_the_configured_keep_and_wider_ones(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path / "run", small_config(train__epochs=8, train__accumulate=2))
    trainer.fit()
    keeps = trainer.model.keeps
    assert keeps[0::2] == keeps[1::2], "one keep a step"
    share = keeps.count((1, 1, 1, 1)) / len(keeps)
    assert 0.3 < share < 0.9
    assert {keep[0] for keep in keeps} == {1, 2}
    narrow = small_trainer(tmp_path / "narrow", small_config(train__wider_keep=0.0))
    narrow.fit()
    assert set(narrow.model.keeps) == {(1, 1, 1, 1)}


def test_a_loss_that_is_not_finite_names_the_frames_and_ruins_nothing(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path / "run", small_config(), DotFrames(broken=[6]))
    weights: list[dict[str, Tensor]] = []
    usual = trainer._train_step

    def remember(frames: Any) -> None:
        weights.append({name: value.clone() for name, value in trainer.model.named_parameters()})
        usual(frames)

    trainer._train_step = remember  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=r"loss is nan at step \d, .*frame_06 \(rgb/frame_06.png\)") as error:
        trainer.fit()
    assert str(error.value).count("frame_") == 2 * 2
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, weights[-1][name])


def test_a_gradient_that_is_not_finite_stops_before_the_step(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path / "run", small_config())
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.model.head.bias.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(DivergedError, match="gradient norm is (inf|nan) at step 1"):
        trainer.fit()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())


def test_clip_bounds_the_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    trainer = small_trainer(tmp_path / "run", small_config(train__clip=0.01, train__epochs=1))
    usual = trainer.arithmetic.optimizer.step

    def record(*args: Any, **kwargs: Any) -> Any:
        norms.append(float(torch.cat([p.grad.flatten() for p in trainer.arithmetic.parameters]).norm()))
        return usual(*args, **kwargs)

    monkeypatch.setattr(trainer.arithmetic.optimizer, "step", record)
    trainer.fit()
    assert norms == pytest.approx([0.01] * 5, rel=1e-3)


def test_best_is_the_one_with_the_highest_score_and_the_first_of_equals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.7, 0.7, 0.6])
    reports: list[float] = []

    def validate(*_: Any) -> tuple[float, dict[str, float], dict[str, Any]]:
        reports.append(next(scores))
        return reports[-1], {"miou": reports[-1]}, {"number": len(reports)}

    monkeypatch.setattr(engine, "validate", validate)
    trainer = small_trainer(tmp_path / "run", small_config(train__epochs=4))
    trainer.fit()
    assert json.loads((tmp_path / "run/checkpoints/best/evaluation.json").read_text()) == {"number": 2}
    assert trainer.best == 0.7
    assert [row for row in rows(tmp_path / "run") if row[0] == "eval"] == [
        ("eval", "5", "0.5"), ("eval", "10", "0.7"), ("eval", "15", "0.7"), ("eval", "20", "0.6")
    ]  # fmt: skip


@pytest.mark.parametrize(("metric", "column"), [("miou", "miou"), ("frame_mean.fwiou", "frame_mean.fwiou")])
def test_the_metric_that_chooses(tmp_path: Path, metric: str, column: str) -> None:
    trainer = small_trainer(tmp_path / "run", small_config(eval__metric=metric, eval__every=2))
    trainer.fit()
    with (tmp_path / "run/log.csv").open(newline="") as file:
        logged = [float(row[column]) for row in csv.DictReader(file) if row["kind"] == "eval"]
    assert len(logged) == 2, "after epoch 2 and at the end"
    assert trainer.best == pytest.approx(max(logged), rel=1e-5)


def test_a_split_without_labels_is_refused(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path / "run", small_config())
    frames = [
        {**sample, "label": torch.full_like(sample["label"], 255)} for sample in map(DotFrames().__getitem__, [0, 1])
    ]
    trainer.val_set = type("Blank", (DotFrames,), {"__getitem__": lambda self, i: frames[i]})(2)
    with pytest.raises(DataError, match="split 'train' has no labelled pixel"):
        trainer.fit()


def test_a_time_budget_runs_the_whole_schedule_and_is_spent_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(step=0.001)
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    config = small_config(train__epochs=10**6, train__max_minutes=0.5 / 60, eval__every=10**6, train__log_every=1)
    trainer = small_trainer(tmp_path / "run", config)
    assert trainer.fit()
    assert trainer.seconds() == pytest.approx(0.5, abs=0.02)
    with (tmp_path / "run/log.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    rates = [float(row["lr"]) for row in table if row["kind"] == "train"]
    assert len(rates) == trainer.step > 50
    assert max(rates) == pytest.approx(0.01, rel=0.02)
    assert rates[-1] < 0.0005
    assert (table[-1]["kind"], table[-1]["step"]) == ("eval", str(trainer.step))
    again = small_trainer(tmp_path / "run", config)
    again.resume()
    assert again.fit()
    assert again.step == trainer.step


def test_the_row_of_an_evaluation_that_used_up_the_time_says_that_the_run_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, usual = [0.0], engine.validate

    def slow(*arguments: Any) -> Any:
        now[0] += 100
        return usual(*arguments)

    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(engine, "validate", slow)
    trainer = small_trainer(tmp_path / "run", small_config(train__max_minutes=1.5, eval__every=1))
    assert trainer.fit()
    with (tmp_path / "run/log.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["kind"] == "eval"]
    assert (float(row["epoch"]), float(row["progress"])) == (1, 1)


@pytest.mark.parametrize("ramp", [1.0, 2.0, 10.0])
def test_the_averaged_weights_are_evaluated_and_saved(tmp_path: Path, ramp: float) -> None:
    trainer = small_trainer(tmp_path / "run", small_config(train__ema=0.6, train__ema_ramp=ramp, train__epochs=1))
    average = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    usual, numbers = trainer.arithmetic.optimizer.step, count()

    def follow(*args: Any, **kwargs: Any) -> None:
        usual(*args, **kwargs)
        updates = next(numbers)
        decay = min(0.6, (1 + updates) / (ramp + updates))
        for name, value in trainer.model.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * value if value.is_floating_point() else value.clone()

    trainer.arithmetic.optimizer.step = follow  # type: ignore[method-assign, assignment]
    trainer.fit()
    saved = load_file(tmp_path / "run/checkpoints/best/model.safetensors")
    torch.testing.assert_close(saved, average)
    assert not torch.equal(saved["head.weight"], trainer.model.head.weight)
    assert trainer.ema is not None and not trainer.ema.model.training


def test_ema_of_constant_weights_is_the_weights() -> None:
    model = torch.nn.BatchNorm1d(3)
    ema = Ema(model, 0.9, ramp=10)
    model.weight.data.fill_(2.0)
    for _ in range(200):
        ema.update(model)
    torch.testing.assert_close(ema.model.weight.data, model.weight.data)


def test_settings_that_do_not_fit_the_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train.batch_size: found 11 .* the 10 frames of split 'train'"):
        small_trainer(tmp_path / "a", small_config(train__batch_size=11))
    with pytest.raises(ConfigError, match="train.class_weights: found 3 numbers, wanted one for each of the 2 classes"):
        small_trainer(tmp_path / "b", small_config(train__class_weights=[1.0, 1.0, 1.0]))


def test_bfloat16_autocast_trains(tmp_path: Path) -> None:
    dtypes = set()
    trainer = small_trainer(tmp_path / "run", small_config(train__autocast="bfloat16", train__epochs=1))
    trainer.model.head.register_forward_hook(
        lambda module, given, out: dtypes.add(out.dtype) if module.training else None
    )
    assert trainer.fit()
    assert dtypes == {torch.bfloat16}
    assert all(value.dtype == torch.float32 for value in trainer.model.parameters())
