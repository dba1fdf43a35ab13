"""Sky and ground: everything that is painted before the first house."""

from collections.abc import Iterator
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sample.camera import Camera, Floats
from sample.canvas import Canvas, Fixed, fixed_point
from sample.light import Light, headlight
from sample.shapes import Colour
from sample.street import LANE, Road, Street

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
_FAR = 400.0
_STEPS = 10  # points along each edge of a stripe: enough for the bends
Stripe = tuple[float, float, float, float, Colour]
"""A patch of ground: left and right x, nearest and farthest distance ahead (metres), colour."""


@cache
def noise(size: int = 512) -> NDArray[np.uint8]:
    """A seamless cloud of several octaves around 128, the same in every process."""
    rng = np.random.default_rng(20200706)
    total = np.zeros((size, size), np.float32)
    for octave, weight in ((4, 0.3), (16, 0.35), (64, 0.5), (128, 0.6), (size, 0.75)):
        grain = np.pad(rng.standard_normal((octave, octave)).astype(np.float32), 1, mode="wrap")
        step = size // octave
        wide = cv2.resize(grain, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += weight * wide[step : step + size, step : step + size]
    return np.asarray(np.clip(128 + total * 30, 0, 255), np.uint8)


@cache
def _cloud_tile() -> NDArray[np.uint8]:
    soft = cv2.GaussianBlur(noise(), (0, 0), 5).astype(np.float32)
    return np.asarray(255 * (soft - soft.min()) / (soft.max() - soft.min()), np.uint8)


def draw_skyline(rng: np.random.Generator, scene: str) -> Floats:
    """Far roofs as steps [36,2]: bearing (x/z) and height in metres, seen 400 m away."""
    tall = {"city street": 55.0, "residential": 14.0, "highway": 22.0}[scene]
    bearing = np.concatenate([[-2.0], np.sort(rng.uniform(-1.2, 1.2, 34)), [2.0]])
    return np.stack([bearing, rng.gamma(2.0, tall / 2.0, 36)], axis=1)


def paint_sky(canvas: Canvas, camera: Camera, light: Light, skyline: Floats) -> None:
    """A gradient with clouds, then the far roofs of `skyline`."""
    height, width = canvas.owners.shape
    horizon = int(np.clip(camera.centre[1], COARSE, height))
    rows, columns = horizon // COARSE + 1, width // COARSE + 1
    share = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None] ** 1.4
    zenith, haze = np.array(light.zenith, np.float32), np.array(light.horizon, np.float32)
    sky = np.broadcast_to(zenith + (haze - zenith) * share, (rows, columns, 3))
    if not light.night:
        sky = _with_clouds(sky, camera, light)
    canvas.image[:horizon] = cv2.resize(sky.astype(np.uint8), (width, horizon), interpolation=cv2.INTER_LINEAR)
    x = camera.centre[0] + camera.focal * skyline[:, 0]
    y = camera.centre[1] - camera.focal * skyline[:, 1] / _FAR
    roofs = np.stack([np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]], axis=1)
    floor = np.array([[x[-1], horizon + 3.0], [x[0], horizon + 3.0]])
    canvas.fill(fixed_point(np.vstack([roofs, floor])), (haze * (0.55 if light.night else 0.72)).tolist(), None)


