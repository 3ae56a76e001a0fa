"""What samples of a data set say of their sensors: failures that the description knows, and those that were drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_files import describe, image, save

from egformer_fast.data import Compose, FolderDataset, RandomDegraded, RandomMissing, RandomZeroed


def failing_frames(root: Path) -> Path:
    """Frames 1, 2_dark and 3_jitter: dark is a failure of a, jitter one of b, which has no file for frame 1."""
    for name in ("1", "2_dark", "3_jitter"):
        for sensor in ("a", "b") if name != "1" else ("a",):
            save(root / f"{sensor}/{name}.png", image(8, 8))
        save(root / f"label/{name}.png", image(8, 8) % 2)
    return describe(
        root,
        modalities={name: {"path": f"{name}/{{id}}.png", "optional": True} for name in "ab"},
        label={"path": "label/{id}.png"},
        cases=["dark", "jitter"],
        failing={"dark": "a", "jitter": "b"},
    )


def test_degraded_names_the_failing_sensor(tmp_path: Path) -> None:
    path = failing_frames(tmp_path)
    dataset = FolderDataset(path)
    assert [dataset[i]["degraded"].tolist() for i in range(3)] == [[False, False], [True, False], [False, True]]
    assert dataset[1]["degraded"].dtype == torch.bool
    assert [FolderDataset(path, modalities=["b"])[i]["degraded"].tolist() for i in (1, 2)] == [[False], [True]]
    (tmp_path / "b/3_jitter.png").unlink()
    assert dataset[2]["degraded"].tolist() == [False, False]


def test_degraded_tells_what_training_draws(tmp_path: Path) -> None:
    """Dead sensors and drawn degradations, of present sensors alone; and the last clean one stays."""
    path = failing_frames(tmp_path)
    rngs = [np.random.default_rng(seed) for seed in range(30)]
    zeroed = list(FolderDataset(path, transform=RandomZeroed(0.6)).samples(1, rngs))
    assert all(bool((s["inputs"]["b"] == 0).all()) == s["degraded"].tolist()[1] for s in zeroed)
    assert {tuple(s["degraded"].tolist()) for s in zeroed} == {(True, False), (True, True)}
    missing = Compose([RandomDegraded(0.5), RandomMissing(0.5)])
    for sample in FolderDataset(path, transform=missing).samples(2, rngs):
        assert not (sample["degraded"] & ~sample["present"]).any()
        assert not sample["degraded"][0]  # b fails in this frame
    dataset = FolderDataset(path, transform=RandomDegraded(1.0))
    plain = dataset[0]["inputs"]["a"]
    assert all(torch.equal(s["inputs"]["a"], plain) for s in dataset.samples(0, rngs))
    assert dataset[1]["degraded"].tolist() == [True, False]


def test_another_frame_comes_from_the_same_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the others may be drawn, never the frame itself; a set of one frame has none."""
    monkeypatch.setattr("egformer_fast.data.random_degraded.applicable", lambda kind: ("swapped",))
    for name in "12345":
        for sensor in "ab":
            save(tmp_path / f"{sensor}/{name}.png", np.full((8, 8), int(name), np.uint8))
        save(tmp_path / f"label/{name}.png", image(8, 8) % 2)
    sensors = {name: {"path": f"{name}/{{id}}.png", "scale": 1} for name in "ab"}
    path = describe(tmp_path, modalities=sensors, label={"path": "label/{id}.png"})
    dataset = FolderDataset(path, transform=RandomDegraded(1.0))
    rngs = [np.random.default_rng(seed) for seed in range(60)]
    seen = {value for s in dataset.samples(1, rngs) for value in (int(s["inputs"][n].mean()) for n in "ab")}
    assert seen == {1, 2, 3, 4, 5}
    changed = [(s["degraded"], s["inputs"]) for s in dataset.samples(1, rngs)]
    for degraded, inputs in changed:
        for name, worse in zip("ab", degraded.tolist(), strict=True):
            assert worse == (int(inputs[name].mean()) != 2)
    assert all(degraded.sum() == 1 for degraded, _ in changed)
    monkeypatch.undo()
    for name in "2345":
        (tmp_path / f"label/{name}.png").unlink()
    alone = FolderDataset(path, transform=RandomDegraded(1.0))
    assert len(alone) == 1
    assert all(s["degraded"].sum() <= 1 for s in alone.samples(0, rngs))
