"""Sky and ground: everything that is painted before the first house."""

from functools import cache
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from sample.camera import Camera, Floats
from sample.canvas import Canvas, fixed_point
from sample.light import Light
from sample.shapes import Colour
from sample.street import LANE, Street

COARSE = 4
"""Skies, shadows and pools of light are soft: they are computed at a quarter of the canvas."""
_ASPHALT: Colour = (112, 110, 108)
_GUTTER: Colour = (94, 93, 92)
_PAVEMENT: Colour = (158, 161, 164)
_KERB: Colour = (190, 190, 188)
_GRASS: Colour = (62, 112, 88)
_COURT: Colour = (126, 128, 130)
_PAINT: Colour = (222, 224, 224)
_YELLOW: Colour = (70, 180, 225)
FAR = 400.0
"""Where ground and haze end, in metres."""
_STEPS = 10  # points along each edge of a stripe: enough for the bends
Stripe = tuple[float, float, float, float, Colour]
"""A patch of ground: left and right x, nearest and farthest distance ahead (metres), colour."""


@cache
def noise(*, soft: bool = False, size: int = 512) -> NDArray[np.uint8]:
    """A seamless cloud of several octaves around 128, or `soft` without grain over 0–255; the same in every process."""
    rng = np.random.default_rng(20200706)
    total = np.zeros((size, size), np.float32)
    for octave, weight in ((4, 0.3), (16, 0.35), (64, 0.5), (128, 0.6), (size, 0.75)):
        grain = np.pad(rng.standard_normal((octave, octave)).astype(np.float32), 1, mode="wrap")
        step = size // octave
        wide = cv2.resize(grain, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += weight * wide[step : step + size, step : step + size]
    cloud = np.asarray(np.clip(128 + total * 30, 0, 255), np.uint8)
    if soft:
        blurred = cv2.GaussianBlur(cloud, (0, 0), 5).astype(np.float32)
        cloud = np.asarray(255 * (blurred - blurred.min()) / (blurred.max() - blurred.min()), np.uint8)
    return cloud


def paint_sky(canvas: Canvas, camera: Camera, light: Light, skyline: Floats) -> None:
    """A gradient with clouds, then the far roofs of `skyline`: steps [N,2] of bearing (x/z) and height in metres."""
    height, width = canvas.owners.shape
    horizon = int(np.clip(camera.centre[1], COARSE, height))
    rows, columns = horizon // COARSE + 1, width // COARSE + 1
    share = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None] ** 1.4
    zenith, haze = np.array(light.zenith, np.float32), np.array(light.horizon, np.float32)
    sky = np.broadcast_to(zenith + (haze - zenith) * share, (rows, columns, 3))

    if not light.night:  # soft clouds, flatter towards the horizon; they drift a little as we drive
        depth = 1.0 / (1.02 - np.linspace(0, 1, rows, dtype=np.float32)[:, None])
        across = (np.linspace(-0.5, 0.5, columns, dtype=np.float32)[None]) * depth
        drift = np.float32(camera.z * 0.05 + light.sun_direction[0] * 400)
        map_y = np.broadcast_to(depth * 60 + drift, across.shape).astype(np.float32)
        tile = noise(soft=True)
        cloud = cv2.remap(tile, across * 130 + drift, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        threshold = {"clear": 150.0, "partly cloudy": 122.0}.get(light.weather, 100.0)
        alpha = np.clip((cloud.astype(np.float32) - threshold) / 60, 0, 0.85)[:, :, None]
        colour = np.minimum(250, haze * (1.06 if light.sun > 0.2 else 0.93))
        sky = np.asarray(sky + (colour - sky) * alpha, np.float32)
    canvas.image[:horizon] = cv2.resize(sky.astype(np.uint8), (width, horizon), interpolation=cv2.INTER_LINEAR)

    x = camera.centre[0] + camera.focal * skyline[:, 0]
    y = camera.centre[1] - camera.focal * skyline[:, 1] / FAR
    roofs = np.stack([np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]], axis=1)
    floor = np.array([[x[-1], horizon + 3.0], [x[0], horizon + 3.0]])
    canvas.fill(fixed_point(np.vstack([roofs, floor])), (haze * (0.55 if light.night else 0.72)).tolist(), None)


