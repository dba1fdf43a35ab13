"""What all vehicles share: paints, wheels, panels on their walls, lamps."""

import math
from collections.abc import Sequence

from sample.shapes import Colour, Model

GLASS: Colour = (70, 62, 52)
GLASS_LIT: Colour = (150, 138, 120)
BLACK: Colour = (34, 33, 33)
RED: Colour = (35, 35, 215)
AMBER: Colour = (40, 150, 250)
WHITE: Colour = (240, 242, 242)
PLATE: Colour = (220, 228, 228)
_TAIL_GLOW: Colour = (30, 30, 255)
_HEAD_GLOW: Colour = (215, 238, 255)
_RING: list[tuple[float, float]] = [(math.cos(i * math.pi / 8), math.sin(i * math.pi / 8)) for i in range(16)]
Cell = tuple[float, float, float, float, Colour]
"""A rectangle (from, low, to, high) on a wall, and its colour."""


def scaled(colour: Colour, factor: float) -> Colour:
    """The colour under more or less light."""
    blue, green, red = (min(255.0, c * factor) for c in colour)
    return (blue, green, red)


def mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """`share` of the other colour in the first."""
    blue, green, red = (a + (b - a) * share for a, b in zip(colour, other, strict=True))
    return (blue, green, red)


def wheels(model: Model, width: float, axles: Sequence[float], radius: float) -> None:
    """Tyres: lumps that show below the body from any side."""
    for z in axles:
        for side in (-1, 1):
            model.disc((side * (width / 2 - 0.13), radius, z), radius, 0.22, (28, 27, 27))


def hubs(model: Model, width: float, axles: Sequence[float], radius: float) -> None:
    """The outer face of the wheels with arch, tyre and rim, on the body's flank."""
    for z in axles:
        for side in (-1, 1):
            for scale, colour, lift in (
                (1.16, (22, 22, 22), 0.01),
                (1.0, (36, 35, 35), 0.02),
                (0.66, (165, 165, 168), 0.03),
                (0.5, (95, 95, 98), 0.04),
                (0.18, (190, 190, 190), 0.05),
            ):
                x, grown = side * (width / 2 + lift), radius * scale
                ring = [(x, radius + grown * sin, z + grown * cos) for cos, sin in _RING if scale <= 1.0 or sin > -0.3]
                model.face(ring, colour, solid=scale <= 1.0)


def mirrored(x1: float, y1: float, x2: float, y2: float, colour: Colour) -> list[Cell]:
    """A cell on the right of an end wall and its mirror image on the left."""
    return [(x1, y1, x2, y2, colour), (-x2, y1, -x1, y2, colour)]


def end(model: Model, z: float, cells: Sequence[Cell]) -> None:
    """Rectangles (x1, y1, x2, y2, colour) on the front or rear wall at `z`."""
    for x1, y1, x2, y2, colour in cells:
        model.across(z, (x1, y1, x2, y2), colour)


def sides(model: Model, half: float, cells: Sequence[Cell]) -> None:
    """Rectangles (z1, y1, z2, y2, colour) on both flanks."""
    for side in (-1, 1):
        for z1, y1, z2, y2, colour in cells:
            model.along(side * (half + 0.008), (z1, y1, z2, y2), colour)


def lamps(model: Model, half: float, rear: float, front: float, tail_y: float, head_y: float) -> None:
    for side in (-1, 1):
        model.lamp((side * half * 0.82, tail_y, rear - 0.03), _TAIL_GLOW, 0.13, (0.0, 0.0, -1.0))
        model.lamp((side * half * 0.78, head_y, front + 0.03), _HEAD_GLOW, 0.17, (0.0, 0.0, 1.0))
