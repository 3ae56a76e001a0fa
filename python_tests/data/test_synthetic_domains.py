"""Domains of the drawn scenes: both as they always were, away far enough and of the same classes, each group felt."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from egformer_fast.cli import main
from egformer_fast.data.description import load_description
from egformer_fast.data.synthetic import (
    AWAY,
    CLASSES,
    DOMAINS,
    HOME,
    WEATHERS,
    Case,
    Domain,
    Frame,
    case_of,
    draw_frame,
    find_domain,
    make_data,
    sensors,
)
from egformer_fast.data.synthetic.classes import Label
from egformer_fast.data.synthetic.geometry import SolidTable
from egformer_fast.data.synthetic.raycast import cast
from egformer_fast.data.synthetic.street import draw_scene
from egformer_fast.data.synthetic.writer import frame_paths
from egformer_fast.errors import DataError

SIZE = (48, 64)
PICTURES = ("rgb", "depth", "event", "lidar", "label")
LIT = replace(HOME, weathers=AWAY.weathers, sun_elevation=AWAY.sun_elevation)
BAD = {"rain", "night", "fog"}


@cache
def home(index: int) -> Frame:
    return draw_frame(0, "train", index, SIZE)


def differing(domain: Domain, index: int) -> set[str]:
    """Which pictures of home's frame `index` change in `domain`; the weather stays that of home."""
    frame = draw_frame(0, "train", index, SIZE, case_of(index), domain)
    return {name for name in PICTURES if not np.array_equal(getattr(frame, name), getattr(home(index), name))}


# Frames of all weathers: home's from before there were domains, away's from when its committed scores were measured.
@pytest.mark.parametrize("domain, indices", [(HOME, (10, 6, 12, 8, 14)), (AWAY, (3, 5, 12, 9, 10))])
def test_a_place_is_drawn_as_it_was(domain: Domain, indices: tuple[int, ...]) -> None:
    before = np.load(Path(__file__).with_name(f"{domain.name}_frames.npz"))
    for k, index in enumerate(indices):
        frame = draw_frame(0, "train", index, (32, 48), domain=domain)
        # depth and label take exact arithmetic alone
        assert np.array_equal(frame.label, before["label"][k])
        assert np.array_equal(frame.depth[..., 0], before["depth"][k])
        found = np.concatenate([frame.rgb, frame.event[..., :2], frame.lidar], -1)
        kept = np.concatenate([before[name][k] for name in ("rgb", "event", "lidar")], -1)
        # a power or a logarithm may round differently on another processor: one value in thousands
        assert (found != kept).mean() < 5e-4


def test_a_frame_follows_from_seed_index_and_domain() -> None:
    frames = [draw_frame(*key, SIZE, domain=AWAY) for key in ((0, "train", 1), (0, "train", 1), (1, "train", 1))]
    for name in PICTURES:
        assert np.array_equal(getattr(frames[0], name), getattr(frames[1], name))
        assert not np.array_equal(getattr(frames[0], name), getattr(frames[2], name))
    same_but_stream = replace(HOME, stream=AWAY.stream)
    assert differing(same_but_stream, 1) == set(PICTURES)


def test_one_street_can_be_seen_in_both_looks_and_lights() -> None:
    for index in range(5):
        assert {"rgb"} <= differing(replace(HOME, look=AWAY.look), index) <= {"rgb", "event", "lidar"}
        assert {"rgb"} <= differing(LIT, index) <= {"rgb", "event"}
        assert differing(replace(HOME, hardware=AWAY.hardware), index) == {"rgb", "depth", "event", "lidar"}
        assert "label" in differing(replace(HOME, mount=AWAY.mount), index)


@pytest.mark.parametrize("group", ["look", "mount", "hardware"])
def test_every_parameter_is_felt_in_some_frame(group: str) -> None:
    ours, theirs = getattr(HOME, group), getattr(AWAY, group)
    for parameter in (field.name for field in fields(ours)):
        assert getattr(theirs, parameter) != getattr(ours, parameter), parameter
        changed = replace(HOME, **{group: replace(ours, **{parameter: getattr(theirs, parameter)})})
        assert any(differing(changed, index) for index in range(60)), parameter


@pytest.mark.parametrize("weather", WEATHERS)
def test_every_weather_is_lit_otherwise(weather: str) -> None:
    case = Case(weather, "", 1, 0)
    at_home, lit = (draw_frame(0, "train", 31, SIZE, case, domain).rgb.astype(float) for domain in (HOME, LIT))
    assert np.abs(at_home - lit).mean() > 4


def test_the_look_changes_the_colours_of_the_road_and_of_plants() -> None:
    pairs = [(home(k), draw_frame(0, "train", k, SIZE, case_of(k), replace(HOME, look=AWAY.look))) for k in (4, 5, 9)]
    for label in (Label.Road, Label.Vegetation):
        ours, theirs = (
            np.concatenate([pair[side].rgb[pair[side].label == label] for pair in pairs]).mean(0) for side in (0, 1)
        )
        assert np.abs(ours - theirs).max() > 15


