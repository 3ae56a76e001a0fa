"""The protocol "failures" with a model whose score of a sensor is how much its image varies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_standins import MemoryFrames, Reporter
from tiny_run import SIZE, write_data

from egformer_fast.data import FolderDataset
from egformer_fast.data.degradations import applicable
from egformer_fast.train.evaluate import evaluate_frames
from egformer_fast.train.failures import run_failures
from egformer_fast.train.protocol_report import format_protocols, plot_protocols
from egformer_fast.train.runner import Runner


class Varied(Reporter):
    """Reports class 0; a sensor's score is the spread of its image, over one plus that."""

    def __init__(self) -> None:
        super().__init__(["rgb", "depth"])
        self.modalities = {"rgb": 3, "depth": 1}
        self.keep = (1, 1, 1, 1)

    def forward(self, inputs, present=None, keep=None, trace=False, scores=None):  # type: ignore[no-untyped-def]
        shown = {}
        for name, image in inputs.items():
            spread = image.std((2, 3), correction=0).mean(1).view(-1, 1, 1)
            score = (spread / (1 + spread)).expand(image.shape[0], *image.shape[2:])
            shown[name] = torch.stack([torch.zeros_like(score), score], 1)
        return super().forward(shown, present, keep, trace, scores)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    data = write_data(tmp_path_factory.mktemp("tiny"))
    np.save(data / "test" / "depth" / "depth_f1.npy", np.zeros(SIZE, np.float32))
    runner = Runner(Varied(), FolderDataset(data / "dataset.yaml", split="test"), batch_size=2)
    report, records = evaluate_frames(runner, permute=True)
    return run_failures(runner, report, records)


def test_every_degradation_of_every_modality(found: dict) -> None:
    rows = found["rows"]
    own = [(row["modality"], row["failure"]) for row in rows if row["own"]]
    drawn = [(row["modality"], row["failure"]) for row in rows if not row["own"]]
    assert own == [("rgb", "shaken")]
    assert drawn == [(name, way) for name in ("rgb", "depth") for way in applicable(name)]
    by_name = {(row["modality"], row["failure"]): row for row in rows}
    flat, other = by_name["rgb", "constant"], by_name["rgb", "swapped"]
    # Frames f0 and f3 have rgb, f3's own failure makes it no clean one.
    assert (flat["frames"], flat["clean_frames"], flat["roc_area"]) == (2, 1, 1.0)
    assert flat["score"] == pytest.approx(0, abs=1e-3)
    assert flat["out"] == [1.0] * 4
    assert flat["clean_out"] == [0.0] * 4
    assert other["frames"] == 2
    assert other["score"] == pytest.approx(flat["clean_score"], rel=0.1)
    # Of the three depth maps one is empty: it has no returns to lose, and counts in no failing frame.
    assert (by_name["depth", "noise"]["frames"], by_name["depth", "thinned"]["frames"]) == (3, 2)
    assert {row["lost"] for row in rows if not row["own"]} == {0.0}
    assert by_name["rgb", "shaken"]["lost"] is None


def test_permutation_on_the_split_and_on_one_half_degraded(found: dict) -> None:
    permutation = found["permutation"]
    assert (permutation["split"]["all"]["frames"], permutation["split"]["failing"]["frames"]) == (4, 1)
    assert permutation["half"]["all"]["frames"] == 4
    assert permutation["half"]["all"]["lost"] == 0


def test_table_and_plot(found: dict, tmp_path: Path) -> None:
    text = format_protocols({"failures": found})
    for line in ("shaken (own)", " overexposure  ", "half of it degraded, all frames", "ROC area"):
        assert line in text
    plot_protocols({"failures": found}, 0.5, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").is_file()


def test_a_model_without_scores_of_its_modalities(found: dict) -> None:
    """Early fusion has mIoU alone."""
    rows = [{"modality": "rgb", "failure": "noise", "own": False, "miou": 0.5, "lost": None}]
    text = format_protocols({"failures": {"about": "", "rows": rows, "permutation": {"split": None, "half": None}}})
    assert "ROC area" not in text
    assert "others'" not in text


def test_data_set_without_a_description() -> None:
    frames = MemoryFrames(["rgb"])
    frames.add({"rgb": 1}, {"rgb": 0.5}, 1)
    runner = Runner(Reporter(["rgb"]), frames)
    with pytest.raises(ValueError, match="failures: found a MemoryFrames, wanted a data set with a description"):
        run_failures(runner, *evaluate_frames(runner))
