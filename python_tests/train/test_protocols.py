"""Robustness protocols: what the model is shown in each setting, means and expected values by hand, the command."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluation_standins import MemoryFrames, Reporter
from PIL import Image
from tiny_run import write_data, write_run

from egformer_fast.cli import main
from egformer_fast.data.corruptions import draws, gaussian, randomly_zeroed, salt_and_pepper
from egformer_fast.train.evaluate import evaluate
from egformer_fast.train.protocol_report import format_protocols
from egformer_fast.train.protocols import SETTINGS, expected, run_protocols
from egformer_fast.train.runner import Runner

NAMES = ["rgb", "depth", "event"]


@pytest.fixture
def frames() -> MemoryFrames:
    """Four frames of three sensors, rgb best and right; the last frame has rgb alone."""
    frames = MemoryFrames(NAMES)
    for score in (0.5, 0.625, 0.75):
        frames.add({"rgb": 1, "depth": 2, "event": 0}, {"rgb": score, "depth": 0.25, "event": 0.125}, 1)
    frames.add({"rgb": 1}, {"rgb": 0.5}, 1)
    frames.sensors = {name: SimpleNamespace(kind=name) for name in NAMES}
    return frames


class Watched(Reporter):
    """Keeps what it was shown: a list of inputs, one a call."""

    def __init__(self, modalities: list[str]) -> None:
        super().__init__(modalities)
        self.shown: list[dict[str, torch.Tensor]] = []

    def forward(self, inputs, present=None, keep=None, trace=False, scores=None):  # type: ignore[no-untyped-def]
        self.shown.append(dict(inputs))
        return super().forward(inputs, present, keep, trace, scores)


def shown(protocol: str, frames: MemoryFrames) -> dict[str, tuple[dict[str, torch.Tensor], list[list[bool]]]]:
    """Setting -> (inputs, present) of the first batch, the first three frames."""
    model = Watched(NAMES)
    run_protocols(Runner(model, frames, indices=[0, 1, 2]), [protocol])
    settings = [setting for group in SETTINGS[protocol](NAMES).values() for setting in group]
    if protocol == "rmm":  # combinations that affect nothing share one run
        settings = [settings[0], *(setting for setting in settings if setting.affected)]
    names = [f"{setting.change.draw} {setting.name}" for setting in settings]
    if protocol == "noise":
        names = [f"{group} {setting.name}" for group, some in SETTINGS[protocol](NAMES).items() for setting in some]
    return dict(zip(names, zip(model.shown, (present for present, _ in model.calls), strict=True), strict=True))


def test_subsets_withhold_and_emm_gives_zeros(frames: MemoryFrames) -> None:
    """The same combinations, told apart: a withheld sensor is not there, a zero-filled one is, and said to be."""
    withheld, zeroed = shown("subsets", frames), shown("emm", frames)
    assert len(withheld) == len(zeroed) == 7
    inputs, present = withheld["zeros rgb+event"]
    assert (list(inputs), present) == (["rgb", "event"], [[True, False, True]] * 3)
    inputs, present = zeroed["zeros zeros in depth"]
    assert (list(inputs), present) == (NAMES, [[True, True, True]] * 3)
    assert not inputs["depth"].any()
    assert inputs["rgb"].any()
    assert list(zeroed)[0] == "zeros zeros in none"
    assert zeroed["zeros zeros in none"][0]["depth"].any()


def test_rmm_zeroes_elements_by_frame_modality_and_share(frames: MemoryFrames) -> None:
    settings = shown("rmm", frames)
    assert len(settings) == 1 + 3 * 6
    for share in (0.25, 0.5, 0.75):
        inputs, present = settings[f"rmm {share} holes in depth+event"]
        assert present == [[True, True, True]] * 3
        for name in NAMES:
            for number in range(3):
                image = frames[number]["inputs"][name]
                holes = randomly_zeroed(image, share, draws(0, number, name, f"rmm {share}"))
                assert torch.equal(inputs[name][number], image if name == "rgb" else holes)
        alone = settings[f"rmm {share} holes in depth"][0]
        assert torch.equal(alone["depth"], inputs["depth"])


def test_noise_spares_events_the_gaussian(frames: MemoryFrames) -> None:
    settings = shown("noise", frames)
    assert len(settings) == 6
    for level, density, sigma in (("low", 0.05, 0.1), ("mid", 0.1, 0.2), ("high", 0.2, 0.5)):
        both = settings[f"salt and pepper, Gaussian {level}"][0]
        alone = settings[f"salt and pepper alone {level}"][0]
        for name in NAMES:
            rng = draws(0, 2, name, f"noise {level}")
            salted = salt_and_pepper(frames[2]["inputs"][name], density, rng)
            assert torch.equal(alone[name][2], salted)
            assert torch.equal(both[name][2], salted if name == "event" else gaussian(salted, sigma, rng))


def test_results_do_not_depend_on_batches_or_order(frames: MemoryFrames) -> None:
    for sample in frames.samples:
        for image in sample["inputs"].values():
            image[1] += 0.125 * torch.randn(image[1].shape)
    protocols = ["rmm", "noise"]
    whole, single, turned = (
        run_protocols(Runner(Reporter(NAMES), frames, size, indices=order), protocols)
        for size, order in ((4, None), (1, None), (3, [3, 2, 1, 0]))
    )
    for some in (single, turned):
        for protocol in protocols:
            for group, scores in whole[protocol]["groups"].items():
                assert scores["mean"] == some[protocol]["groups"][group]["mean"]
    other = run_protocols(Runner(Reporter(NAMES), frames), protocols, seed=1)
    assert other["rmm"] != whole["rmm"]


def test_scores_means_and_expected_values(frames: MemoryFrames) -> None:
    """rgb is right, depth and event are wrong; zeros score 0 and report class 0, so the best of the rest decides."""
    found = run_protocols(Runner(Reporter(NAMES), frames, indices=[0, 1, 2]), ["subsets", "emm"])
    subsets, emm = found["subsets"]["groups"]["withheld"], found["emm"]["groups"]["zero-filled"]
    assert {name: scores["pixel_accuracy"] for name, scores in subsets["settings"].items()} == {
        "rgb+depth+event": 1, "rgb+depth": 1, "rgb+event": 1, "depth+event": 0, "rgb": 1, "depth": 0, "event": 0,
    }  # fmt: skip
    assert {name: scores["pixel_accuracy"] for name, scores in emm["settings"].items()} == {
        "zeros in none": 1, "zeros in event": 1, "zeros in depth": 1, "zeros in rgb": 0, "zeros in depth+event": 1,
        "zeros in rgb+event": 0, "zeros in rgb+depth": 0,
    }  # fmt: skip
    assert subsets["mean"]["pixel_accuracy"] == emm["mean"]["pixel_accuracy"] == pytest.approx(4 / 7)
    assert "expected" not in subsets
    p, q = 0.2, 0.8
    weights = q**3 + 3 * p * q**2 + 3 * p**2 * q
    assert emm["expected"]["0.2"]["pixel_accuracy"] == pytest.approx((q**3 + 2 * p * q**2 + p**2 * q) / weights)
    assert list(emm["expected"]) == ["0.2", "0.1", "0.05"]
    evaluated = evaluate(Reporter(NAMES), frames, indices=[0, 1, 2], subsets="all")
    assert {name: scores["miou"] for name, scores in evaluated["subsets"].items()} == {
        name: scores["miou"] for name, scores in subsets["settings"].items()
    }


def test_expected_value_of_the_published_benchmark() -> None:
    """Four modalities: the 15 combinations weigh 1 - p^4 in all; equal values are their own expectation."""
    affected = [m for m, ways in enumerate((1, 4, 6, 4)) for _ in range(ways)]
    assert expected([0.5] * 15, affected, 4, 0.2) == pytest.approx(0.5)
    assert expected([1.0] + [0.0] * 14, affected, 4, 0.2) == pytest.approx(0.8**4 / (1 - 0.2**4))
    assert expected([None] + [0.0] * 14, affected, 4, 0.2) is None


def test_withheld_modalities_take_no_part_and_absent_ones_stay_absent(frames: MemoryFrames) -> None:
    model = Reporter(NAMES)
    found = run_protocols(Runner(model, frames, missing=["event"]), ["emm"])
    assert list(found["emm"]["groups"]["zero-filled"]["settings"]) == [
        "zeros in none",
        "zeros in depth",
        "zeros in rgb",
    ]
    assert all(inputs == ["rgb", "depth"] for _, inputs in model.calls)
    assert [present[3] for present, _ in model.calls] == [[True, False, False]] * 3


def test_tables_keep_withheld_and_zero_filled_apart(frames: MemoryFrames) -> None:
    text = format_protocols(run_protocols(Runner(Reporter(NAMES), frames), ["subsets", "emm", "rmm", "noise"]))
    for line in (
        "subsets: the other modalities are withheld, their branches skipped",
        "emm: affected modalities are zero-filled and given to the model as present",
        "subsets, withheld",
        "emm, zero-filled",
        "rmm, r = 0.25",
        "zeros in rgb+depth",
        "expected, p = 0.05",
        "noise, salt and pepper alone",
        "noise, salt and pepper, Gaussian",
    ):
        assert line in text


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), write_data(tmp_path_factory.mktemp("tiny")))


def test_the_command(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--split", "test", "--batch-size", "2", "--protocol", "subsets,emm", "--protocol", "noise,emm"]
    folder = run_folder / "checkpoints" / "best"
    assert main(["eval", "--checkpoint", str(run_folder), *options, "--frames", str(tmp_path / "frames.csv")]) == 0
    out = capsys.readouterr().out
    report = json.loads((folder / "eval-test-protocol_subsets_emm_noise.json").read_text())
    assert list(report["protocols"]) == ["subsets", "emm", "noise"]
    assert report["protocols"]["subsets"]["groups"]["withheld"]["settings"]["rgb+depth"]["miou"] == report["miou"]
    assert report["failures"][0]["failure"] == "shaken"
    assert "permutation" not in report
    with Image.open(folder / "eval-test-protocol_subsets_emm_noise.png") as picture:
        assert min(picture.size) > 300
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 3
    assert len((tmp_path / "frames.csv").read_text().splitlines()) == 1 + 4 * 2
    for line in ("emm, zero-filled", "plot: ", "frames: ", "report: "):
        assert line in out


def test_the_command_of_failures(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--split", "test", "--protocol", "failures", "--missing", "depth", "--json", str(tmp_path / "r.json")]
    assert main(["eval", "--checkpoint", str(run_folder), *options]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    own, *drawn = report["protocols"]["failures"]["rows"]
    assert (own["own"], own["failure"], own["frames"]) == (True, "shaken", 1)
    assert {row["modality"] for row in drawn} == {"rgb"}
    assert {"noise", "blur", "constant", "swapped"} <= {row["failure"] for row in drawn}
    assert (tmp_path / "r.png").is_file()
    assert "shaken (own)" in capsys.readouterr().out


def test_the_command_of_the_permutation(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["eval", "--checkpoint", str(run_folder), "--split", "test", "--permute", "--seed", "3"]
    assert main(arguments) == 0
    report = json.loads((run_folder / "checkpoints" / "best" / "eval-test-permuted-seed_3.json").read_text())
    assert report["permutation"]["seed"] == 3
    assert report["permutation"]["all"]["frames"] == 4
    assert "mIoU with the scores of other frames" in capsys.readouterr().out
