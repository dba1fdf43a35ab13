"""Traffic signs and traffic lights; the mast is nobody's, the plate or signal head is the object (owner 0)."""

from dataclasses import dataclass

import numpy as np

from sample.bodywork import scaled
from sample.roadside import GREY
from sample.shapes import UNLABELLED, Colour, Model, Point

_WHITE: Colour = (235, 235, 235)
_RED: Colour = (40, 40, 205)
_DARK: Colour = (30, 30, 35)
_LIGHTS: dict[str, tuple[float, Colour]] = {
    "R": (0.33, (40, 40, 255)),
    "Y": (-0.02, (40, 200, 255)),
    "G": (-0.37, (120, 255, 60)),
}
"""Height above the middle of the head, in metres, and colour."""


@dataclass(frozen=True, slots=True)
class _Plate:
    corners: int
    rim: Colour
    field: Colour
    mark: Colour


_PLATES = (
    _Plate(20, _RED, (235, 238, 238), _DARK),
    _Plate(8, _WHITE, (45, 45, 205), _WHITE),
    _Plate(3, _RED, (240, 240, 240), _DARK),
    _Plate(4, _DARK, (50, 195, 245), _DARK),
    _Plate(20, _WHITE, (170, 90, 30), _WHITE),
)
_GUIDE: Colour = (90, 130, 40)


def _disc(at: Point, radius: float, corners: int, tilt: float) -> list[Point]:
    angles = (tilt + np.arange(corners) * 2 * np.pi / corners).tolist()
    return [(at[0] + radius * float(np.cos(a)), at[1] + radius * float(np.sin(a)), at[2]) for a in angles]


def traffic_sign(rng: np.random.Generator) -> Model:
    """A sign on a post, facing the camera: round, octagonal, triangular, a diamond, or a guide board."""
    model = Model(owner=UNLABELLED)
    y, size, style = float(rng.uniform(2.1, 2.9)), float(rng.uniform(0.34, 0.5)), int(rng.integers(6))
    model.capsule((0.0, 0.0, 0.04), (0.0, y + size, 0.04), (0.045, 0.045), GREY)
    model.owner, model.centre = 0, (0.0, y, 1.0)
    if style == len(_PLATES):
        wide, high = size * 1.7, size * 0.75
        model.across(0.0, (-wide, y - high, wide, y + high), _WHITE, solid=True)
        model.across(-0.01, (-wide * 0.94, y - high * 0.88, wide * 0.94, y + high * 0.88), _GUIDE)
        for line in (0.3, -0.25):
            low = y + (line - 0.1) * size
            model.across(-0.02, (-wide * 0.7, low, wide * 0.42, low + 0.2 * size), _WHITE)
        return model
    plate = _PLATES[style]
    tilt = np.pi / 2 if plate.corners in (3, 4) else np.pi / 8
    model.face(_disc((0.0, y, 0.0), size, plate.corners, tilt), plate.rim)
    model.face(_disc((0.0, y, -0.01), size * 0.76, plate.corners, tilt), plate.field, solid=False)
    model.across(-0.02, (-size * 0.42, y - size * 0.13, size * 0.42, y + size * 0.13), plate.mark)
    return model


def traffic_light(rng: np.random.Generator, colour: str, side: int, *, overhead: bool) -> Model:
    """A signal head whose `colour` is G, Y or R, on a mast (`side` +1: right of the road) or `overhead` on its arm."""
    model = Model(owner=UNLABELLED)
    y = 5.2 if overhead else 3.0
    x = -side * float(rng.uniform(3.0, 5.0)) if overhead else 0.0
    model.capsule((0.0, 0.0, 0.1), (0.0, y + 0.3, 0.1), (0.1, 0.08), GREY)
    if overhead:
        model.capsule((0.0, y + 0.25, 0.1), (x, y + 0.25, 0.1), (0.07, 0.05), GREY)
    model.owner = 0
    body: Colour = (35, 40, 38) if rng.random() < 0.6 else (50, 165, 215)
    model.box((x - 0.22, y - 0.6, -0.15), (x + 0.22, y + 0.55, 0.1), body)
    model.centre = (x, y, 1.0)
    for name, (above, bright) in _LIGHTS.items():
        lit = name == colour
        lens = _disc((x, y + above, -0.17), 0.145, 12, 0.0)
        model.face(lens, bright if lit else scaled(bright, 0.22), solid=False, glow=lit)
        if lit:
            model.lamp((x, y + above, -0.2), bright, 0.16)
    return model
