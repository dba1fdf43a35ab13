"""The light of a clip: time of day, weather, haze; and how it falls on a colour."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sample.camera import Floats
from sample.shapes import Colour, Model

Reals = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Light:
    """Colours are BGR; strengths are shares of full light; `haze` is the extinction per metre."""

    time: str
    weather: str
    zenith: Colour
    horizon: Colour
    tint: Colour
    ambient: float
    sun: float
    sun_direction: tuple[float, float, float]
    haze: float
    headlights: float

    @property
    def dark(self) -> bool:
        """Whether lamps are lit."""
        return self.time != "daytime"

    @property
    def night(self) -> bool:
        """Whether the sky gives no light."""
        return self.time == "night"

    @property
    def wet(self) -> bool:
        """Whether it rains."""
        return self.weather == "rainy"


def headlight(light: Light, x: Reals, depth: Reals) -> Reals:
    """How strongly our own headlights fall on points `x` metres aside and `depth` metres ahead."""
    beam = np.exp(-depth / 16.0) * np.exp(-((x / (3.0 + 0.22 * depth)) ** 2))
    return np.asarray(light.headlights * beam * np.clip(depth / 4.0, 0.0, 1.0))


def lit_colours(light: Light, model: Model, normals: Floats, at: tuple[float, float], lamps: float) -> Floats:
    """The model's colours [parts,3] as seen at `at` (metres aside, ahead) with `lamps` of street light on it."""
    arrays = model.arrays()
    flat, glows, base = arrays.flat, arrays.glow, arrays.colours
    sunny = np.where(flat, np.maximum(0.0, normals @ np.array(light.sun_direction)), 0.45)
    sky = np.where(flat, 0.82 + 0.18 * normals[:, 1], 0.9)
    towards = np.where(flat, np.maximum(0.15, -normals[:, 2]), 0.8)
    aside, depth = at
    beam = float(headlight(light, np.array([aside]), np.array([depth]))[0])
    strength = light.ambient * sky + light.sun * sunny + lamps * sky + beam * towards
    colours = base * strength[:, None] * np.array(light.tint)
    colours[glows] = base[glows] * (1.0 if light.dark else 0.95)
    veil = 1.0 - np.exp(-light.haze * depth)
    return np.asarray(np.clip(colours + (np.array(light.horizon) - colours) * veil, 0, 255), np.float64)
