"""The 25 classes of DELIVER in its order, with the colours that its label pictures are shown in.

A label file stores class + 1; 0 and 255 are void (Zhang et al., "Delivering Arbitrary-Modal Semantic Segmentation",
CVPR 2023; the names and colours are CARLA's, `GroundRail` is CARLA's guard rail).
"""

from __future__ import annotations

from enum import IntEnum

VOID = 255


class Label(IntEnum):
    """Index of a class; the names are DELIVER's."""

    Building = 0
    Fence = 1
    Other = 2
    Pedestrian = 3
    Pole = 4
    RoadLine = 5
    Road = 6
    SideWalk = 7
    Vegetation = 8
    Cars = 9
    Wall = 10
    TrafficSign = 11
    Sky = 12
    Ground = 13
    Bridge = 14
    RailTrack = 15
    GroundRail = 16
    TrafficLight = 17
    Static = 18
    Dynamic = 19
    Water = 20
    Terrain = 21
    TwoWheeler = 22
    Bus = 23
    Truck = 24


CLASSES: tuple[str, ...] = tuple(label.name for label in Label)

PALETTE: tuple[tuple[int, int, int], ...] = (
    (70, 70, 70),
    (100, 40, 40),
    (55, 90, 80),
    (220, 20, 60),
    (153, 153, 153),
    (157, 234, 50),
    (128, 64, 128),
    (244, 35, 232),
    (107, 142, 35),
    (0, 0, 142),
    (102, 102, 156),
    (220, 220, 0),
    (70, 130, 180),
    (81, 0, 81),
    (150, 100, 100),
    (230, 150, 140),
    (180, 165, 180),
    (250, 170, 30),
    (110, 190, 160),
    (170, 120, 50),
    (45, 60, 150),
    (145, 170, 100),
    (0, 0, 230),
    (0, 60, 100),
    (0, 0, 70),
)
