"""Raw recordings of other sensors, projected into a camera's picture: LiDAR points, radar sweeps, events.

One file a format: points.py, radar.py, events.py; camera.py has the calibration and the projection that they share.
"""

from .projection import Projection, read_projection, read_raw

__all__ = ["Projection", "read_projection", "read_raw"]
