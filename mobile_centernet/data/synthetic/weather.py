"""What light and weather do to the picture: shadows and pools of light, blooming lamps, rain, the lens, the sensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.data.synthetic.backdrop import COARSE
from mobile_centernet.data.synthetic.camera import NEAR, Camera, Floats
from mobile_centernet.data.synthetic.light import Light
from mobile_centernet.data.synthetic.shapes import Canvas, Colour, fixed_point, place
from mobile_centernet.data.synthetic.street import Actor

CIRCLE = np.stack([np.cos(np.arange(14) * np.pi / 7), np.sin(np.arange(14) * np.pi / 7)], axis=1)


@dataclass(frozen=True, slots=True)
class Bloom:
    """A lamp in the picture: where, how big (pixels), whose (id, None: nobody's), and where a wet road mirrors it."""

    pixel: Floats
    radius: float
    colour: Colour
    owner: int | None
    mirrored: Floats


def ground_maps(camera: Camera, light: Light, actors: Sequence[Actor], seconds: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coarse maps [h/4, w/4] of the ground: the share of light that actors keep off it, and light of street lamps."""
    shape = (camera.height // COARSE, camera.width // COARSE)
    shade, pools = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    lean = np.array(light.sun_direction)
    for actor in actors:
        x, z = actor.at(seconds)
        if light.night:
            for lamp in actor.build(seconds).lamps if not actor.kinds else ():
                _pool(pools, camera, x + lamp.at[0], z)
        w, l = actor.half[0] + 0.12, actor.half[1] + 0.12
        points = place(np.array([(sx * w, 0.0, sz * l) for sx in (-1, 1) for sz in (-1, 1)]), (x, 0.0, z), actor.heading)
        if light.sun > 0.2:
            cast = points - np.array([lean[0], 0.0, lean[2]]) / lean[1] * 1.3
            _fill(shade, camera, np.vstack([points, cast]), 0.42)
        if actor.half[0] > 0.25:
            _fill(shade, camera, points, 0.62)
    return cv2.GaussianBlur(shade, (0, 0), 1.1).astype(np.float32), cv2.GaussianBlur(pools, (0, 0), 5).astype(np.float32)


def _pool(pools: NDArray[np.float32], camera: Camera, x: float, z: float) -> None:
    for radius, gain in ((5.5, 0.10), (3.0, 0.22)):
        ring = np.stack([x + radius * CIRCLE[:, 0], np.zeros(14), z + radius * 1.3 * CIRCLE[:, 1]], axis=1)
        _fill(pools, camera, ring, gain)


def _fill(target: NDArray[np.float32], camera: Camera, points: Floats, value: float) -> None:
    """Fill the hull of ground points on a coarse map."""
    seen = camera.view(points)
    if (seen[:, 2] < NEAR).all():
        return
    seen[:, 2] = np.maximum(seen[:, 2], NEAR)
    hull = cv2.convexHull(fixed_point(camera.project(seen) / COARSE))
    cv2.fillPoly(target, [hull], (value,), cv2.LINE_8, 4)


class Finish:
    """From the painted canvas to the frame: blooms, rain, drops, bonnet, blur, vignette, enlargement, noise."""

    def __init__(self, light: Light, canvas: tuple[int, int], size: tuple[int, int], speed: float, rng: np.random.Generator) -> None:
        """Draws what stays the same through a clip: the bonnet, the drops on the screen, the lens."""
        self.light, self.canvas, self.size = light, canvas, size
        self._bonnet = float(rng.uniform(0.02, 0.075)) if rng.random() < 0.55 else 0.0
        self._bonnet_colour = np.array(rng.choice((35, 60, 110, 170))) * np.array([1.0, 0.98, 0.96])
        self._noise = float(rng.uniform(0.5, 1.6)) * (1.7 if light.night else 1.0)
        self._contrast = float(rng.uniform(0.93, 1.1))
        self._blur = int(rng.choice((1, 2, 3), p=(0.65, 0.25, 0.1))) if speed > 3 else 1
        self._drops = _draw_drops(rng, canvas) if light.wet else None
        self._vignette = _vignette(canvas, int(rng.integers(10, 34)))

    def apply(self, canvas: Canvas, blooms: Sequence[Bloom], seconds: float, rng: np.random.Generator) -> NDArray[np.uint8]:
        """The finished frame, BGR uint8 of the full size."""
        image = canvas.image
        if self.light.dark:
            image = cv2.add(image, self._bloom(blooms))
        if self.light.wet:
            image = self._rain(image, rng)
        if self._bonnet:
            self._paint_bonnet(image, canvas.owners, seconds)
        if self._blur > 1:
            image = cv2.blur(image, (self._blur, 1 + self._blur // 3))
        image = cv2.multiply(image, self._vignette, dtype=cv2.CV_8U)
        image = self._grain(image, rng)
        height, width = self.size
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)

    def _bloom(self, blooms: Sequence[Bloom]) -> NDArray[np.uint8]:
        height, width = self.canvas
        glow = np.zeros((height // COARSE, width // COARSE, 3), np.uint8)
        strength = 1.0 if self.light.night else 0.55
        for bloom in blooms:
            colour = [c * strength for c in bloom.colour]
            cv2.fillPoly(glow, [fixed_point((bloom.pixel + CIRCLE * min(bloom.radius * 1.3, 28)) / COARSE)], colour, cv2.LINE_AA, 4)
        if self.light.wet:
            for bloom in blooms:
                x, y = bloom.mirrored
                half = np.array([max(1.5, bloom.radius * 0.9), max(8.0, bloom.radius * 5)])
                streak = [c * strength * 0.45 for c in bloom.colour]
                cv2.fillPoly(glow, [fixed_point((np.array([x, y]) + CIRCLE * half) / COARSE)], streak, cv2.LINE_AA, 4)
        near = cv2.GaussianBlur(glow, (0, 0), 1.2)
        wide = cv2.GaussianBlur(glow, (0, 0), 6)
        return np.asarray(cv2.resize(cv2.addWeighted(near, 0.65, wide, 1.5, 0), (width, height)), np.uint8)

    def _rain(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        height, width = self.canvas
        streaks = np.zeros((height, width), np.uint8)
        start = rng.uniform((0, -20), (width, height), (160, 2))
        length = rng.uniform(10, 34, 160) * height / 540
        slant = (start[:, 0] - width / 2) / width * 0.5
        stop = start + np.stack([slant * length, length], axis=1)
        lines = fixed_point(np.stack([start, stop], axis=1))
        cv2.polylines(streaks, list(lines), False, (44,), 1, cv2.LINE_AA, 4)
        image = cv2.add(image, cv2.cvtColor(cv2.GaussianBlur(streaks, (3, 3), 0), cv2.COLOR_GRAY2BGR))
        if self._drops is not None:
            soft = cv2.resize(cv2.flip(cv2.resize(image, (width // 16, height // 16), interpolation=cv2.INTER_AREA), 0), (width, height))
            lifted = cv2.addWeighted(soft, 0.55, cv2.blur(image, (15, 15)), 0.55, 6)
            image = cv2.blendLinear(lifted, image, self._drops, 1 - self._drops)
        return np.asarray(image, np.uint8)

    def _paint_bonnet(self, image: NDArray[np.uint8], owners: NDArray[np.uint16], seconds: float) -> None:
        """Our own car's bonnet at the lower edge, which hides what is behind it."""
        height, width = self.canvas
        x = np.linspace(-1, 1, 25)
        nod = 0.002 * np.sin(seconds * 9)
        edge = height * (1 - self._bonnet * (1 - 0.45 * x**2 - 0.2 * x**8) - nod)
        outline = np.stack([(x + 1) / 2 * width, edge], axis=1)
        level = self.light.ambient + 0.3 * self.light.sun
        for depth, gain in ((0.0, 1.35), (0.006, 1.0), (0.03, 0.75)):
            colour = np.clip(self._bonnet_colour * level * gain, 5, 240)
            closed = np.vstack([outline + (0, depth * height), [[width, height + 5.0], [0.0, height + 5.0]]])
            cv2.fillPoly(image, [fixed_point(closed)], colour.tolist(), cv2.LINE_AA, 4)
        cv2.fillPoly(owners, [fixed_point(np.vstack([outline, [[width, height + 5.0], [0.0, height + 5.0]]]))], (0,), cv2.LINE_8, 4)

    def _grain(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Sensor noise: cut from a tile at a random place, so that no two frames share it."""
        tile = _noise_tile()
        y, x = rng.integers(0, 512, 2)
        height, width = self.canvas
        noise = tile[y : y + height, x : x + width]
        grain = cv2.cvtColor(cv2.convertScaleAbs(noise, alpha=self._noise / 24, beta=64 - 128 * self._noise / 24), cv2.COLOR_GRAY2BGR)
        return np.asarray(cv2.addWeighted(image, self._contrast, grain, 1.0, -64 + 118 * (1 - self._contrast)), np.uint8)


@cache
def _noise_tile() -> NDArray[np.uint8]:
    """White noise around 128, deviation 24, the same in every process."""
    return np.asarray(np.clip(np.random.default_rng(7).normal(128, 24, (1100, 1500)), 0, 255), np.uint8)


def _draw_drops(rng: np.random.Generator, canvas: tuple[int, int]) -> NDArray[np.float32]:
    """How much of a drop of water covers each pixel of the windscreen, 0–1."""
    height, width = canvas
    drops = np.zeros((height, width), np.float32)
    for x, y, radius in zip(rng.uniform(0, width, 38), rng.uniform(0, height, 38), rng.gamma(3.0, 1.6, 38) * height / 540, strict=True):
        stretch = np.array([1.0, rng.uniform(1.0, 1.6)])
        cv2.fillPoly(drops, [fixed_point(np.array([x, y]) + CIRCLE * radius * stretch)], (0.8,), cv2.LINE_8, 4)
    return np.asarray(cv2.GaussianBlur(drops, (0, 0), 1.2), np.float32)


@cache
def _vignette(canvas: tuple[int, int], percent: int) -> NDArray[np.float32]:
    """The gain [h,w,3] of a lens that darkens by `percent` towards the corners."""
    y, x = np.linspace(-1, 1, 27)[:, None], np.linspace(-1, 1, 48)[None]
    gain = 1 - percent / 100 * np.clip((x**2 + y**2) / 2, 0, 1) ** 1.5
    wide = cv2.resize(gain.astype(np.float32), canvas[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(wide, cv2.COLOR_GRAY2BGR), np.float32)
