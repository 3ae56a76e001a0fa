"""Labels and depth are exact: closed forms for simple scenes, a ray-marching oracle for every shape."""

from __future__ import annotations

import numpy as np
import pytest

from egformer_fast.data.synthetic.classes import Label
from egformer_fast.data.synthetic.geometry import Camera, Cutout, Scene, Shape, Solid, SolidTable, Street
from egformer_fast.data.synthetic.raycast import GROUND, SKY, SKYLINE_RANGE, View, cast, ground_label, ground_shadow

STREET = Street(
    edges=(-6.0, -3.5, 3.5, 6.0),
    bands=(Label.Terrain, Label.SideWalk, Label.Road, Label.SideWalk, Label.Water),
    lines=((0.0, 0),),
    road_half=3.5,
)


def scene(*solids: Solid, camera: Camera | None = None) -> Scene:
    return Scene(STREET, camera or Camera((0.0, 0.0, 1.5), fov=90.0), list(solids))


def look(made: Scene, height: int = 64, width: int = 96) -> tuple[View, SolidTable]:
    table = SolidTable(made.solids)
    return cast(made, table, height, width), table


def block(centre: tuple[float, float, float], half: tuple[float, float, float], **more: object) -> Solid:
    return Solid(Shape.BLOCK, Label.Cars, 0, centre, half, **more)  # type: ignore[arg-type]


def test_depth_of_the_ground_is_height_times_focal_over_row() -> None:
    view, _ = look(scene())
    rows = np.arange(64) + 0.5 - 32
    expected = 1.5 * 48 / np.where(rows > 0, rows, np.nan)
    across = np.sqrt(1 + ((np.arange(96) + 0.5 - 48) / 48) ** 2)
    ground = view.solid == GROUND
    assert np.array_equal(ground, (rows > 0)[:, None] & (expected[:, None] * across < SKYLINE_RANGE))
    np.testing.assert_allclose(view.depth[ground], np.broadcast_to(expected[:, None], (64, 96))[ground], rtol=1e-5)


def test_labels_of_the_ground_are_the_bands_of_the_street() -> None:
    view, _ = look(scene())
    row = 60
    depth = 1.5 * 48 / (row + 0.5 - 32)
    x = (np.arange(96) + 0.5 - 48) / 48 * depth
    expected = np.select(
        [np.abs(x) < 0.08, np.abs(x) < 3.5, np.abs(x) < 6, x < -6],
        [Label.RoadLine, Label.Road, Label.SideWalk, Label.Terrain],
        Label.Water,
    )
    assert np.array_equal(view.label[row], expected)
    assert len(np.unique(expected)) == 2
    far = view.label[36]
    assert {Label.Terrain, Label.SideWalk, Label.Road, Label.Water} <= set(far.tolist())
    assert (view.label[:31] == Label.Sky).all()
    assert np.isinf(view.depth[view.solid == SKY]).all()


def test_a_crossing_street_cuts_the_sidewalk_and_has_a_zebra() -> None:
    street = Street(STREET.edges, STREET.bands, ((0.0, 1),), 0.0, 3.5, crossing=20.0, crossing_half=3.0)
    x = np.array([5.0, 5.0, 5.0, 0.2, 0.7, 0.0, 0.0, 0.0, -30.0])
    y = np.array([20.0, 24.0, 30.0, 24.5, 24.5, 28.0, 32.0, 20.0, 20.0])
    names = [Label(v).name for v in ground_label(street, x, y)]
    assert names == "Road SideWalk SideWalk RoadLine Road RoadLine Road Road Road".split()


def test_a_bent_street_takes_its_bands_along() -> None:
    street = Street(STREET.edges, STREET.bands, bend=0.01)
    assert ground_label(street, np.array([9.0, 0.0]), np.array([30.0, 30.0])).tolist() == [Label.Road, Label.Terrain]
    x, y, heading = street.place(0.0, 30.0)
    assert (x, y) == (9.0, 30.0)
    assert np.tan(-heading) == pytest.approx(0.6)


def test_a_box_covers_exactly_its_projected_front() -> None:
    view, _ = look(scene(block((0.5, 10.0, 1.0), (1.0, 1.0, 1.0))))
    u, v = (np.arange(96) + 0.5 - 48) / 48, (np.arange(64) + 0.5 - 32)[:, None] / 48
    front = (9 * u > -0.5) & (9 * u < 1.5) & (1.5 - 9 * v > 0) & (1.5 - 9 * v < 2)
    # the camera stands between the planes of its sides and below its top: only the front can be seen
    assert np.array_equal(view.label == Label.Cars, front)
    assert front.sum() == 11 * 11
    np.testing.assert_allclose(view.depth[front], 9.0, rtol=1e-6)


