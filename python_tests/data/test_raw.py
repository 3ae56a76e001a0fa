"""Raw LiDAR, radar and events fall onto pixels computed by hand, and every broken file is named."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import miniature_muses_raw as miniature
import numpy as np
import pytest
import yaml
from miniature_muses import FRAMES, HEIGHT, WIDTH, path_of
from miniature_muses_raw import FORWARD, K, calibration, write_events, write_points, write_sweep
from toy_files import image, save

from egformer_fast.data import FolderDataset, load_description
from egformer_fast.data.check import check_dataset
from egformer_fast.data.raw import Projection, read_raw
from egformer_fast.data.raw.radar import read_echoes
from egformer_fast.errors import DataError

SIZE = (HEIGHT, WIDTH)


def spec(sensor: str) -> Projection:
    found = load_description("muses_raw").modalities[sensor].project
    assert found is not None
    return replace(found, size=SIZE)


def painted(picture: np.ndarray) -> dict[tuple[int, int], list[float]]:
    """(row, column) -> values, where there are any."""
    places = np.argwhere(picture.any(0))
    return {(row, column): picture[:, row, column].astype(float).round(4).tolist() for row, column in places.tolist()}


# LiDAR


def test_points_on_pixels_computed_by_hand(tmp_path: Path) -> None:
    """K has focal length 10 and centre (8, 6): 10 m ahead, 1 m is one pixel."""
    calibration(tmp_path)
    points = [
        [10, 0, 0, 50],  # straight ahead: column 8, row 6
        [10, 2, 0, 60],  # 2 m to the left: column 6
        [10, -3, -4, 70],  # 3 m right, 4 m down: column 11, row 10
        [5, 1, 1, 80],  # at 5 m, 1 m is two pixels: column 6, row 4
    ]
    picture = read_raw(write_points(tmp_path / "x.bin", points), spec("lidar"))
    assert (picture.dtype, picture.shape) == (np.float32, (3, *SIZE))
    assert painted(picture) == {
        (6, 8): [10, 50, 0],
        (6, 6): [round(104**0.5, 4), 60, 0],
        (10, 11): [round(125**0.5, 4), 70, -4],
        (4, 6): [round(27**0.5, 4), 80, 1],
    }


def test_where_the_lidar_stands(tmp_path: Path) -> None:
    """The LiDAR 1 m above the camera: a point on its axis lies 1 m above the camera's."""
    above = FORWARD.copy()
    above[1, 3] = -1
    calibration(tmp_path, lidar2rgb=above)
    picture = read_raw(write_points(tmp_path / "x.bin", [[10, 0, 0, 50]]), spec("lidar"))
    assert painted(picture) == {(5, 8): [10, 50, 0]}


def test_what_is_not_seen(tmp_path: Path) -> None:
    calibration(tmp_path)
    points = [
        [-10, 0, 0, 1],  # behind: its mirror image would fall onto the centre
        [10, 9, 0, 2],  # left of the picture
        [10, 0, -6, 3],  # below it: row 12
        [0.5, 0, 0, 4],  # nearer than a metre
        [np.nan, 0, 0, 5],
        [1e-9, 5, 5, 6],  # nearly in the plane of the lens
        [20, 0, 0, 7],
        [10, 0, 0, 8],  # hides the one before, whatever their order
        [15, 0, 0, 9],
    ]
    picture = read_raw(write_points(tmp_path / "x.bin", points), spec("lidar"))
    assert painted(picture) == {(6, 8): [10, 8, 0]}
    near = read_raw(tmp_path / "x.bin", replace(spec("lidar"), distances=(12.0, 16.0)))
    assert painted(near) == {(6, 8): [15, 9, 0]}


def test_points_that_are_no_rows(tmp_path: Path) -> None:
    calibration(tmp_path)
    path = write_points(tmp_path / "x.bin", [[10, 0, 0, 50]] * 2)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match=rf"{path}: wanted rows of 6 float64 .*\(48 bytes\), found 88 bytes"):
        read_raw(path, spec("lidar"))
    path.write_bytes(b"")
    with pytest.raises(DataError, match="found 0 bytes"):
        read_raw(path, spec("lidar"))


# Radar


def test_echoes_on_pixels_computed_by_hand(tmp_path: Path) -> None:
    """Column 199 looks ahead, lower ones to the left; bin i is at (i + 1) · 0.0438 m; echoes lie 1.62 m below."""
    calibration(tmp_path)
    # 456 · 0.0438 = 19.9728 m ahead, 1.62 m down: 0.81 pixels, so row 7.
    # Column 179 is 18 degrees to the left: x = d cos 18°, y = d sin 18°: 10 tan 18° = 3.25 pixels, so column 5.
    path = write_sweep(tmp_path / "x.png", [(455, 199, 90), (455, 179, 40)])
    distance = round(float(np.hypot(456 * 0.0438, 1.62)), 4)
    found = painted(read_raw(path, spec("radar")))
    assert found == {
        (7, 8): [pytest.approx(distance, abs=1e-3), 90, 0],
        (7, 5): [pytest.approx(distance, abs=1e-3), 40, 0],
    }


