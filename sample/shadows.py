"""What actors do to the light on the ground: shadows, and the pools under street lamps."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sample.backdrop import COARSE
from sample.camera import NEAR, Camera, Floats
from sample.canvas import fill, fixed_point, hull, place
from sample.light import Light
from sample.shapes import CIRCLE
from sample.street import Actor

Map = NDArray[np.float32]
_CONTACT, _CAST = 0.62, 0.42  # shares of the light that are lost under an actor, and where it keeps the sun off
_CAST_HEIGHT = 1.3  # metres: one height for all is enough for a soft shadow


def ground_maps(camera: Camera, light: Light, actors: Sequence[Actor], seconds: float) -> tuple[Map, Map]:
    """Coarse maps [height/4, width/4]: the share of light that actors keep off the ground, and the light of lamps."""
    shape = (camera.height // COARSE, camera.width // COARSE)
    shade, pools = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    lean = np.array(light.sun_direction)
    reach = np.array([lean[0], 0.0, lean[2]]) / lean[1] * _CAST_HEIGHT
    for actor in actors:
        x, z = actor.at(seconds)
        if light.night and not actor.kinds:
            for lamp in actor.build(seconds).lamps:
                _pool(pools, camera, x + lamp.at[0], z)
        w, l_ = actor.half[0] + 0.12, actor.half[1] + 0.12
        corners = place(
            np.array([(sx * w, 0.0, sz * l_) for sx in (-1, 1) for sz in (-1, 1)]), (x, 0.0, z), actor.heading
        )
        if light.sun > 0.2:
            _fill(shade, camera, np.vstack([corners, corners - reach]), _CAST)
        if actor.half[0] > 0.25:
            _fill(shade, camera, corners, _CONTACT)
    return _soft(shade, 1.1), _soft(pools, 5.0)


def _soft(ground: Map, sigma: float) -> Map:
    return np.asarray(cv2.GaussianBlur(ground, (0, 0), sigma), np.float32)


def _pool(pools: Map, camera: Camera, x: float, z: float) -> None:
    for radius, gain in ((5.5, 0.10), (3.0, 0.22)):
        ring = [x + radius * CIRCLE[:, 0], np.zeros(len(CIRCLE)), z + radius * 1.3 * CIRCLE[:, 1]]
        _fill(pools, camera, np.stack(ring, axis=1), gain)


def _fill(target: Map, camera: Camera, points: Floats, value: float) -> None:
    """Fill the hull of points on the ground [N,3] on a coarse map."""
    seen = camera.view(points)
    if (seen[:, 2] < NEAR).all():
        return
    seen[:, 2] = np.maximum(seen[:, 2], NEAR)
    fill(target, hull(fixed_point(camera.project(seen) / COARSE)), (value,), soft=False)
