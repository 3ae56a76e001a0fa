"""make-data: DELIVER's folders, the same bytes from the same seed, runs that go on, refusals in one sentence."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from egformer_fast.cli import main
from egformer_fast.data.synthetic import CLASSES, FAILURES, PALETTE, WEATHERS, case_of, command, draw_frame, make_data
from egformer_fast.data.synthetic.command import share_out
from egformer_fast.data.synthetic.writer import frame_paths, png_bytes, write_frame
from egformer_fast.errors import DataError
from egformer_fast.files import write_whole

SIZE = (32, 48)
PATTERN = re.compile(
    r"(img|hha|lidar|event|semantic)/(cloud|fog|night|rain|sun)/(train|val|test)/"
    r"MAP_[1-5]_point\d+(_(motionblur|overexposure|underexposure|lidarjitter|eventlowres))?/"
    r"\d{6}_(rgb|depth|lidar|event|semantic)_front\.png"
)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "set"
    make_data(root, 24, SIZE, seed=3, splits={"train": 16, "val": 5, "test": 3}, workers=1)
    return root


def test_folders_and_names_are_those_of_deliver(drawn: Path) -> None:
    pictures = [name for name in contents(drawn) if name.endswith(".png")]
    assert len(pictures) == 24 * 5
    assert all(PATTERN.fullmatch(name) for name in pictures)
    rgb = sorted(name for name in pictures if name.startswith("img/"))
    for folder, kind in (("hha", "depth"), ("lidar", "lidar"), ("event", "event"), ("semantic", "semantic")):
        siblings = sorted(name.replace("img/", f"{folder}/").replace("_rgb", f"_{kind}") for name in rgb)
        assert siblings == sorted(name for name in pictures if name.startswith(f"{folder}/"))
    assert sum("/val/" in name for name in rgb) == 5 and sum("/test/" in name for name in rgb) == 3
    assert {name.split("/")[1] for name in rgb} == set(WEATHERS)
    assert sum("rain" in name.split("/") for name in rgb) == 4  # "rain" is in "train" too


def test_pictures_are_8_bit_and_labels_hold_class_plus_one(drawn: Path) -> None:
    for path in drawn.rglob("*.png"):
        image = Image.open(path)
        assert image.size == SIZE[::-1]
        assert image.mode == ("L" if "semantic" in path.name else "RGB")
    paths = frame_paths(drawn, "train", 6)
    label = np.asarray(Image.open(paths["label"]))
    assert label.min() >= 1 and label.max() <= len(CLASSES)
    frame = draw_frame(3, "train", 6, SIZE)
    assert np.array_equal(label, frame.label + 1)
    for name in ("rgb", "depth", "event", "lidar"):
        assert np.array_equal(np.asarray(Image.open(paths[name])), getattr(frame, name))


def test_same_seed_same_bytes_in_any_order_and_by_any_number_of_processes(drawn: Path, tmp_path: Path) -> None:
    splits = {"train": 16.0, "val": 5.0, "test": 3.0}
    make_data(tmp_path / "two", 24, SIZE, seed=3, splits=splits, workers=2)
    assert contents(tmp_path / "two") == contents(drawn)
    alone = tmp_path / "alone"
    write_frame(alone, "val", 2, draw_frame(3, "val", 2, SIZE))
    assert len(contents(alone)) == 5
    assert all((drawn / name).read_bytes() == data for name, data in contents(alone).items())


def test_seed_split_and_index_all_matter() -> None:
    frames = [draw_frame(*key, SIZE).rgb for key in ((0, "train", 1), (1, "train", 1), (0, "val", 1), (0, "train", 6))]
    assert all(not np.array_equal(frames[0], other) for other in frames[1:])


def test_indices_meet_every_weather_with_every_failure_and_every_map() -> None:
    cases = [case_of(index) for index in range(75)]
    assert {(c.weather, c.failure) for c in cases} == {(w, f) for w in WEATHERS for f in ("", *FAILURES)}
    assert {(c.weather, c.map) for c in cases} == {(w, m) for w in WEATHERS for m in range(1, 6)}
    assert {c.failure for c in cases[:15]} == {"", *FAILURES}
    assert sum(c.failure != "" for c in cases) == 25


def test_a_second_run_draws_only_what_is_missing(tmp_path: Path) -> None:
    root = tmp_path / "set"
    splits = {"train": 1.0}
    assert make_data(root, 3, SIZE, splits=splits, workers=1) == (3, 0)
    before = contents(root)
    gone = frame_paths(root, "train", 1)["lidar"]
    gone.unlink()
    kept = frame_paths(root, "train", 0)["rgb"]
    kept.write_bytes(b"untouched")
    assert make_data(root, 4, SIZE, splits=splits, workers=1) == (2, 2)
    assert gone.read_bytes() == before[str(gone.relative_to(root))]
    assert kept.read_bytes() == b"untouched"
    assert make_data(root, 4, SIZE, splits=splits, workers=1, overwrite=True) == (4, 0)
    assert kept.read_bytes() == before[str(kept.relative_to(root))]


def test_frames_beyond_those_asked_for_are_not_left_in_the_splits(tmp_path: Path) -> None:
    make_data(tmp_path, 3, SIZE, splits={"train": 1.0}, workers=1)
    for frames, splits in ((2, {"train": 1.0}), (3, {"train": 2.0, "val": 1.0})):
        with pytest.raises(DataError, match=r"holds 1 frame\(s\) beyond those asked for, the first .*000002_semantic"):
            make_data(tmp_path, frames, SIZE, splits=splits, workers=1)


def test_a_folder_that_is_not_complete_has_no_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_data(tmp_path, 1, SIZE, splits={"train": 1.0}, workers=1)
    monkeypatch.setattr(command, "write_frame", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make_data(tmp_path, 2, SIZE, splits={"train": 1.0}, workers=1)
    assert not (tmp_path / "dataset.yaml").exists()


def test_a_folder_of_something_else_or_another_recipe_is_refused(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="holds something else"):
        make_data(tmp_path, 1, SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(DataError, match=r"'seed': 3.*'seed': 4.*choose another folder"):
        make_data(drawn, 24, SIZE, seed=4)
    with pytest.raises(DataError, match="holds something else"):
        make_data(tmp_path / "thesis.tex", 1, SIZE)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "make-data.json").write_text("{")
    with pytest.raises(DataError, match=r"make-data\.json is no recipe"):
        make_data(tmp_path / "broken", 1, SIZE)


def test_a_full_disk_leaves_no_half_written_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "set"
    whole = Path.write_bytes
    budget = [6]

    def write_bytes(path: Path, data: bytes) -> int:
        budget[0] -= 1
        if budget[0] < 0:
            whole(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(DataError, match="No space left on device.*run it again"):
        make_data(root, 4, SIZE, splits={"train": 1.0}, workers=1)
    monkeypatch.undo()
    assert not list(root.rglob("*.tmp"))
    assert not (root / "dataset.yaml").exists()
    for path in root.rglob("*.png"):
        Image.open(path).load()
    drawn, kept = make_data(root, 4, SIZE, splits={"train": 1.0}, workers=1)
    assert (drawn, kept) == (3, 1)


def test_a_stopped_move_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "picture.png"
    write_whole(target, b"old")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_whole(target, b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("picture.png", b"old")]


def test_the_picture_is_stored_without_loss() -> None:
    from io import BytesIO

    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(np.asarray(Image.open(BytesIO(png_bytes(picture)))), picture)


def test_frames_are_shared_out_without_loss() -> None:
    assert share_out(60, {"train": 40, "val": 10, "test": 10}) == {"train": 40, "val": 10, "test": 10}
    assert share_out(10, {"train": 0.7, "val": 0.15, "test": 0.15}) == {"train": 7, "val": 2, "test": 1}
    assert share_out(1, {"train": 70, "val": 15, "test": 15}) == {"train": 1, "val": 0, "test": 0}
    for frames in range(1, 40):
        assert sum(share_out(frames, {"train": 70, "val": 15, "test": 15}).values()) == frames


def test_the_command_draws_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    arguments = ["make-data", "--out", str(out), "--frames", "3", "--size", "32x48", "--splits", "train=2,val=1"]
    assert main([*arguments, "--workers", "1"]) == 0
    assert "3 frames drawn, 0 were there already" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["dataset.yaml", "event", "hha", "img", "lidar", "make-data.json", "semantic"]
    )
    assert main([*arguments, "--seed", "9"]) == 2
    assert "choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--size", "16", "too small"),
        ("--size", "big", "is no size"),
        ("--frames", "0", "is no count"),
        ("--seed", "-1", "is no seed"),
        ("--splits", "train=1,dev=2", "the names are train, val, test"),
        ("--splits", "train", "is no share"),
        ("--splits", "train=0", "not all 0"),
        ("--workers", "0", "is no count"),
    ],
)
def test_wrong_options_are_named(
    option: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["make-data", "--out", str(tmp_path / "x"), "--frames", "2", f"{option}={value}"])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_wrong_arguments_of_draw_frame_are_named() -> None:
    with pytest.raises(ValueError, match="split must be one of train, val, test, found 'dev'"):
        draw_frame(0, "dev", 0)
    with pytest.raises(ValueError, match="at least 32 pixels, found 16 x 64"):
        draw_frame(0, "train", 0, (16, 64))
    with pytest.raises(ValueError, match="index must be >= 0, found -1"):
        draw_frame(0, "train", -1)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 160), (150, 50)])
def test_any_size_is_drawn(size: tuple[int, int]) -> None:
    for index in (0, 1, 2, 13):
        frame = draw_frame(0, "test", index, size)
        assert frame.label.shape == size
        for name in ("rgb", "depth", "event", "lidar"):
            assert getattr(frame, name).shape == (*size, 3) and getattr(frame, name).dtype == np.uint8


def test_the_description_beside_the_pictures_fits_them(drawn: Path) -> None:
    from egformer_fast.data.description import load_description

    description = load_description(drawn / "dataset.yaml")
    assert description.classes == CLASSES
    assert np.array_equal(description.palette, PALETTE)
    assert list(description.modalities) == ["rgb", "depth", "event", "lidar"]
    assert description.label is not None
    assert dict(description.label.values) == {k + 1: k for k in range(25)} | {0: 255, 255: 255}
    case, paths = case_of(10), frame_paths(drawn, "train", 10)
    assert case.failure
    parts = {"condition": case.weather, "split": "train", "id": f"MAP_{case.map}_point2_{case.failure}/000010"}
    for name, template in description.templates().items():
        assert drawn / template.format(**parts) == paths[name]
        assert paths[name].is_file()
    assert set(description.splits) == {"train", "val", "test"}