def test_azimuths_and_ranges(tmp_path: Path) -> None:
    echoes = [(0, 199, 1), (99, 99, 2), (99, 299, 3), (999, 399, 4), (99, 249, 5)]
    found = read_echoes(write_sweep(tmp_path / "x.png", echoes), 0, 1000)
    half = 4.38 * 0.5**0.5
    wanted = {1: (0.0438, 0), 2: (0, 4.38), 3: (0, -4.38), 4: (-43.8, 0), 5: (half, -half)}
    assert len(found) == len(wanted)
    for x, y, z, strength in found:
        assert (x, y, z) == pytest.approx((*wanted[strength], -1.62), abs=1e-9)


def test_echoes_that_do_not_count(tmp_path: Path) -> None:
    """Of an invalid azimuth, behind, farther than 150 m; of two in one pixel the stronger one is seen."""
    calibration(tmp_path)
    echoes = [(455, 198, 200), (455, 399, 90), (3500, 199, 90), (455, 199, 30), (456, 199, 70), (457, 199, 20)]
    path = write_sweep(tmp_path / "x.png", echoes, invalid=(198,))
    found = painted(read_raw(path, spec("radar")))
    assert [values[1] for values in found.values()] == [70]
    assert found[7, 8][0] == pytest.approx(np.hypot(457 * 0.0438, 1.62), abs=1e-3)


@pytest.mark.parametrize("array", [image(500, 399), image(11, 400), np.zeros((500, 400), np.uint16)])
def test_pictures_that_are_no_sweep(tmp_path: Path, array: np.ndarray) -> None:
    calibration(tmp_path)
    with pytest.raises(DataError, match=r"x\.png: wanted an 8-bit picture of 400 columns and more than 11 rows"):
        read_raw(save(tmp_path / "x.png", array), spec("radar"))


# Events


@pytest.fixture
def h5py() -> None:
    """A library that is there but does not load is a failure, not a skip."""
    pytest.importorskip("h5py", exc_type=ModuleNotFoundError)


@pytest.mark.usefixtures("h5py")
def test_events_are_counted_on_pixels_computed_by_hand(tmp_path: Path) -> None:
    """The event camera has half the resolution: its pixel (x, y) is (2x, 2y) of the camera."""
    calibration(tmp_path)
    events = [(4, 3, 10, 1), (4, 3, 20, 1), (4, 3, 30, 0), (1, 2, 40, 0), (100, 3, 50, 1)]
    picture = read_raw(write_events(tmp_path / "x.h5", events), spec("event"))
    assert painted(picture) == {(6, 8): [2, 1, 0], (4, 2): [0, 1, 0]}


@pytest.mark.usefixtures("h5py")
def test_a_turned_event_camera(tmp_path: Path) -> None:
    """Turned to the right by 16.7 degrees (tangent 0.3), its centre looks 3 pixels right of the camera's; its place
    is of no matter, since events have no distance."""
    turn = np.eye(4)
    sine, cosine = 0.3 / 1.09**0.5, 1 / 1.09**0.5
    turn[:3, :3] = [[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]
    turn[:3, 3] = 5
    calibration(tmp_path, event2rgb=turn)
    picture = read_raw(write_events(tmp_path / "x.h5", [(4, 3, 0, 1)]), spec("event"))
    assert painted(picture) == {(6, 11): [1, 0, 0]}


@pytest.mark.usefixtures("h5py")
@pytest.mark.parametrize(
    ("last", "kept"),
    # The first is a file of less than 30 ms, where unsigned times wrapped round; the window is half open.
    [(29_990, [0, 5_000, 29_990]), (2_000_000_000, [2_000_000_000 - 29_999, 2_000_000_000])],
)
def test_the_window_before_the_last_event(tmp_path: Path, last: int, kept: list[int]) -> None:
    calibration(tmp_path)
    times = sorted(time for time in {0, 5_000, last - 30_000, last - 29_999, last} if time >= 0)
    path = write_events(tmp_path / "x.h5", [(4, 3, time, 1) for time in times])
    picture = read_raw(path, replace(spec("event"), window_ms=30))
    assert painted(picture) == {(6, 8): [len(kept), 0, 0]}
    short = read_raw(tmp_path / "x.h5", replace(spec("event"), window_ms=0.001))
    assert painted(short) == {(6, 8): [1, 0, 0]}


@pytest.mark.usefixtures("h5py")
def test_no_events_are_an_empty_picture(tmp_path: Path) -> None:
    calibration(tmp_path)
    assert not read_raw(write_events(tmp_path / "x.h5", []), spec("event")).any()


@pytest.mark.usefixtures("h5py")
def test_files_that_are_no_events(tmp_path: Path) -> None:
    import h5py

    calibration(tmp_path)
    path = tmp_path / "x.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(DataError, match=r"x\.h5: cannot be read as events"):
        read_raw(path, spec("event"))
    with h5py.File(path, "w") as file:
        file["events/x"] = [1, 2]
    with pytest.raises(DataError, match=r"x\.h5: cannot be read as events"):
        read_raw(path, spec("event"))
    with h5py.File(path, "w") as file:
        for name, count in zip("xytp", (2, 2, 3, 2), strict=True):
            file[f"events/{name}"] = np.zeros(count, np.uint8)
    with pytest.raises(DataError, match=r"x\.h5: wanted events/x, y, t, p of one length"):
        read_raw(path, spec("event"))
    whole = write_events(path, [(4, 3, n, 1) for n in range(9999)]).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"x\.h5: cannot be read as events"):
        read_raw(path, spec("event"))


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibration(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "x.h5").touch()
    with pytest.raises(ImportError, match=r"event files \(\.h5\) need h5py.*pip install 'egformer-fast\[events\]'"):
        read_raw(tmp_path / "x.h5", spec("event"))


