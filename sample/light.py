"""The light of a clip: time of day, weather, haze; and how it falls on a colour."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sample.camera import Floats
from sample.shapes import Colour, Model

Reals = NDArray[np.floating]
TIMES = ("daytime", "dawn/dusk", "night")
WEATHERS = ("clear", "partly cloudy", "overcast", "rainy")


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


_SKIES: dict[tuple[str, bool], tuple[Colour, Colour, Colour, float, float]] = {
    # (time, clouded): zenith, horizon, tint, ambient, sun
    ("daytime", False): ((215, 150, 85), (235, 222, 200), (0.97, 1.0, 1.03), 0.72, 0.52),
    ("daytime", True): ((190, 180, 170), (220, 216, 212), (1.02, 1.0, 0.98), 0.82, 0.14),
    ("dawn/dusk", False): ((120, 80, 70), (130, 165, 235), (0.88, 0.90, 1.08), 0.46, 0.30),
    ("dawn/dusk", True): ((125, 110, 105), (165, 160, 170), (1.05, 0.98, 0.97), 0.46, 0.06),
    ("night", False): ((30, 16, 10), (62, 44, 38), (1.05, 0.98, 0.95), 0.22, 0.02),
    ("night", True): ((34, 27, 25), (66, 58, 56), (1.0, 0.98, 1.0), 0.22, 0.0),
}  # fmt: skip


def draw_light(rng: np.random.Generator) -> Light:
    """Time of day and weather drawn at random: mostly day, a sixth night, a sixth rain."""
    time = str(rng.choice(TIMES, p=(0.66, 0.17, 0.17)))
    weather = str(rng.choice(WEATHERS, p=(0.45, 0.2, 0.19, 0.16)))
    clouded = weather in ("overcast", "rainy")
    zenith, horizon, tint, ambient, sun = _SKIES[time, clouded]
    side = float(rng.choice((-1.0, 1.0)) * rng.uniform(0.25, 0.8))
    direction = np.array([side, rng.uniform(0.45, 0.9), rng.uniform(-0.8, 0.3)])
    direction /= np.linalg.norm(direction)
    gain = float(rng.uniform(0.9, 1.08))
    return Light(
        time=time,
        weather=weather,
        zenith=zenith,
        horizon=horizon,
        tint=tint,
        ambient=ambient * gain,
        sun=sun * gain * (0.6 if weather == "partly cloudy" else 1.0),
        sun_direction=(float(direction[0]), float(direction[1]), float(direction[2])),
        haze=float(rng.uniform(0.010, 0.016) if weather == "rainy" else rng.uniform(0.002, 0.006)),
        headlights={"daytime": 0.0, "dawn/dusk": 0.12}.get(time, 0.75),
    )


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
