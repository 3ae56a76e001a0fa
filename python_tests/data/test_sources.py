"""Descriptions by name, and descriptions that extend others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from toy_files import describe, toy

from egformer_fast.data import FolderDataset, load_description
from egformer_fast.data.sources import SETS, find_description, known_sets, self_contained
from egformer_fast.errors import DataError


def extending(path: Path, **content: Any) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.parametrize("name", known_sets())
def test_shipped_descriptions_parse(name: str) -> None:
    description = load_description(name)
    assert description.name == name
    assert description.root_env and description.root_env.endswith("_ROOT")
    assert {"train", "test"} <= set(description.splits)
    colours = {tuple(colour) for colour in description.palette.tolist()}
    assert len(colours) == len(description.classes)
    assert description.label and 255 not in description.label.values.keys() - {
        value for value, target in description.label.values.items() if target == 255
    }


def test_names_and_paths() -> None:
    assert find_description("deliver") == SETS / "deliver.yaml"
    assert find_description("deliver.yaml") == Path("deliver.yaml")
    assert find_description("sets/deliver") == Path("sets/deliver")
    with pytest.raises(DataError, match=r"no data set 'delivr' .*wanted the path of a dataset.yaml, or .*deliver, "):
        find_description("delivr")
    with pytest.raises(DataError, match="no data set 'delivr'"):
        FolderDataset("delivr")


def test_what_extends_another_changes_only_what_it_says(tmp_path: Path) -> None:
    toy(tmp_path / "data")
    modalities = {"a": {"path": "a/{split}/{id}.png", "kind": "sar"}, "b": {"path": "b/{split}/{id}.png"}}
    describe(tmp_path, modalities=modalities, root="data", name="first", palette=[[1, 1, 1], [2, 2, 2]])
    (tmp_path / "far").mkdir()
    changes = {"a": {"mean": 0.5, "std": 0.25}, "b": None}
    path = extending(tmp_path / "far/second.yaml", extends="../toy.yaml", modalities=changes, palette=None)
    description = load_description(path)
    assert description.name == "second"
    assert list(description.modalities) == ["a"]
    assert (description.modalities["a"].kind, description.modalities["a"].mean) == ("sar", (0.5,))
    assert not np.array_equal(description.palette, [[1, 1, 1], [2, 2, 2]])
    assert FolderDataset(path).names == ["1", "2"]


def test_failures_of_what_is_taken_away_go_with_it(tmp_path: Path) -> None:
    shipped = load_description("deliver").failing
    assert shipped == load_description("deliver_depth").failing
    assert set(shipped) == set(load_description("deliver").cases)
    path = tmp_path / "mine.yaml"
    without = {case: name for case, name in shipped.items() if name != "event"}
    assert load_description(extending(path, extends="deliver", modalities={"event": None})).failing == without
    assert load_description(extending(path, extends="deliver", cases=["motionblur"])).failing == {"motionblur": "rgb"}
    assert load_description(extending(path, extends="deliver", cases=None)).failing == {}
    assert load_description(extending(path, extends="deliver", failing=None)).failing == {}
    own = extending(path, extends="deliver", failing={"lidarjitter": "depth", "eventlowres": None})
    assert load_description(own).failing == without | {"lidarjitter": "depth"}
    for failing, wanted in (({"motionblurr": "rgb"}, "'motionblur'"), ({"motionblur": "rbg"}, "did you mean 'rgb'")):
        with pytest.raises(DataError, match=f"mine.yaml: .*{wanted}"):
            load_description(extending(path, extends="deliver", failing=failing))


def test_a_copy_of_a_description_stands_alone(tmp_path: Path) -> None:
    plain = describe(tmp_path / "plain")
    assert self_contained(plain) == plain.read_text()
    path = extending(tmp_path / "mine.yaml", extends="deliver", modalities={"event": None})
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere/dataset.yaml"
    copy.write_text(self_contained(path))
    assert "extends" not in copy.read_text()
    one, two = load_description(path), load_description(copy)
    assert (one.name, one.modalities, one.classes, one.splits) == (two.name, two.modalities, two.classes, two.splits)


def test_mistakes_in_extends(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    extending(one, extends="two.yaml")
    extending(two, extends="one.yaml")
    with pytest.raises(DataError, match=r"extends: one\.yaml leads back to itself"):
        load_description(one)
    with pytest.raises(DataError, match=r"one\.yaml: extends: no data set 'delivr' .*did you mean 'deliver'"):
        load_description(extending(one, extends="delivr"))
    with pytest.raises(FileNotFoundError, match=r"none\.yaml does not exist"):
        load_description(extending(one, extends="none.yaml"))
    with pytest.raises(DataError, match=r"one\.yaml: extends: found 3, wanted the data set description"):
        load_description(extending(one, extends=3))
    two.write_text("- 1\n")
    with pytest.raises(DataError, match=r"two\.yaml: wanted a mapping"):
        load_description(extending(one, extends="two.yaml"))
