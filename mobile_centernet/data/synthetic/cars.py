"""Cars and vans: lofts of a side profile with glass, lights and wheels on."""

from collections.abc import Callable, Sequence

import numpy as np

from mobile_centernet.data.synthetic.bodywork import (
    BLACK, GLASS, GLASS_LIT, PLATE, RED, WHITE, end, hubs, lamps, mixed, scaled, sides, wheels,
)
from mobile_centernet.data.synthetic.shapes import Colour, Model, Point

_PAINTS: tuple[Colour, ...] = (
    (225, 225, 222), (190, 190, 192), (120, 118, 115), (45, 43, 42), (50, 45, 170), (150, 85, 40), (95, 60, 30),
    (60, 110, 70), (70, 130, 190), (150, 165, 175), (60, 70, 95), (190, 160, 110),
)  # fmt: skip
_TAXI: Colour = (40, 190, 240)
# Side profiles as (z, y) in shares of length and height: under the belt, and the glass house above it.
_CARS: dict[str, tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]] = {
    "sedan": (
        ((-0.485, 0.17), (-0.5, 0.33), (-0.492, 0.56), (-0.47, 0.66), (-0.36, 0.69), (0.20, 0.66), (0.36, 0.60), (0.46, 0.52), (0.495, 0.42), (0.5, 0.28), (0.48, 0.17)),
        ((-0.385, 0.68), (-0.24, 0.95), (-0.12, 1.0), (0.02, 0.98), (0.215, 0.66)),
    ),
    "hatchback": (
        ((-0.48, 0.17), (-0.5, 0.34), (-0.495, 0.55), (-0.48, 0.64), (0.22, 0.63), (0.38, 0.58), (0.47, 0.5), (0.5, 0.40), (0.5, 0.27), (0.48, 0.17)),
        ((-0.485, 0.63), (-0.40, 0.93), (-0.25, 1.0), (0.0, 0.98), (0.235, 0.63)),
    ),
    "suv": (
        ((-0.485, 0.2), (-0.5, 0.34), (-0.497, 0.55), (-0.488, 0.63), (0.24, 0.61), (0.42, 0.58), (0.485, 0.52), (0.5, 0.42), (0.5, 0.28), (0.485, 0.2)),
        ((-0.49, 0.62), (-0.45, 0.92), (-0.38, 1.0), (0.02, 0.99), (0.22, 0.61)),
    ),
    "van": (
        ((-0.495, 0.14), (-0.5, 0.3), (-0.5, 0.45), (-0.498, 0.52), (0.34, 0.50), (0.44, 0.46), (0.49, 0.40), (0.5, 0.3), (0.5, 0.2), (0.49, 0.14)),
        ((-0.498, 0.51), (-0.49, 0.94), (-0.46, 1.0), (0.12, 0.99), (0.355, 0.50)),
    ),
}  # fmt: skip
_SIZES = {"sedan": (4.6, 1.80, 1.45), "hatchback": (4.0, 1.74, 1.50), "suv": (4.6, 1.88, 1.72), "van": (4.9, 1.92, 2.0)}


def _draw_paint(rng: np.random.Generator) -> Colour:
    """A car colour drawn at random: mostly white, silver, grey and black, as on the road."""
    weights = np.array([4, 3, 3, 3, 1.5, 1.2, 1.2, 0.6, 0.6, 1, 0.8, 0.5])
    base = np.array(_PAINTS[int(rng.choice(len(_PAINTS), p=weights / weights.sum()))])
    blue, green, red = np.clip(base * rng.uniform(0.9, 1.08), 15, 245).tolist()
    return (blue, green, red)