def _with_clouds(sky: NDArray[np.float32], camera: Camera, light: Light) -> NDArray[np.float32]:
    """Soft clouds, flatter towards the horizon; they drift a little as we drive."""
    rows, columns = sky.shape[:2]
    depth = 1.0 / (1.02 - np.linspace(0, 1, rows, dtype=np.float32)[:, None])
    across = (np.linspace(-0.5, 0.5, columns, dtype=np.float32)[None]) * depth
    drift = np.float32(camera.z * 0.05 + light.sun_direction[0] * 400)
    map_y = np.broadcast_to(depth * 60 + drift, across.shape).astype(np.float32)
    cloud = cv2.remap(_cloud_tile(), across * 130 + drift, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    threshold = {"clear": 150.0, "partly cloudy": 122.0}.get(light.weather, 100.0)
    alpha = np.clip((cloud.astype(np.float32) - threshold) / 60, 0, 0.85)[:, :, None]
    colour = np.minimum(250, np.array(light.horizon, np.float32) * (1.06 if light.sun > 0.2 else 0.93))
    return np.asarray(sky + (colour - sky) * alpha, np.float32)


def paint_ground(canvas: Canvas, camera: Camera, street: Street) -> None:
    """Grass or courtyards, pavements, asphalt, kerbs and markings, then grain. Light comes later."""
    road = street.road
    horizon = int(np.clip(camera.centre[1] + 1, 0, canvas.owners.shape[0]))
    canvas.image[horizon:] = np.array(_COURT if road.scene == "city street" else _GRASS, np.uint8)
    near = camera.nearest_ground() * 0.9
    stripes = [
        (left, right, max(low, near), high, colour)
        for left, right, low, high, colour in _stripes(road, camera)
        if high > max(low, near)
    ]
    for outline, stripe in zip(_outlines(camera, stripes), stripes, strict=True):
        canvas.fill(outline, stripe[4], None)
    _rub_in_grain(canvas.image[horizon:], camera, horizon)


def _outlines(camera: Camera, stripes: list[Stripe]) -> Fixed:
    """The outlines [stripes, points, 2] of patches of ground."""
    left, right, low, high = np.array([stripe[:4] for stripe in stripes]).T[:, :, None]
    depth = low * (high / low) ** np.linspace(0, 1, _STEPS)
    edges = np.stack([np.broadcast_to(left, depth.shape), np.broadcast_to(right, depth.shape)[:, ::-1]], axis=1)
    along = np.stack([depth, depth[:, ::-1]], axis=1)
    world = np.stack([edges, np.zeros_like(edges), along + camera.z], axis=-1)
    return fixed_point(camera.pixels(world.reshape(-1, 3))).reshape(len(stripes), 2 * _STEPS, 2)


def _stripes(road: Road, camera: Camera) -> Iterator[Stripe]:
    """All patches of ground in painting order."""
    if road.scene != "highway":
        yield road.left - road.pavement, road.right + road.pavement, 0.0, _FAR, _PAVEMENT
    yield road.left - 0.22, road.right + 0.22, 0.0, _FAR, _KERB
    yield road.left, road.right, 0.0, _FAR, _GUTTER
    yield road.left + 0.3, road.right - 0.3, 0.0, _FAR, _ASPHALT
    spans = [(0.0, _FAR)]
    if road.crossing is not None:
        ahead = road.crossing - camera.z
        yield -90.0, 90.0, ahead - 5.5, ahead + 5.5, _ASPHALT
        yield from _zebras(road, ahead)
        spans = [(0.0, ahead - 7.2), (max(0.0, ahead + 7.0), _FAR)]
    for x, style in road.dividers:
        for low, high in spans:
            yield from _divider(camera, x, style, low, high)
    if road.rails is not None:
        for x in (road.rails - 0.72, road.rails + 0.72):
            yield x - 0.12, x + 0.12, 0.0, _FAR, (80, 80, 82)
            yield x - 0.04, x + 0.04, 0.0, _FAR, (160, 162, 165)


def _divider(camera: Camera, x: float, style: str, low: float, high: float) -> Iterator[Stripe]:
    if style == "dashed":
        first = float(np.floor((camera.z + low) / 10.0)) * 10.0 - camera.z
        for start in np.arange(first, min(high, 110.0), 10.0).tolist():
            yield x - 0.07, x + 0.07, max(low, start), min(start + 4.0, high), _PAINT
    elif style == "double":
        yield x - 0.22, x - 0.10, low, high, _YELLOW
        yield x + 0.10, x + 0.22, low, high, _YELLOW
    else:
        yield x - 0.06, x + 0.06, low, high, _PAINT


def _zebras(road: Road, ahead: float) -> Iterator[Stripe]:
    """Zebra stripes before and behind the crossing road, and our stop line."""
    for low in (ahead - 6.2, ahead + 4.0):
        for x in np.arange(road.left + 0.5, road.right - 0.6, 1.1).tolist():
            yield x, x + 0.55, low, low + 2.2, _PAINT
    yield -LANE / 2, road.right - 0.3, ahead - 7.6, ahead - 7.2, _PAINT


def _rub_in_grain(ground: NDArray[np.uint8], camera: Camera, horizon: int) -> None:
    """Rub the noise into the ground, anchored to the world so that it streams by."""
    height, width = ground.shape[0] // 2 + 1, ground.shape[1] // 2
    rows = np.arange(height, dtype=np.float32)[:, None] * 2 + np.float32(horizon + 1 - camera.centre[1])
    depth = np.float32(camera.focal * camera.eye) / np.maximum(rows, np.float32(0.5))
    columns = np.arange(width, dtype=np.float32)[None] * 2 + np.float32(1 - camera.centre[0])
    shift = np.float32(camera.x * 26) - np.float32(camera.bend * 26) * depth * depth
    map_x = columns * (depth * np.float32(26 / camera.focal)) + shift
    map_y = np.broadcast_to((depth + np.float32(camera.z % 4096)) * 13, map_x.shape).astype(np.float32)
    grain = cv2.remap(noise(), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    fade = np.clip(14.0 / depth, 0.0, 1.0) * np.float32(0.28)
    relief = ((grain.astype(np.float32) - 128) * fade + 64).astype(np.uint8)
    full = cv2.resize(relief, (width * 2, height * 2))[: ground.shape[0], : ground.shape[1]]
    cv2.addWeighted(
        ground[:, : full.shape[1]],
        1.0,
        cv2.cvtColor(full, cv2.COLOR_GRAY2BGR),
        1.0,
        -64.0,
        dst=ground[:, : full.shape[1]],
    )


def light_ground(
    canvas: Canvas, camera: Camera, light: Light, shade: NDArray[np.float32], pools: NDArray[np.float32]
) -> None:
    """Light the ground by the sky, our headlights and street lamps (`pools`), less `shade`; then lay haze over it.

    Both maps are [height/4, width/4]: light added, and the share of the light that is lost.
    """
    height, width = canvas.owners.shape
    horizon = int(np.clip(camera.centre[1] + 1, 0, height - 1))
    first = horizon // COARSE
    shade, pools = shade[first:], pools[first:]
    rows = np.arange(shade.shape[0], dtype=np.float32)[:, None] * COARSE + np.float32(
        first * COARSE + COARSE / 2 - camera.centre[1]
    )
    columns = np.arange(shade.shape[1], dtype=np.float32)[None] * COARSE + np.float32(COARSE / 2 - camera.centre[0])
    depth = np.float32(camera.focal * camera.eye) / np.maximum(rows, np.float32(0.5))
    beam = headlight(light, columns * depth / np.float32(camera.focal), depth)
    level = (light.ambient + light.sun * 0.62 + beam * 0.75 + pools) * (1 - shade)
    veil = 1.0 - np.exp(-light.haze * np.minimum(depth, _FAR))
    if light.wet:  # a wet road mirrors the sky, the more the flatter one looks at it
        veil = np.maximum(veil, 0.34 * depth / (depth + 14) * np.ones_like(level))
    gain = (level * (1 - veil))[:, :, None] * np.array(light.tint, np.float32)
    lift = np.broadcast_to(veil[:, :, None] * np.array(light.horizon, np.float32), gain.shape)
    size, skip = (width, height - first * COARSE), horizon - first * COARSE
    gains = cv2.resize(gain.astype(np.float32), size)[skip:]
    lifts = cv2.resize(lift.astype(np.uint8), size)[skip:]
    canvas.image[horizon:] = cv2.add(cv2.multiply(canvas.image[horizon:], gains, dtype=cv2.CV_8U), lifts)