# Calibration


def test_calibrations_that_are_wrong(tmp_path: Path) -> None:
    path = write_points(tmp_path / "set/lidar/x.bin", [[10, 0, 0, 50]])
    with pytest.raises(DataError, match=rf"{path}: no calib\.json in any folder above it"):
        read_raw(path, spec("lidar"))
    file = calibration(tmp_path / "set")
    assert read_raw(path, spec("lidar")).any()
    content = json.loads(file.read_text())
    for keys, value in ((("extrinsics", "lidar2rgb"), None), (("intrinsics", "rgb"), {"K": [[1, 2], [3, 4]]})):
        broken = json.loads(json.dumps(content))
        broken[keys[0]][keys[1]] = value
        file.write_text(json.dumps(broken))
        with pytest.raises(DataError, match=rf"{file}: {keys[0]}\.{keys[1]}.*: wanted \dx\d numbers; found"):
            read_raw(path, spec("lidar"))
    file.write_text("{")
    with pytest.raises(DataError, match=rf"{file}: not readable as JSON"):
        read_raw(path, spec("lidar"))


# The whole set


@pytest.mark.usefixtures("h5py")
def test_muses_from_its_raw_files(tmp_path: Path) -> None:
    miniature.write(tmp_path)
    (tmp_path / "mine.yaml").write_text(miniature.DESCRIPTION)
    dataset = FolderDataset(tmp_path / "mine.yaml", tmp_path, "train")
    maps = dataset.frame(0).maps
    assert painted(maps["lidar"]) == {(6, 8): [10, 50, 0]}
    assert painted(maps["event"]) == {(6, 8): [1, 0, 0]}
    assert list(painted(maps["radar"])) == [(7, 8)]
    inputs = dataset[0]["inputs"]
    np.testing.assert_allclose(inputs["lidar"][:, 6, 8], [0.1, 50 / 255, 0], rtol=1e-6)
    np.testing.assert_allclose(inputs["event"][:, 6, 8], [0.1, 0, 0], rtol=1e-6)
    assert check_dataset(dataset, progress=False).problems == [
        "split 'train' has 2 frames here, the published one 1500"
    ]
    path_of(tmp_path, "lidar", FRAMES[0], "lidar.bin").unlink()
    with pytest.raises(DataError, match=r"REC0006_frame_042692_lidar\.bin: no such file"):
        dataset[0]


def test_the_picture_has_the_size_of_the_camera() -> None:
    for sensor in ("event", "lidar", "radar"):
        found = load_description("muses_raw").modalities[sensor].project
        assert found is not None
        assert found.size == (1080, 1920)
    assert K.shape == (3, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"project": {"format": "clouds"}}, "modalities.lidar.project.format: unknown value 'clouds'"),
        ({"project": {"size": [1080]}}, "modalities.lidar.project.size: wanted height and width"),
        ({"project": {"distances": [5, 1]}}, "modalities.lidar.project.distances: wanted two distances"),
        ({"project": {"columns": 3}}, "modalities.lidar.project.columns: wanted 4 or more"),
        ({"project": {"window_ms": 0}}, "modalities.lidar.project.window_ms: wanted more than 0"),
        ({"project": {"extrinsics": None}}, "modalities.lidar.project.extrinsics is missing"),
        ({"project": {"calib": "x"}}, "unknown key 'modalities.lidar.project.calib'; did you mean 'calibration'?"),
        ({"select": [0, 1, 2]}, "modalities.lidar.project: wanted 3 channels, and neither `parts` nor `select`"),
    ],
)
def test_mistakes_in_a_description(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "muses_raw", "modalities": {"lidar": changes}}))
    with pytest.raises(DataError) as caught:
        load_description(path)
    assert message in str(caught.value)
