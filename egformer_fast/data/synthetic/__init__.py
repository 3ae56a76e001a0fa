"""Drawn street scenes with exact labels, by ray casting in numpy: a stand-in for DELIVER that needs no download.

frame = draw_frame(seed=0, split="train", index=3, size=(256, 256))     # rgb, depth, event, lidar, label
other = draw_frame(seed=0, split="train", index=3, domain=AWAY)         # another place, the same classes
make_data(Path("drawn"), frames=100)                                    # DELIVER's folders and a dataset.yaml
"""

from .classes import CLASSES, PALETTE
from .command import make_data
from .domain import AWAY, DOMAINS, HOME, Domain, find_domain
from .frame import Case, Frame, case_of, draw_frame
from .weather import FAILURES, WEATHERS

__all__ = [
    "AWAY",
    "CLASSES",
    "DOMAINS",
    "FAILURES",
    "HOME",
    "PALETTE",
    "WEATHERS",
    "Case",
    "Domain",
    "Frame",
    "case_of",
    "draw_frame",
    "find_domain",
    "make_data",
]
