"""dataset.yaml: what is read from it, and one clear error for each mistake, naming key and nearest valid one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egformer_fast.data.description import (
    IGNORE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Split,
    default_palette,
    load_description,
    parse_description,
)
from egformer_fast.data.synthetic import FAILURES
from egformer_fast.errors import DataError

BASE: dict[str, Any] = {
    "name": "toy",
    "modalities": {
        "rgb": {"path": "rgb/{split}/{id}.png", "kind": "rgb"},
        "depth": {"path": "depth/{split}/{id}.png", "kind": "depth", "optional": True, "resize": "nearest"},
    },
    "label": {"path": "label/{split}/{id}.png", "values": {0: 0, 255: 1}},
    "classes": ["dry", "flood"],
    "splits": {"train": None, "test": "held_out", "val": {"of": "train", "share": 0.5, "seed": 3}},
}
DRAWN = Path(__file__).parents[2] / "egformer_fast" / "data" / "synthetic" / "dataset.yaml"
CONFIGS = Path(__file__).parents[2] / "configs" / "data"


def changed(*path: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(BASE)
    here = content
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return content


def message(content: object) -> str:
    with pytest.raises(DataError) as caught:
        parse_description(content, Path("toy.yaml"))
    assert str(caught.value).startswith("toy.yaml: ")
    return str(caught.value)


def test_defaults() -> None:
    description = parse_description(BASE, Path("toy.yaml"))
    rgb, depth = description.modalities.values()
    assert (rgb.channels, rgb.mean, rgb.std, rgb.scale) == (3, IMAGENET_MEAN, IMAGENET_STD, None)
    assert (rgb.optional, rgb.resize) == (False, None)
    assert (depth.channels, depth.mean, depth.std, depth.optional, depth.resize) == (1, (0,), (1,), True, "nearest")
    assert description.classes == ("dry", "flood")
    assert description.splits["train"] == Split("train", folder="train")
    assert description.splits["test"] == Split("test", folder="held_out")
    assert description.splits["val"] == Split("val", of="train", share=0.5, seed=3)
    assert not description.has_conditions


def test_one_number_stands_for_all_channels() -> None:
    content = changed("modalities", "rgb", "mean", value=0.25)
    content["modalities"]["rgb"]["std"] = [1, 2, 3]
    rgb = parse_description(content, Path("toy.yaml")).modalities["rgb"]
    assert (rgb.mean, rgb.std) == ((0.25, 0.25, 0.25), (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ({"values": {0: 0, 255: 1}}, {0: 0, 255: 1}),
        ({"values": {4: 1, 7: 1}, "ignore": [255]}, {4: 1, 7: 1, 255: IGNORE}),
        ({}, {0: 0, 1: 1, 255: IGNORE}),
        ({"offset": -1, "ignore": [0, 255]}, {1: 0, 2: 1, 0: IGNORE, 255: IGNORE}),
        ({"offset": 1, "ignore": [0]}, {-1: 0, 0: IGNORE}),
        ({"ignore": []}, {0: 0, 1: 1}),
    ],
)
def test_label_values(label: dict[str, Any], values: dict[int, int]) -> None:
    content = changed("label", value={"path": "label/{id}.png", **label})
    found = parse_description(content, Path("toy.yaml")).label
    assert found is not None
    assert found.values == values


def test_without_label() -> None:
    content = changed("label", value=None)
    assert parse_description(content, Path("toy.yaml")).label is None


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        (("modalitys",), {}, ["unknown key 'modalitys'", "did you mean 'modalities'?"]),
        (("modalities", "rgb", "chanels"), 3, ["unknown key 'modalities.rgb.chanels'", "'channels'"]),
        (("label", "offsett"), 1, ["unknown key 'label.offsett'", "'offset'"]),
        (("label", "xyz"), 1, ["valid: path, values, offset, ignore, channel, optional, space, map_to"]),
        (("splits", "val", "shares"), 1, ["unknown key 'splits.val.shares'", "'share'"]),
        (("modalities", "rgb", "kind"), "rbg", ["modalities.rgb.kind", "unknown value 'rbg'", "'rgb'"]),
        (("modalities", "depth", "resize"), "linear", ["modalities.depth.resize", "'linear'", "'bilinear'"]),
        (("modalities", "rgb", "path"), "{spilt}/{id}.png", ["unknown placeholder 'spilt'", "'split'"]),
        (("modalities", "rgb", "path"), "{split}/a.png", ["modalities.rgb.path", "{id}"]),
        (("modalities", "rgb", "path"), "/data/{id}.png", ["relative to the root"]),
        (("modalities", "rgb", "path"), None, ["modalities.rgb.path is missing", "wanted text"]),
        (("modalities", "rgb", "channels"), 4, ["modalities.rgb.channels", "3 for kind rgb", "found 4"]),
        (("modalities", "depth", "channels"), 0, ["modalities.depth.channels"]),
        (("modalities", "depth", "channels"), True, ["wanted a whole number", "found true"]),
        (("modalities", "rgb", "select"), [3], ["modalities.rgb.select", "wanted 3 channel numbers from 0"]),
        (("modalities", "rgb", "select"), [0, 1, -1], ["modalities.rgb.select", "from 0"]),
        (("modalities", "depth", "scale"), 0, ["positive"]),
        (("modalities", "depth", "scale"), float("nan"), ["finite"]),
        (("modalities", "rgb", "std"), [1, 1, 1], ["modalities.rgb.mean", "come together"]),
        (("modalities", "depth", "optional"), "yes", ["wanted true or false", "'yes'"]),
        (("modalities", "a-b"), {"path": "{id}"}, ["letters, digits", "'a-b'"]),
        (("modalities", "label"), {"path": "{id}"}, ["not 'label'"]),
        (("modalities",), {}, ["modalities", "at least one"]),
        (("modalities",), [], ["modalities", "wanted a mapping", "[]"]),
        (("classes",), ["a", "a"], ["classes", "distinct"]),
        (("classes",), ["on", False], ["quote yes, no"]),
        (("classes",), [f"c{n}" for n in range(256)], ["1 to 255"]),
        (("palette",), [[0, 0, 0]], ["palette", "wanted 2 colours"]),
        (("palette",), [[0, 0, 0], [0, 0, 256]], ["palette"]),
        (("label", "values"), {0: 0, 1: 2}, ["class of file value 1", "0 to 1", "found 2"]),
        (("label", "values"), {"0": 0}, ["label.values", "whole numbers"]),
        (("label", "values"), {70000: 0}, ["-32768 to 65535"]),
        (("label", "values"), {}, ["label.values", "wanted at least one file value", "found {}"]),
        (("label", "offset"), 1, ["either values or offset"]),
        (("label", "ignore"), [255], ["label.ignore", "has a class as well", "255"]),
        (("splits", "val", "of"), "trian", ["splits.val.of", "'trian'", "'train'"]),
        (("splits", "val", "of"), "val", ["splits.val.of", "unknown value 'val'"]),
        (("splits", "val", "share"), 1.0, ["between 0 and 1"]),
        (("splits", "val", "without"), "test", ["either a share or without"]),
        (("splits", "val", "folder"), "x", ["comes from the split named by `of`"]),
        (("splits", "val", "unlabelled"), True, ["comes from the split named by `of`"]),
        (("splits", "test"), {"frames": "many"}, ["splits.test.frames", "wanted a whole number"]),
        (("splits", "train"), {"share": 0.5}, ["splits.train.share", "goes with `of`"]),
        (("splits", "train"), {"skip": "_flip"}, ["splits.train.skip", "goes with `list`"]),
        (("splits", "val", "skip"), "_flip", ["splits.val.skip", "comes from the split named by `of`"]),
        (("splits", "train"), 3, ["splits.train", "wanted a mapping"]),
    ],
)
def test_mistakes_are_named(path: tuple[str, ...], value: Any, parts: list[str]) -> None:
    found = message(changed(*path, value=value))
    for part in parts:
        assert part in found


def test_wrong_number_of_means() -> None:
    content = changed("modalities", "rgb", "mean", value=[0.5])
    content["modalities"]["rgb"]["std"] = 1
    assert "modalities.rgb.mean: wanted 3 finite numbers" in message(content)
    content["modalities"]["rgb"] |= {"mean": 0, "std": [1, 0, 1]}
    assert "modalities.rgb.std: wanted positive numbers" in message(content)


def test_cases_are_words_or_named_words() -> None:
    assert parse_description(changed("cases", value=["dark"]), Path("toy.yaml")).cases == {"dark": "dark"}
    assert parse_description(changed("cases", value={"night": "N"}), Path("toy.yaml")).cases == {"night": "N"}
    assert "cases.night: wanted text; found 3" in message(changed("cases", value={"night": 3}))


def test_failing_names_a_case_and_a_modality() -> None:
    content = changed("cases", value={"night": "N", "blur": "B"})
    assert parse_description(content, Path("toy.yaml")).failing == {}
    content["failing"] = {"night": "rgb", "blur": "depth"}
    assert parse_description(content, Path("toy.yaml")).failing == content["failing"]
    for failing, wanted in (
        ({"nihgt": "rgb"}, "unknown key 'failing.nihgt'; did you mean 'night'?"),
        ({"night": "rbg"}, "failing.night: unknown modality 'rbg'; did you mean 'rgb'?"),
        ({"night": 3}, "failing.night: wanted text; found 3"),
        (["night"], "failing: wanted a mapping; found ['night']"),
    ):
        assert wanted in message(content | {"failing": failing})
    assert "unknown key 'failing.night'; valid: none" in message(changed("failing", value={"night": "rgb"}))


def test_condition_must_be_where_names_are_read() -> None:
    content = changed("modalities", "rgb", "path", value="{condition}/{split}/{id}.png")
    assert "label.path: wanted {condition}" in message(content)
    content["label"] = None
    assert "modalities.depth.path: wanted {condition}" in message(content)
    content["label"] = {"path": "{condition}/{id}.png"}
    parse_description(content, Path("toy.yaml"))
    content["splits"]["hidden"] = {"unlabelled": True}
    assert "modalities.depth.path: wanted {condition}" in message(content)


def test_files_that_are_no_description(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.yaml does not exist"):
        load_description(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    for text in ("a: [1, 2", "", "- 1", "!!python/object/apply:os.getcwd []"):
        broken.write_text(text)
        with pytest.raises(DataError, match=r"broken\.yaml: .*"):
            load_description(broken)


def test_default_palette_has_distinct_colours() -> None:
    palette = default_palette(255)
    assert palette.dtype == np.uint8
    assert len({tuple(colour) for colour in palette.tolist()} | {(0, 0, 0)}) == 256


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_descriptions_parse(path: Path) -> None:
    description = load_description(path)
    assert description.name == path.stem
    assert len(description.palette) == len(description.classes)
    assert len({tuple(colour) for colour in description.palette.tolist()}) == len(description.classes)


def test_shipped_descriptions_are_there() -> None:
    ombria = load_description(CONFIGS / "ombria.yaml")
    assert list(ombria.modalities) == ["s2_before", "s2_after", "s1_before", "s1_after"]
    assert [sensor.channels for sensor in ombria.modalities.values()] == [3, 3, 1, 1]
    assert (ombria.splits["train"].without, ombria.splits["val"].share) == ("val", 0.15)
    drawn = load_description(DRAWN)
    assert len(drawn.classes) == 25
    assert list(drawn.failing) == list(drawn.cases) == list(FAILURES)
    assert list(drawn.failing.values()) == ["rgb", "rgb", "rgb", "lidar", "event"]
    assert drawn.label is not None
    assert {drawn.label.values[0], drawn.label.values[255]} == {IGNORE}
    assert drawn.label.values[1] == 0
    assert drawn.label.values[25] == 24
    assert 26 not in drawn.label.values


def test_a_side_without_a_number_is_not_cut() -> None:
    assert parse_description(changed("cut", value={"left": None, "top": 2}), Path("toy.yaml")).cut == (0, 0, 2, 0)
    assert "cut.left: wanted 0 or more pixels; found -1" in message(changed("cut", value={"left": -1}))


def test_a_key_given_twice(tmp_path: Path) -> None:
    """The last of two sensors of one name would take the place of the first in silence."""
    path = tmp_path / "twice.yaml"
    path.write_text('modalities:\n  lidar: {path: "a/{id}.png"}\n  lidar: {path: "b/{id}.png"}\n')
    with pytest.raises(DataError, match=r"twice\.yaml: key lidar is given twice"):
        load_description(path)
    path.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(DataError, match=r"twice\.yaml: not a text file in UTF-8"):
        load_description(path)
