"""The light on the ground: the sky's and our headlights', the pools under street lamps, less the actors' shadows."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sample.backdrop import COARSE, FAR
from sample.camera import NEAR, Camera, Floats
from sample.canvas import Canvas, fill, fixed_point, hull, place
from sample.light import Light, headlight
from sample.shapes import CIRCLE
from sample.street import Actor

Map = NDArray[np.float32]
_CONTACT, _CAST = 0.62, 0.42  # shares of the light that are lost under an actor, and where it keeps the sun off
_CAST_HEIGHT = 1.3  # metres: one height for all is enough for a soft shadow


def light_ground(canvas: Canvas, camera: Camera, light: Light, actors: Sequence[Actor], seconds: float) -> None:
    """Light the painted ground, then lay haze over it."""
    # Coarse maps [height/4, width/4]: the share of light that actors keep off the ground, and the light of lamps.
    shade = np.zeros((camera.height // COARSE, camera.width // COARSE), np.float32)
    pools = np.zeros_like(shade)
    lean = np.array(light.sun_direction)
    reach = np.array([lean[0], 0.0, lean[2]]) / lean[1] * _CAST_HEIGHT
    for actor in actors:
        x, z = actor.at(seconds)
        for lamp in actor.build(seconds).lamps if light.night and not actor.kinds else ():
            for radius, gain in ((5.5, 0.10), (3.0, 0.22)):
                ring = [x + lamp.at[0] + radius * CIRCLE[:, 0], np.zeros(len(CIRCLE)), z + radius * 1.3 * CIRCLE[:, 1]]
                _fill(pools, camera, np.stack(ring, axis=1), gain)
        w, l_ = actor.half[0] + 0.12, actor.half[1] + 0.12
        floor = np.array([(sx * w, 0.0, sz * l_) for sx in (-1, 1) for sz in (-1, 1)])
        corners = place(floor, (x, 0.0, z), actor.heading)
        if light.sun > 0.2:
            _fill(shade, camera, np.vstack([corners, corners - reach]), _CAST)
        if actor.half[0] > 0.25:
            _fill(shade, camera, corners, _CONTACT)

    height, width = canvas.owners.shape
    horizon = int(np.clip(camera.centre[1] + 1, 0, height - 1))
    first = horizon // COARSE
    shade = np.asarray(cv2.GaussianBlur(shade, (0, 0), 1.1), np.float32)[first:]
    pools = np.asarray(cv2.GaussianBlur(pools, (0, 0), 5.0), np.float32)[first:]
    rows = np.arange(shade.shape[0], dtype=np.float32)[:, None] * COARSE + np.float32(
        first * COARSE + COARSE / 2 - camera.centre[1]
    )
    columns = np.arange(shade.shape[1], dtype=np.float32)[None] * COARSE + np.float32(COARSE / 2 - camera.centre[0])
    depth = np.float32(camera.focal * camera.eye) / np.maximum(rows, np.float32(0.5))
    beam = headlight(light, columns * depth / np.float32(camera.focal), depth)
    level = (light.ambient + light.sun * 0.62 + beam * 0.75 + pools) * (1 - shade)
    veil = 1.0 - np.exp(-light.haze * np.minimum(depth, FAR))
    if light.wet:  # a wet road mirrors the sky, the more the flatter one looks at it
        veil = np.maximum(veil, 0.34 * depth / (depth + 14) * np.ones_like(level))
    gain = (level * (1 - veil))[:, :, None] * np.array(light.tint, np.float32)
    lift = np.broadcast_to(veil[:, :, None] * np.array(light.horizon, np.float32), gain.shape)
    size, skip = (width, height - first * COARSE), horizon - first * COARSE
    gains = cv2.resize(gain.astype(np.float32), size)[skip:]
    lifts = cv2.resize(lift.astype(np.uint8), size)[skip:]
    canvas.image[horizon:] = cv2.add(cv2.multiply(canvas.image[horizon:], gains, dtype=cv2.CV_8U), lifts)


def _fill(target: Map, camera: Camera, points: Floats, value: float) -> None:
    """Fill the hull of points on the ground [N,3] on a coarse map."""
    seen = camera.view(points)
    if (seen[:, 2] < NEAR).all():
        return
    seen[:, 2] = np.maximum(seen[:, 2], NEAR)
    fill(target, hull(fixed_point(camera.project(seen) / COARSE)), (value,), soft=False)