def car(kind: str, rng: np.random.Generator) -> Model:
    """A `sedan`, `hatchback`, `suv` or `van` looking along +z."""
    lower, upper = _CARS[kind]
    length, width, height = np.array(_SIZES[kind]) * rng.uniform(0.94, 1.06)
    half = width / 2
    model = Model(centre=(0.0, height * 0.45, 0.0))
    below = [(z * length, y * height) for z, y in lower]
    above = [(z * length, y * height) for z, y in upper]
    axles, radius = (-0.3 * length, 0.31 * length), 0.33 if kind != "suv" else 0.37
    taxi = kind == "sedan" and rng.random() < 0.14
    paint = _TAXI if taxi else _draw_paint(rng)
    dark = scaled(paint, 0.55)
    wheels(model, width, axles, radius)
    _lower_body(model, below, half, height, paint)
    _greenhouse(model, above, half, paint, roofed=kind == "van" and rng.random() < 0.4)
    hubs(model, width, axles, radius)
    rear, front = below[1][0] - 0.012, below[-2][0] + 0.012
    belt = above[0][1]
    tail = 0.62 * belt if kind in ("sedan", "hatchback") else 0.72 * belt
    slim = 0.055 * height
    end(
        model,
        rear,
        [
            (-half * 0.94, tail - slim, -half * 0.58, tail + slim * 1.1, RED),
            (half * 0.58, tail - slim, half * 0.94, tail + slim * 1.1, RED),
            (-half * 0.92, tail - slim * 0.5, -half * 0.75, tail + slim * 0.2, mixed(RED, WHITE, 0.5)),
            (half * 0.75, tail - slim * 0.5, half * 0.92, tail + slim * 0.2, mixed(RED, WHITE, 0.5)),
            (-0.27, tail - 0.10, 0.27, tail + 0.06, PLATE),
            (-half * 0.9, 0.2 * height, half * 0.9, 0.29 * height, dark),
            (-half * 0.88, tail + slim * 1.5, half * 0.88, tail + slim * 1.8, scaled(paint, 0.7)),
        ],
    )
    head = 0.47 * height if kind != "van" else 0.36 * height
    end(
        model,
        front,
        [
            (-half * 0.55, head - slim * 1.3, half * 0.55, head + slim * 0.7, BLACK),
            (-half * 0.5, head - slim * 0.4, half * 0.5, head - slim * 0.2, (130, 130, 130)),
            (-half * 0.95, head - slim, -half * 0.56, head + slim, WHITE),
            (half * 0.56, head - slim, half * 0.95, head + slim, WHITE),
            (-half * 0.8, 0.19 * height, half * 0.8, 0.27 * height, BLACK),
            (-0.26, 0.27 * height, 0.26, 0.27 * height + 0.15, PLATE),
        ],
    )
    for side in (-1, 1):
        x = side * (half + 0.02)
        model.box((min(x, x + side * 0.16), belt + 0.02, 0.17 * length), (max(x, x + side * 0.16), belt + 0.15, 0.17 * length + 0.12), scaled(paint, 0.85))
    if taxi:
        model.box((-0.3, height, -0.15), (0.3, height + 0.14, 0.05), (120, 230, 250))
    lamps(model, half, rear, front, tail, head)
    return model


def _lower_body(model: Model, below: Sequence[tuple[float, float]], half: float, height: float, paint: Colour) -> None:
    """Bumpers, bonnet and boot lid as strips across, then the flanks with sill and shoulder line."""

    def wide(y: float) -> float:
        return half * (0.93 if y < 0.25 * height else 1.0 if y < 0.55 * height else 0.96)

    for (z1, y1), (z2, y2) in zip(below, below[1:], strict=False):
        strip: list[Point] = [(-wide(y1), y1, z1), (wide(y1), y1, z1), (wide(y2), y2, z2), (-wide(y2), y2, z2)]
        model.face(strip, paint)
    top = max(y for _, y in below)
    for side in (-1, 1):
        model.face([(side * half * 0.99, y, z) for z, y in below], scaled(paint, 0.92))
    rear, front = below[1][0], below[-2][0]
    sill = below[0][1]
    sides(
        model,
        half,
        [
            (rear * 0.97, sill, front * 0.96, sill + 0.09 * height, scaled(paint, 0.45)),
            (rear * 0.98, top - 0.115 * height, front * 0.86, top - 0.09 * height, mixed(paint, WHITE, 0.35)),
            (-0.012, sill + 0.1 * height, 0.012, top - 0.02, scaled(paint, 0.6)),
            (0.235 * (front - rear), sill + 0.12 * height, 0.235 * (front - rear) + 0.02, top - 0.04, scaled(paint, 0.6)),
            (-0.25, top - 0.17 * height, -0.08, top - 0.14 * height, scaled(paint, 0.5)),
        ],
    )


