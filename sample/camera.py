"""A dashcam: from metres in the world to pixels of the image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NEAR = 0.6
"""Nothing closer than this (metres along the road) is drawn; polygons are cut there."""
_LIMIT = 6000.0  # pixels: keeps cv2's fixed-point coordinates far from overflow


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera looking along +z (the road). World: x right, y up, z forward, metres, y = 0 on the road.

    Yaw, pitch and shake are small, so they shift the principal point (`centre`) instead of rotating the world.
    `bend` curves the road: a point `d` metres ahead moves sideways by bend·d².
    """

    width: int
    height: int
    focal: float
    centre: tuple[float, float]
    x: float = 0.0
    eye: float = 1.4
    z: float = 0.0
    bend: float = 0.0

    def view(self, world: Floats) -> Floats:
        """World points [N,3] -> [N,3] relative to the camera: x right, y up, depth ahead."""
        seen = world - (self.x, self.eye, self.z)
        seen[:, 0] += self.bend * seen[:, 2] * np.abs(seen[:, 2])
        return seen

    def project(self, seen: Floats) -> Floats:
        """Points from `view` with a positive depth [N,3] -> continuous pixel coordinates [N,2]."""
        scale = self.focal / seen[:, 2:]
        pixels = seen[:, :2] * scale * (1.0, -1.0) + self.centre
        return np.clip(pixels, -_LIMIT, _LIMIT)

    def pixels(self, world: Floats) -> Floats:
        """World points [N,3] in front of the camera -> pixels [N,2]."""
        return self.project(self.view(world))

    def nearest_ground(self) -> float:
        """How far ahead the road leaves the image at its lower edge, in metres."""
        return max(NEAR, self.focal * self.eye / max(1.0, self.height - self.centre[1]))