def paint_ground(canvas: Canvas, camera: Camera, street: Street) -> None:
    """Grass or courtyards, pavements, asphalt, kerbs and markings, then grain. Light comes later."""
    road = street.road
    horizon = int(np.clip(camera.centre[1] + 1, 0, canvas.owners.shape[0]))
    canvas.image[horizon:] = np.array(_COURT if road.scene == "city street" else _GRASS, np.uint8)

    # All patches of ground in painting order.
    stripes: list[Stripe] = []
    if road.scene != "highway":
        stripes.append((road.left - road.pavement, road.right + road.pavement, 0.0, FAR, _PAVEMENT))
    stripes.append((road.left - 0.22, road.right + 0.22, 0.0, FAR, _KERB))
    stripes.append((road.left, road.right, 0.0, FAR, _GUTTER))
    stripes.append((road.left + 0.3, road.right - 0.3, 0.0, FAR, _ASPHALT))
    spans = [(0.0, FAR)]
    if road.crossing is not None:
        cross = road.crossing - camera.z
        stripes.append((-90.0, 90.0, cross - 5.5, cross + 5.5, _ASPHALT))
        for low in (cross - 6.2, cross + 4.0):  # zebra stripes on either side of the crossing road
            zebra = np.arange(road.left + 0.5, road.right - 0.6, 1.1).tolist()
            stripes += [(x, x + 0.55, low, low + 2.2, _PAINT) for x in zebra]
        stripes.append((-LANE / 2, road.right - 0.3, cross - 7.6, cross - 7.2, _PAINT))  # our stop line
        spans = [(0.0, cross - 7.2), (max(0.0, cross + 7.0), FAR)]
    for (x, style), (low, high) in product(road.dividers, spans):
        if style == "dashed":
            first = float(np.floor((camera.z + low) / 10.0)) * 10.0 - camera.z
            for start in np.arange(first, min(high, 110.0), 10.0).tolist():
                stripes.append((x - 0.07, x + 0.07, max(low, start), min(start + 4.0, high), _PAINT))
        elif style == "double":
            stripes += [(x - 0.22, x - 0.10, low, high, _YELLOW), (x + 0.10, x + 0.22, low, high, _YELLOW)]
        else:
            stripes.append((x - 0.06, x + 0.06, low, high, _PAINT))
    if road.rails is not None:
        for x in (road.rails - 0.72, road.rails + 0.72):
            stripes.append((x - 0.12, x + 0.12, 0.0, FAR, (80, 80, 82)))
            stripes.append((x - 0.04, x + 0.04, 0.0, FAR, (160, 162, 165)))

    near = camera.nearest_ground() * 0.9
    stripes = [(x1, x2, max(z1, near), z2, colour) for x1, x2, z1, z2, colour in stripes if z2 > max(z1, near)]
    left, right, low, high = np.array([stripe[:4] for stripe in stripes]).T[:, :, None]
    depth = low * (high / low) ** np.linspace(0, 1, _STEPS)
    edges = np.stack([np.broadcast_to(left, depth.shape), np.broadcast_to(right, depth.shape)[:, ::-1]], axis=1)
    along = np.stack([depth, depth[:, ::-1]], axis=1)
    world = np.stack([edges, np.zeros_like(edges), along + camera.z], axis=-1)
    outlines = fixed_point(camera.pixels(world.reshape(-1, 3))).reshape(len(stripes), 2 * _STEPS, 2)
    for outline, stripe in zip(outlines, stripes, strict=True):
        canvas.fill(outline, stripe[4], None)

    # Rub the noise into the ground, anchored to the world so that it streams by.
    ground = canvas.image[horizon:]
    height, width = ground.shape[0] // 2 + 1, ground.shape[1] // 2
    rows = np.arange(height, dtype=np.float32)[:, None] * 2 + np.float32(horizon + 1 - camera.centre[1])
    ahead = np.float32(camera.focal * camera.eye) / np.maximum(rows, np.float32(0.5))
    columns = np.arange(width, dtype=np.float32)[None] * 2 + np.float32(1 - camera.centre[0])
    shift = np.float32(camera.x * 26) - np.float32(camera.bend * 26) * ahead * ahead
    map_x = columns * (ahead * np.float32(26 / camera.focal)) + shift
    map_y = np.broadcast_to((ahead + np.float32(camera.z % 4096)) * 13, map_x.shape).astype(np.float32)
    grain = cv2.remap(noise(), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    fade = np.clip(14.0 / ahead, 0.0, 1.0) * np.float32(0.28)
    relief = ((grain.astype(np.float32) - 128) * fade + 64).astype(np.uint8)
    full = cv2.resize(relief, (width * 2, height * 2))[: ground.shape[0], : ground.shape[1]]
    rubbed = ground[:, : full.shape[1]]
    cv2.addWeighted(rubbed, 1.0, cv2.cvtColor(full, cv2.COLOR_GRAY2BGR), 1.0, -64.0, dst=rubbed)
