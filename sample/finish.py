"""From the painted canvas to the finished frame: blooming lamps, rain, our bonnet, the lens, the sensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sample.backdrop import COARSE
from sample.camera import Floats
from sample.canvas import Canvas, fill, fixed_point
from sample.light import Light
from sample.shapes import CIRCLE, Colour

Picture = NDArray[np.uint8]
_NOISE = 24.0  # deviation of the noise tile: white noise around 128, the same in every process
_NOISE_TILE = np.asarray(np.clip(np.random.default_rng(7).normal(128, _NOISE, (1100, 1500)), 0, 255), np.uint8)
_DROPS = 38
_STREAKS = 160


@dataclass(frozen=True, slots=True)
class Bloom:
    """A lamp in the image: where, how big (pixels), whose (id, None: nobody's), and where a wet road mirrors it."""

    pixel: Floats
    radius: float
    colour: Colour
    owner: int | None
    mirrored: Floats


class Finish:
    """The last steps of every frame of a clip."""

    def __init__(
        self, light: Light, canvas: tuple[int, int], size: tuple[int, int], speed: float, rng: np.random.Generator
    ) -> None:
        """Draws what stays the same through a clip: bonnet, drops on the windscreen, lens and sensor.

        `canvas` and `size` are (height, width) before and after enlargement; `speed` in m/s.
        """
        self.light, self.canvas, self.size = light, canvas, size
        self.bonnet = float(rng.uniform(0.02, 0.075)) if rng.random() < 0.55 else 0.0  # share of the height
        self._bonnet_colour = float(rng.choice((35, 60, 110, 170))) * np.array([1.0, 0.98, 0.96])
        self._noise = float(rng.uniform(0.5, 1.6)) * (1.7 if light.night else 1.0)  # deviation, grey levels
        self._contrast = float(rng.uniform(0.93, 1.1))
        self._blur = int(rng.choice((1, 2, 3), p=(0.65, 0.25, 0.1))) if speed > 3 else 1
        self._drops: NDArray[np.float32] | None = None  # how much water covers each pixel of the windscreen, 0–1
        if light.wet:
            height, width = canvas
            drops = np.zeros((height, width), np.float32)
            centres = rng.uniform((0, 0), (width, height), (_DROPS, 2))
            big, long = rng.gamma(3.0, 1.6, (_DROPS, 1)) * height / 540, rng.uniform(1, 1.6, _DROPS)
            for centre, radius in zip(centres, big * np.stack([np.ones(_DROPS), long], 1), strict=True):
                fill(drops, fixed_point(centre + CIRCLE * radius), (0.8,), soft=False)
            self._drops = np.asarray(cv2.GaussianBlur(drops, (0, 0), 1.2), np.float32)
        self._vignette = _vignette(canvas, int(rng.integers(10, 34)))

    def apply(self, canvas: Canvas, blooms: Sequence[Bloom], rng: np.random.Generator) -> Picture:
        """The finished frame, BGR uint8 [height, width, 3] of the full size."""
        image, (height, width) = canvas.image, self.canvas
        if self.light.dark:  # the light that lamps spread around them, and their streaks on a wet road
            glow = np.zeros((height // COARSE, width // COARSE, 3), np.uint8)
            strength = 1.0 if self.light.night else 0.55
            for bloom in blooms:
                ring = bloom.pixel + CIRCLE * min(bloom.radius * 1.3, 28.0)
                fill(glow, fixed_point(ring / COARSE), [c * strength for c in bloom.colour], soft=True)
            for bloom in blooms if self.light.wet else ():
                ring = bloom.mirrored + CIRCLE * (max(1.5, bloom.radius * 0.9), max(8.0, bloom.radius * 5))
                fill(glow, fixed_point(ring / COARSE), [c * strength * 0.45 for c in bloom.colour], soft=True)
            near, wide = cv2.GaussianBlur(glow, (0, 0), 1.2), cv2.GaussianBlur(glow, (0, 0), 6)
            spread = _picture(cv2.resize(cv2.addWeighted(near, 0.65, wide, 1.5, 0), (width, height)))
            image = _picture(cv2.add(image, spread))
        if self._drops is not None:
            # Falling streaks slant away from the middle because we drive into them.
            start = rng.uniform((0, -20), (width, height), (_STREAKS, 2))
            length = rng.uniform(10, 34, _STREAKS) * height / 540
            slant = (start[:, 0] - width / 2) / width * 0.5
            lines = fixed_point(np.stack([start, start + np.stack([slant * length, length], axis=1)], axis=1))
            streaks = np.zeros((height, width), np.uint8)
            cv2.polylines(streaks, list(lines), False, (44,), 1, cv2.LINE_AA, 4)
            rain = cv2.cvtColor(cv2.GaussianBlur(streaks, (3, 3), 0), cv2.COLOR_GRAY2BGR)
            image = _picture(cv2.add(image, rain))
            # A drop on the windscreen shows the scene upside down and out of focus.
            small = cv2.resize(image, (max(1, width // 16), max(1, height // 16)), interpolation=cv2.INTER_AREA)
            turned = cv2.resize(cv2.flip(small, 0), (width, height))
            inside = cv2.addWeighted(turned, 0.55, cv2.blur(image, (15, 15)), 0.55, 6)
            image = _picture(cv2.blendLinear(inside, image, self._drops, 1 - self._drops))
        if self.bonnet:
            level = self.light.ambient + 0.3 * self.light.sun
            for below, gain in ((0.0, 1.35), (0.006, 1.0), (0.03, 0.75)):
                colour = np.clip(self._bonnet_colour * level * gain, 5, 240)
                fill(image, self.bonnet_outline(below), colour.tolist(), soft=True)
        if self._blur > 1:
            image = _picture(cv2.blur(image, (self._blur, 1 + self._blur // 3)))
        image = _picture(cv2.multiply(image, self._vignette, dtype=cv2.CV_8U))
        # The sensor's noise is cut from a tile at a random place, so that no two frames share it.
        top, left = (int(v) for v in rng.integers(0, 512, 2))
        gain = self._noise / _NOISE
        tile = _NOISE_TILE[top : top + height, left : left + width]
        grain = cv2.cvtColor(cv2.convertScaleAbs(tile, alpha=gain, beta=64 - 128 * gain), cv2.COLOR_GRAY2BGR)
        lift = 118 * (1 - self._contrast) - 64
        image = _picture(cv2.addWeighted(image, self._contrast, grain, 1.0, lift))
        return _picture(cv2.resize(image, self.size[::-1], interpolation=cv2.INTER_CUBIC))

    def bonnet_outline(self, below: float = 0.0) -> NDArray[np.int32]:
        """The bonnet at the lower edge of the canvas, in fixed point, from a share `below` its own edge on."""
        height, width = self.canvas
        x = np.linspace(-1, 1, 25)
        edge = height * (1 + below - self.bonnet * (1 - 0.45 * x**2 - 0.2 * x**8))
        corners = [[width, height + 5.0], [0.0, height + 5.0]]
        return fixed_point(np.vstack([np.stack([(x + 1) / 2 * width, edge], axis=1), corners]))


def _picture(image: NDArray[np.generic]) -> Picture:
    return np.asarray(image, np.uint8)


@cache
def _vignette(canvas: tuple[int, int], percent: int) -> NDArray[np.float32]:
    """The gain [height, width, 3] of a lens that darkens by `percent` towards the corners."""
    y, x = np.linspace(-1, 1, 27)[:, None], np.linspace(-1, 1, 48)[None]
    gain = 1 - percent / 100 * np.clip((x**2 + y**2) / 2, 0, 1) ** 1.5
    wide = cv2.resize(gain.astype(np.float32), canvas[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(wide, cv2.COLOR_GRAY2BGR), np.float32)