def test_the_camera_sits_higher_looks_down_and_sees_more() -> None:
    scenes = {
        domain.name: [draw_scene(np.random.default_rng((0, k)), 1 + k % 5, domain) for k in range(20)]
        for domain in (HOME, AWAY)
    }

    def mean(name: str, value: str) -> float:
        read = {"height": lambda c: c.position[2], "pitch": lambda c: c.pitch, "fov": lambda c: c.fov}[value]
        return float(np.mean([read(scene.camera) for scene in scenes[name]]))

    assert mean("away", "height") > mean("home", "height") + 0.5
    assert mean("away", "fov") > mean("home", "fov") + 15
    horizon = {  # row of the horizon as a share of the picture's height, square pictures
        name: np.mean([0.5 + scene.camera.focal(1) * np.tan(scene.camera.pitch) for scene in found])
        for name, found in scenes.items()
    }
    assert horizon["away"] < horizon["home"] - 0.03


def test_the_hardware_is_worse_in_every_sensor() -> None:
    rough = [draw_frame(0, "train", k, SIZE, case_of(k), replace(HOME, hardware=AWAY.hardware)) for k in (3, 4, 9)]
    clear = [home(k) for k in (3, 4, 9)]

    def mean(frames: list[Frame], name: str) -> float:
        return float(np.mean([(getattr(frame, name).max(-1) > 0).mean() for frame in frames]))

    assert mean(rough, "lidar") < 0.6 * mean(clear, "lidar")
    assert mean(rough, "depth") < 0.93 * mean(clear, "depth")
    codes = np.unique([frame.depth for frame in rough])
    assert len(codes) < 45 and (codes[codes > 1] % AWAY.hardware.depth_step == 0).all()
    assert np.nanmax(sensors.decode_metres(codes)) < AWAY.hardware.depth_range + 1  # half a step of the code
    sky = np.concatenate([frame.event[frame.label == Label.Sky].max(-1) > 0 for frame in rough])
    assert sky.mean() > 0.03
    corners = [np.mean([frame.rgb[:6, :6].mean() / frame.rgb.mean() for frame in found]) for found in (clear, rough)]
    assert corners[1] < 0.92 * corners[0]


def test_the_mix_of_weathers_is_worse_and_meets_all() -> None:
    assert set(AWAY.mix) == set(HOME.mix) == set(WEATHERS) == set(AWAY.weathers)
    cases = [case_of(index, AWAY) for index in range(120)]
    assert sum(case.weather in BAD for case in cases) == 90
    assert sum(case_of(index).weather in BAD for index in range(120)) == 72
    assert {(case.weather, case.failure) for case in cases} == {
        (case.weather, case.failure) for case in map(case_of, range(75))
    }


def test_the_classes_are_the_same_and_about_as_frequent() -> None:
    shares = []
    for domain in (HOME, AWAY):
        seen = np.zeros(256, int)
        for index in range(80):
            rng = np.random.default_rng((0, 0, index, *domain.stream))
            scene = draw_scene(rng, case_of(index, domain).map, domain)
            seen += np.bincount(cast(scene, SolidTable(scene.solids), *SIZE).label.ravel(), minlength=256)
        assert (seen[:25] > 0).all(), [CLASSES[k] for k in np.flatnonzero(seen[:25] == 0)]
        assert seen[25:].sum() == 0
        shares.append(seen[:25] / seen.sum())
    assert np.abs(shares[0] - shares[1]).sum() / 2 < 0.12
    assert (np.abs(np.log(shares[0] / shares[1])) < np.log(5)).all()


def test_an_unknown_domain_is_refused_with_the_known_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [find_domain(name) for name in DOMAINS] == [HOME, AWAY]
    with pytest.raises(DataError, match="no domain 'abroad'; known are home, away"):
        find_domain("abroad")
    with pytest.raises(SystemExit) as stop:
        main(["make-data", "--out", str(tmp_path / "x"), "--frames", "2", "--domain", "abroad"])
    assert stop.value.code == 2
    assert "there is no domain 'abroad'; known are home, away" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_command_draws_a_domain_and_writes_down_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    arguments = ["make-data", "--out", str(out), "--frames", "9", "--size", "32x48", "--splits", "train=1"]
    assert main([*arguments, "--domain", "away", "--workers", "1"]) == 0
    assert "9 frames drawn" in capsys.readouterr().out
    assert json.loads((out / "make-data.json").read_text())["domain"] == "away"
    description = load_description(out / "dataset.yaml")
    assert description.name == "deliver_drawn_away" and description.classes == CLASSES
    for index in range(9):
        paths = frame_paths(out, "train", index, case_of(index, AWAY))
        assert all(path.is_file() for path in paths.values())
    from PIL import Image

    frame = draw_frame(0, "train", 8, (32, 48), domain=AWAY)
    assert np.array_equal(np.asarray(Image.open(paths["rgb"])), frame.rgb)
    assert np.array_equal(np.asarray(Image.open(paths["label"])), frame.label + 1)
    assert make_data(out, 9, (32, 48), splits={"train": 1.0}, workers=1, domain=AWAY) == (0, 9)
    assert main(arguments) == 2
    assert "choose another folder" in capsys.readouterr().err


def test_a_folder_from_before_there_were_domains_goes_on_as_home(tmp_path: Path) -> None:
    make_data(tmp_path, 2, (32, 48), splits={"train": 1.0}, workers=1)
    assert load_description(tmp_path / "dataset.yaml").name == "deliver_drawn"
    (tmp_path / "make-data.json").write_text(json.dumps({"seed": 0, "height": 32, "width": 48}))
    assert make_data(tmp_path, 3, (32, 48), splits={"train": 1.0}, workers=1) == (1, 2)
    with pytest.raises(DataError, match="'home'.*'away'.*choose another folder"):
        make_data(tmp_path, 3, (32, 48), splits={"train": 1.0}, workers=1, domain=AWAY)