def _greenhouse(model: Model, above: Sequence[tuple[float, float]], half: float, paint: Colour, *, roofed: bool) -> None:
    """Windscreen, roof, rear window and side windows; `roofed` vans have no glass behind the doors."""
    (rear_z, belt), (roof_z, roof_y), *_, (screen_z, screen_y), (cowl_z, cowl_y) = above
    narrow = half * 0.80

    def wide(y: float) -> float:
        return half * 0.95 + (narrow - half * 0.95) * (y - belt) / (above[2][1] - belt)

    for (z1, y1), (z2, y2) in zip(above, above[1:], strict=False):
        model.face([(-wide(y1), y1, z1), (wide(y1), y1, z1), (wide(y2), y2, z2), (-wide(y2), y2, z2)], paint)
    for (z1, y1), (z2, y2), lift in (((rear_z, belt), (roof_z, roof_y), -0.012), ((cowl_z, cowl_y), (screen_z, screen_y), 0.012)):
        if lift < 0 and roofed:
            continue
        _pane(model, (z1, y1), (z2, y2), lift, wide)
    for side in (-1, 1):
        model.face([(side * wide(y), y, z) for z, y in above], scaled(paint, 0.88))
        low, high = belt + 0.03, above[2][1] - 0.07
        share = (high - belt) / (roof_y - belt) if roof_y > belt else 1.0
        back = rear_z + (roof_z - rear_z) * min(1.0, share) + 0.06
        ahead = cowl_z + (screen_z - cowl_z) * min(1.0, (high - cowl_y) / (screen_y - cowl_y)) - 0.06
        middle = (rear_z + cowl_z) / 2 + 0.05
        panes = [
            [(rear_z + 0.28, low), (middle - 0.05, low), (middle - 0.05, high), (back, high)],
            [(middle + 0.05, low), (cowl_z - 0.22, low), (ahead, high), (middle + 0.05, high)],
        ]
        for pane in panes[1:] if roofed else panes:
            model.face([(side * (wide(y) + 0.01), y, z) for z, y in pane], GLASS, solid=False)
            top = [(z, y) if y == high else (z + (0.0), low + (high - low) * 0.55) for z, y in pane]
            top[0] = (pane[0][0] + (pane[3][0] - pane[0][0]) * 0.55, top[0][1])
            top[1] = (pane[1][0] + (pane[2][0] - pane[1][0]) * 0.55, top[1][1])
            model.face([(side * (wide(y) + 0.015), y, z) for z, y in top], mixed(GLASS, GLASS_LIT, 0.6), solid=False)


def _pane(model: Model, low: tuple[float, float], high: tuple[float, float], lift: float, wide: Callable[[float], float]) -> None:
    """A pane of glass on a sloping strip, with the sky in its upper part."""
    for start, stop, colour in ((0.08, 0.9, GLASS), (0.55, 0.9, mixed(GLASS, GLASS_LIT, 0.7)), (0.08, 0.2, scaled(GLASS, 0.7))):
        corners: list[Point] = []
        for share, order in ((start, (-1, 1)), (stop, (1, -1))):
            z, y = low[0] + (high[0] - low[0]) * share + lift, low[1] + (high[1] - low[1]) * share + 0.006
            corners.extend((side * (wide(y) - 0.07), y, z) for side in order)
        model.face(corners, colour, solid=False)