def test_the_nearer_solid_wins_whatever_the_order() -> None:
    near, far = block((0, 8, 1), (0.5, 0.5, 1)), block((0, 16, 2), (3, 0.5, 2))._replace(label=int(Label.Building))
    first, second = look(scene(near, far))[0], look(scene(far, near))[0]
    assert np.array_equal(first.label, second.label)
    assert np.array_equal(first.depth, second.depth)
    assert set(np.unique(first.label)) >= {Label.Cars, Label.Building}


def inside(solid: Solid, point: np.ndarray) -> np.ndarray:
    """Membership of points (..., 3), written from the definition in geometry.py."""
    c, s = np.cos(solid.yaw), np.sin(solid.yaw)
    x, y, z = np.moveaxis(point - np.array(solid.centre), -1, 0)
    q = np.stack([(c * x + s * y), (c * y - s * x), z]) / np.array(solid.half).reshape(3, *[1] * x.ndim)
    if solid.shape == Shape.BALL:
        return (q**2).sum(0) <= 1
    if solid.shape == Shape.DRUM:
        return (q[0] ** 2 + q[1] ** 2 <= 1) & (np.abs(q[2]) <= 1)
    if solid.shape == Shape.WHEEL:
        return (q[1] ** 2 + q[2] ** 2 <= 1) & (np.abs(q[0]) <= 1)
    rise = (q[2] + 1) / 2
    reach = [np.abs(q[k]) + solid.taper[k] * rise <= 1 for k in (0, 1)]
    return reach[0] & reach[1] & (np.abs(q[2]) <= 1)


@pytest.mark.parametrize(
    ("shape", "taper"),
    [(shape, (0.0, 0.0)) for shape in Shape] + [(Shape.BLOCK, (1.0, 0.0)), (Shape.BLOCK, (0.3, -0.2))],
)
@pytest.mark.parametrize("seed", range(4))
def test_every_shape_agrees_with_marching_along_the_ray(shape: Shape, taper: tuple[float, float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    centre = (rng.uniform(-2, 2), rng.uniform(7, 10), rng.uniform(1.5, 4))
    half = tuple(rng.uniform(0.6, 2.0, 3).tolist())
    solid = Solid(shape, Label.Cars, 0, centre, half, rng.uniform(0, 6), taper)
    camera = Camera((0.3, 0.0, 1.7), rng.uniform(-0.1, 0.1), rng.uniform(0.0, 0.2), 50.0)
    view, _ = look(scene(solid, camera=camera), 32, 32)
    step = 0.02
    t = np.arange(0.2, 18, step)
    points = np.array(camera.position) + view.rays.transpose(1, 2, 0)[:, :, None] * t[:, None]
    member = inside(solid, points) & (points[..., 2] > 0)
    hit = view.solid == 0
    assert hit.sum() > 20
    first = t[member.argmax(-1)]
    both = hit & member.any(-1)
    assert np.abs(first - view.depth)[both].max() < step + 1e-4
    assert not (member.any(-1) & ~hit).any()
    # marching may step over a grazed edge, but only there
    assert (hit & ~both).sum() <= 0.03 * hit.sum() + 2


def test_a_wall_beside_the_camera_is_seen_although_it_reaches_behind_it() -> None:
    view, _ = look(scene(block((4.0, 10.0, 2.0), (0.5, 30.0, 2.0))))
    u = (np.arange(96) + 0.5 - 48) / 48
    row = 31
    assert np.array_equal(view.label[row] == Label.Cars, (u > 0) & (3.5 / np.where(u > 0, u, 1) < 40))
    np.testing.assert_allclose(view.depth[row][u > 0.2], 3.5 / u[u > 0.2], rtol=1e-5)


def test_pickets_let_the_background_through() -> None:
    fence = Solid(Shape.BLOCK, Label.Fence, 0, (0, 5, 1), (3, 0.02, 1), cutout=Cutout.PICKET)
    view, _ = look(scene(fence), 64, 192)
    row = view.label[41, 70:122]
    along = ((np.arange(70, 122) + 0.5 - 96) / 96 * 4.98) % 0.3
    assert np.array_equal(row == Label.Fence, along < 0.2)
    assert (row != Label.Fence).any()


@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_shadow_on_the_ground_is_the_box_slid_along_the_light(tilt: float) -> None:
    made = scene(block((0.0, 10.0, 3.0), (1.0, 1.0, 0.5)), camera=Camera((0, 0, 2.0), 0.0, -0.2, 90.0))
    view, table = look(made, 192, 192)
    sun = np.array([tilt, 0, 1], np.float32) / np.float32(np.hypot(tilt, 1))
    shade = ground_shadow(made, table, view, sun)
    x, y, _ = view.points
    low, high = x + 2.5 * tilt, x + 3.5 * tilt
    expected = (
        (view.solid == GROUND) & (np.abs(y - 10) < 1) & (np.minimum(low, high) < 1) & (np.maximum(low, high) > -1)
    )
    assert np.array_equal(shade, expected)
    assert shade.sum() > 60
