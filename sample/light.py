"""The light of a clip: time of day, weather, haze; and how it falls on a colour."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sample.shapes import Colour

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
