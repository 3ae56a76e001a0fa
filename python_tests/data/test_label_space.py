"""Labels of one data set in the classes of another."""

from __future__ import annotations

import argparse
from pathlib import Path

import miniature_deliver as miniature
import numpy as np
import pytest
import yaml
from toy_files import describe, toy

from egformer_fast.data import FolderDataset, load_description, map_description
from egformer_fast.data.check import add_arguments, run
from egformer_fast.data.label_space import known_spaces, load_space
from egformer_fast.errors import DataError

# DELIVER's classes by number in its order, and the Cityscapes class (by number) that each becomes.
WANTED = {
    0: 2, 1: 4, 3: 11, 4: 5, 5: 0, 6: 0, 7: 1, 8: 8, 9: 13, 10: 3, 11: 7, 12: 10, 17: 6, 21: 9, 22: 18, 23: 15, 24: 14
}  # fmt: skip


def test_deliver_in_the_classes_of_cityscapes(tmp_path: Path) -> None:
    miniature.write(tmp_path)
    plain, mapped = (FolderDataset(name, tmp_path, "val") for name in ("deliver", "deliver19"))
    assert mapped.classes[:2] == ["road", "sidewalk"]
    assert len(mapped.classes) == len(mapped.palette) == 19
    table = np.full(256, 255)
    table[list(WANTED)] = list(WANTED.values())
    np.testing.assert_array_equal(mapped[0]["label"], table[plain[0]["label"]])


def test_a_class_can_be_left_out(tmp_path: Path) -> None:
    miniature.write(tmp_path)
    path = tmp_path / "without.yaml"
    path.write_text("extends: deliver19\nlabel: {ignore: [0, 23, 255]}\n")
    assert 18 not in FolderDataset(path, tmp_path, "val")[0]["label"]
    assert 18 in FolderDataset("deliver19", tmp_path, "val")[0]["label"]
    plain, without = (load_description(name).mapped for name in ("deliver19", path))
    assert plain and without
    assert set(without.ignored) - set(plain.ignored) == {"TwoWheeler"}
    assert set(without.empty) - set(plain.empty) == {"bicycle"}


def test_a_loaded_description_can_be_mapped() -> None:
    """Domain adaptation has its source as it is described and its target's space by name."""
    mapped = map_description(load_description("deliver"), "cityscapes19")
    assert mapped.classes == load_description("deliver19").classes
    assert mapped.label and mapped.label.values == load_description("deliver19").label.values
    assert map_description(mapped, "cityscapes19").label == mapped.label
    drawn = Path(__file__).parents[2] / "egformer_fast/data/synthetic/dataset.yaml"
    assert map_description(load_description(drawn), "cityscapes19").classes == mapped.classes


def test_unmapped_classes_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    miniature.write(tmp_path)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    run(parser.parse_args(["--data", "deliver19", "--root", str(tmp_path), "--split", "val"]))
    printed = capsys.readouterr().out
    ignored = "Other, Ground, Bridge, RailTrack, GroundRail, Static, Dynamic, Water"
    assert f"  ignored, not in cityscapes19 or void: {ignored}\n" in printed
    assert "  classes of cityscapes19 that no label becomes: rider, train, motorcycle\n" in printed


@pytest.mark.parametrize("name", known_spaces())
def test_shipped_spaces_are_sound(name: str) -> None:
    space = load_space(name)
    assert len(space.palette) == len(space.classes)
    for table in space.sources.values():
        assert set(table.values()) <= set(space.classes)


def test_mistakes(tmp_path: Path) -> None:
    toy(tmp_path)

    def message(**label: str) -> str:
        path = describe(tmp_path, label={"path": "label/{split}/{id}.png", **label})
        with pytest.raises(DataError) as caught:
            load_description(path)
        assert str(caught.value).startswith(f"{path}: label.map_to: ")
        return str(caught.value)

    assert "no label space 'cityscape19'; did you mean 'cityscapes19'?" in message(map_to="cityscape19")
    assert "only where `label.space` says" in message(map_to="cityscapes19")
    assert "has no mapping from 'mine'; valid: deliver25" in message(map_to="cityscapes19", space="mine")
    assert "has a class 'Building', which the data set" in message(map_to="cityscapes19", space="deliver25")
    unlabelled = load_description(describe(tmp_path, label=None))
    with pytest.raises(DataError, match="data set 'toy' has no labels to map to 'cityscapes19'"):
        map_description(unlabelled, "cityscapes19")
    content = yaml.safe_load(describe(tmp_path, label={"path": "label/{split}/{id}.png", "map_to": 3}).read_text())
    assert content["label"]["map_to"] == 3
    with pytest.raises(DataError, match=r"label\.map_to: wanted text; found 3"):
        load_description(tmp_path / "toy.yaml")
