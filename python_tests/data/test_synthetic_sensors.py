"""What each weather and each failure does to each sensor, as the docstring of weather.py says."""

from __future__ import annotations

import numpy as np
import pytest

from egformer_fast.data.synthetic import CLASSES, FAILURES, PALETTE, WEATHERS, Case, Frame, case_of, draw_frame, sensors
from egformer_fast.data.synthetic.classes import Label
from egformer_fast.data.synthetic.frame import SPLITS
from egformer_fast.data.synthetic.geometry import Camera, Scene, Shape, Solid, SolidTable, Street
from egformer_fast.data.synthetic.raycast import View, cast
from egformer_fast.data.synthetic.street import draw_scene

SIZE = (96, 128)
INDEX = 31  # a street with an open view: near and far ground, sky, cars, trees
PICTURES = ("rgb", "depth", "event", "lidar", "label")


def frame(weather: str, failure: str = "", number: int = 1) -> Frame:
    return draw_frame(0, "train", INDEX, SIZE, Case(weather, failure, number, 0))


def exact(number: int = 1) -> View:
    """The geometry behind frame(): depth and rays without any sensor."""
    scene = draw_scene(np.random.default_rng((0, SPLITS.index("train"), INDEX)), number)
    return cast(scene, SolidTable(scene.solids), *SIZE)


@pytest.fixture(scope="module")
def frames() -> dict[str, Frame]:
    return {name: frame(name) for name in WEATHERS}


def test_names_and_colours_are_one_for_each_class() -> None:
    assert len(CLASSES) == len(PALETTE) == len(set(PALETTE)) == 25
    assert CLASSES[0] == "Building" and CLASSES[16] == "GroundRail" and CLASSES[24] == "Truck"


def test_the_code_of_metres_errs_by_half_a_step_at_most() -> None:
    metres = np.linspace(0.1, 100, 5000)
    code = sensors.encode_metres(metres)
    assert code.min() >= 1 and (np.diff(code.astype(int)) >= 0).all()
    wrong = np.abs(np.sqrt(sensors.decode_metres(code)) - np.sqrt(metres))
    assert wrong.max() <= 0.5 * 10 / 255 + 1e-5
    assert sensors.encode_metres(np.array([100.1, np.inf])).tolist() == [0, 0]
    assert np.isnan(sensors.decode_metres(np.array([0], np.uint8))[0])


def test_clear_air_gives_the_exact_depth_and_label(frames: dict[str, Frame]) -> None:
    view = exact()
    for name in ("sun", "cloud", "night"):
        assert np.array_equal(frames[name].depth[..., 0], sensors.encode_metres(view.depth))
        assert np.array_equal(frames[name].depth[..., 0], frames[name].depth[..., 2])
    assert all(np.array_equal(found.label, view.label) for found in frames.values())


def test_lidar_points_lie_on_scan_lines_and_hold_the_exact_distance(frames: dict[str, Frame]) -> None:
    view, picture = exact(), frames["sun"].lidar
    hit = picture[..., 0] > 0
    distance = view.depth * np.sqrt((view.rays**2).sum(0))
    assert np.array_equal(picture[..., 0][hit], sensors.encode_metres(distance)[hit])
    assert (picture[~hit] == 0).all()
    assert np.array_equal(picture[..., 2][hit], np.clip(20 + 20 * view.points[2], 1, 255)[hit].astype(np.uint8))
    assert 0.03 < hit.mean() < 0.5
    assert not hit[view.label == Label.Sky].any()


def test_sun_has_a_blue_sky_and_cloud_a_grey_one(frames: dict[str, Frame]) -> None:
    sky = exact().label == Label.Sky
    red, _, blue = frames["sun"].rgb[sky].mean(0)
    assert blue - red > 40
    red, _, blue = frames["cloud"].rgb[sky].mean(0)
    assert abs(blue - red) < 15


def test_sun_casts_shadows_on_the_road(frames: dict[str, Frame]) -> None:
    road = exact().label == Label.Road
    spread = {name: frames[name].rgb[road].mean(1).std() for name in ("sun", "cloud")}
    assert spread["sun"] > 1.5 * spread["cloud"]


def test_fog_washes_out_what_is_far_and_shortens_depth_and_lidar(frames: dict[str, Frame]) -> None:
    depth = exact().depth
    far, near = np.isfinite(depth) & (depth > 45), depth < 6

    def contrast(name: str, where: np.ndarray) -> float:
        return float(frames[name].rgb[where].std())

    assert contrast("fog", far) < 0.4 * contrast("sun", far)
    assert contrast("fog", near) > 1.5 * contrast("fog", far)
    seen = sensors.decode_metres(frames["fog"].depth[..., 0])
    assert np.nanmax(seen) < 41 and np.nanmax(sensors.decode_metres(frames["sun"].depth[..., 0])) > 90
    assert np.nanmax(sensors.decode_metres(frames["fog"].lidar[..., 0])) < 30.5
    assert np.isnan(seen[far & (depth > 50)]).all()


def test_fog_makes_lidar_echo_close_by(frames: dict[str, Frame]) -> None:
    view = exact()
    code = frames["fog"].lidar[..., 0]
    true = sensors.encode_metres(view.depth * np.sqrt((view.rays**2).sum(0)))
    false = (code > 0) & (code != true)
    assert 0.02 < false.sum() / (code > 0).sum() < 0.3
    assert sensors.decode_metres(code[false]).max() < 9.5


def test_night_is_dark_for_the_camera_alone(frames: dict[str, Frame]) -> None:
    day, night = frames["sun"], frames["night"]
    assert night.rgb.mean() < 0.4 * day.rgb.mean()
    assert np.array_equal(night.lidar, day.lidar)
    assert np.array_equal(night.depth, day.depth)
    fired = [(found.event.max(-1) > 0).mean() for found in (day, night)]
    assert fired[1] > 0.5 * fired[0] > 0.005


def test_headlights_light_the_road_ahead(frames: dict[str, Frame]) -> None:
    view = exact()
    road = view.label == Label.Road
    light = frames["night"].rgb.mean(-1)
    assert light[road & (view.depth < 10)].mean() > 1.5 * light[road & (view.depth > 40)].mean()


def test_rain_streaks_the_picture_and_costs_points_and_depth(frames: dict[str, Frame]) -> None:
    depth = exact().depth
    sky = np.isinf(depth)

    def roughness(name: str) -> float:
        light = frames[name].rgb.mean(-1)
        return float(np.abs(np.diff(light, axis=1))[sky[:, 1:] & sky[:, :-1]].mean())

    assert roughness("rain") > 1.8 * roughness("cloud")
    near = depth < 50
    points = [(frames[name].lidar[near].max(-1) > 0).sum() for name in ("rain", "sun")]
    assert 0.6 < points[0] / points[1] < 0.8
    holes = (frames["rain"].depth[..., 0][near] == 0).mean()
    assert 0.05 < holes < 0.11
    fired = [(frames[name].event[sky].max(-1) > 0).mean() for name in ("rain", "cloud")]
    assert fired[0] > 2.5 * fired[1]


SENSOR_OF = dict(zip(FAILURES, ("rgb", "rgb", "rgb", "lidar", "event"), strict=True))


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("weather", ["sun", "rain"])
def test_a_failure_touches_its_sensor_alone(frames: dict[str, Frame], failure: str, weather: str) -> None:
    broken, whole = frame(weather, failure), frames[weather]
    differing = {name for name in PICTURES if not np.array_equal(getattr(broken, name), getattr(whole, name))}
    assert differing == {SENSOR_OF[failure]}


def test_what_each_failure_does(frames: dict[str, Frame]) -> None:
    whole = frames["sun"]
    assert (frame("sun", "overexposure").rgb > 240).mean() > 2 * (whole.rgb > 240).mean() + 0.2
    assert frame("sun", "underexposure").rgb.mean() < 0.35 * whole.rgb.mean()

    def edges(picture: np.ndarray) -> float:
        return float(np.abs(np.diff(picture.mean(-1), axis=1)).mean())

    assert edges(frame("sun", "motionblur").rgb) < 0.6 * edges(whole.rgb)
    coarse = frame("sun", "eventlowres").event
    blocks = coarse.reshape(SIZE[0] // 4, 4, SIZE[1] // 4, 4, 3)
    assert (blocks == blocks[:, :1, :, :1]).all() and coarse.any()
    view, points = exact(), frame("sun", "lidarjitter").lidar[..., 0]
    true = sensors.encode_metres(view.depth * np.sqrt((view.rays**2).sum(0)))
    assert (points[points > 0] != true[points > 0]).mean() > 0.5


def still_scene(speed: float = 0.0, velocity: tuple[float, float] = (0.0, 0.0)) -> tuple[Scene, SolidTable, View]:
    street = Street((-50.0, 50.0), (Label.Road,) * 3, road_half=50.0)
    solid = Solid(Shape.BLOCK, Label.Cars, 0, (0, 10, 1), (2, 1, 1), velocity=velocity)
    made = Scene(street, Camera((0, 0, 1.5), fov=90.0), [solid], speed=speed)
    table = SolidTable(made.solids)
    return made, table, cast(made, table, 64, 128)


def events_of(made: Scene, table: SolidTable, view: View) -> np.ndarray:
    """Signed event counts of a white box on black."""
    white = np.where(view.solid == 0, 1.0, 0.02).astype(np.float32)[..., None].repeat(3, -1)
    picture = sensors.event(made, table, view, white, WEATHERS["sun"], "", np.random.default_rng(0)).astype(int)
    assert (picture[..., 2] == 0).all()
    return picture[..., 0] - picture[..., 1]


def test_no_motion_no_events_but_noise() -> None:
    assert (events_of(*still_scene()) != 0).mean() < 0.01


def test_a_bright_box_moving_right_brightens_its_leading_edge_and_darkens_behind() -> None:
    made, table, view = still_scene(velocity=(20.0, 0.0))
    counts = events_of(made, table, view)
    columns = np.flatnonzero((view.solid == 0).any(0))
    rows = np.flatnonzero((view.solid == 0).any(1))[1:-3]
    assert (counts[rows, columns[-1]] > 1).all()
    assert (counts[rows, columns[0] - 1] < -1).all()
    middle = counts[rows][:, columns[4:-4]]
    assert (middle != 0).mean() < 0.02


def test_driving_towards_a_bright_box_brightens_all_around_it() -> None:
    made, table, view = still_scene(speed=60.0)
    counts = events_of(made, table, view)
    columns = np.flatnonzero((view.solid == 0).any(0))
    rows = np.flatnonzero((view.solid == 0).any(1))[2:-2]
    assert (counts[rows, columns[0]] > 0).all() and (counts[rows, columns[-1]] > 0).all()


def test_every_class_is_drawn_and_no_other_value() -> None:
    seen = np.zeros(256, int)
    for index in range(75):
        scene = draw_scene(np.random.default_rng((0, 0, index)), case_of(index).map)
        seen += np.bincount(cast(scene, SolidTable(scene.solids), 48, 64).label.ravel(), minlength=256)
    assert (seen[:25] > 0).all(), [CLASSES[k] for k in np.flatnonzero(seen[:25] == 0)]
    assert seen[25:].sum() == 0
