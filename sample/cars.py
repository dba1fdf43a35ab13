"""Cars and vans: lofts of a side profile with glass, lights and wheels on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from sample import bodywork
from sample.bodywork import BLACK, GLASS, GLASS_LIT, PLATE, RED, WHITE, mixed, scaled
from sample.shapes import Colour, Model

Outline = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Metres, and side profiles (z, y) in shares of length and height: the body, and the glass house above it."""

    length: float
    width: float
    height: float
    wheel: float
    tail: float  # height of the tail lights, in shares of the belt line
    head: float  # height of the headlights, in shares of the height
    body: Outline
    glass: Outline


_SHAPES = {
    "sedan": _Shape(
        4.6, 1.80, 1.45, 0.33, 0.62, 0.47,
        ((-0.485, 0.17), (-0.5, 0.33), (-0.492, 0.56), (-0.47, 0.66), (-0.36, 0.69), (0.20, 0.66), (0.36, 0.60),
         (0.46, 0.52), (0.495, 0.42), (0.5, 0.28), (0.48, 0.17)),
        ((-0.385, 0.68), (-0.24, 0.95), (-0.12, 1.0), (0.02, 0.98), (0.215, 0.66)),
    ),
    "hatchback": _Shape(
        4.0, 1.74, 1.50, 0.33, 0.62, 0.47,
        ((-0.48, 0.17), (-0.5, 0.34), (-0.495, 0.55), (-0.48, 0.64), (0.22, 0.63), (0.38, 0.58), (0.47, 0.5),
         (0.5, 0.40), (0.5, 0.27), (0.48, 0.17)),
        ((-0.485, 0.63), (-0.40, 0.93), (-0.25, 1.0), (0.0, 0.98), (0.235, 0.63)),
    ),
    "suv": _Shape(
        4.6, 1.88, 1.72, 0.37, 0.72, 0.47,
        ((-0.485, 0.2), (-0.5, 0.34), (-0.497, 0.55), (-0.488, 0.63), (0.24, 0.61), (0.42, 0.58), (0.485, 0.52),
         (0.5, 0.42), (0.5, 0.28), (0.485, 0.2)),
        ((-0.49, 0.62), (-0.45, 0.92), (-0.38, 1.0), (0.02, 0.99), (0.22, 0.61)),
    ),
    "van": _Shape(
        4.9, 1.92, 2.0, 0.33, 0.72, 0.36,
        ((-0.495, 0.14), (-0.5, 0.3), (-0.5, 0.45), (-0.498, 0.52), (0.34, 0.50), (0.44, 0.46), (0.49, 0.40),
         (0.5, 0.3), (0.5, 0.2), (0.49, 0.14)),
        ((-0.498, 0.51), (-0.49, 0.94), (-0.46, 1.0), (0.12, 0.99), (0.355, 0.50)),
    ),
}  # fmt: skip
KINDS = tuple(_SHAPES)
_TAXI: Colour = (40, 190, 240)
_PAINTS: tuple[tuple[float, Colour], ...] = (
    (4.0, (225, 225, 222)), (3.0, (190, 190, 192)), (3.0, (120, 118, 115)), (3.0, (45, 43, 42)), (1.5, (50, 45, 170)),
    (1.2, (150, 85, 40)), (1.2, (95, 60, 30)), (0.6, (60, 110, 70)), (0.6, (70, 130, 190)), (1.0, (150, 165, 175)),
    (0.8, (60, 70, 95)), (0.5, (190, 160, 110)),
)  # fmt: skip


@cache
def car(kind: str, number: int) -> Model:
    """A car of one of the `KINDS`, looking along +z; one of a fixed stock."""
    rng = np.random.default_rng((number, len(kind)))
    shape = _SHAPES[kind]
    factor = float(rng.uniform(0.94, 1.06))
    length, width, height = shape.length * factor, shape.width * factor, shape.height * factor
    half, belt = width / 2, shape.glass[0][1] * height
    taxi = kind == "sedan" and rng.random() < 0.14
    paint = _TAXI
    if not taxi:  # mostly white, silver, grey and black, as on the road
        weights = np.array([weight for weight, _ in _PAINTS])
        _, colour = _PAINTS[int(rng.choice(len(_PAINTS), p=weights / weights.sum()))]
        paint = scaled(colour, float(rng.uniform(0.9, 1.08)))
    body = [(z * length, y * height) for z, y in shape.body]
    glass = [(z * length, y * height) for z, y in shape.glass]
    axles = (-0.3 * length, 0.31 * length)
    model = Model(centre=(0.0, height * 0.45, 0.0))
    bodywork.wheels(model, width, axles, shape.wheel)

    def wide(y: float) -> float:
        return half * (0.93 if y < 0.25 * height else 1.0 if y < 0.55 * height else 0.96)

    # Bumpers, bonnet, boot lid and flanks; on the flanks sill, shoulder line, doors and handle.
    model.loft(body, wide, paint)
    model.flanks(body, lambda _y: half * 0.99, scaled(paint, 0.92))
    rear, front, sill, top = body[1][0], body[-2][0], body[0][1], max(y for _, y in body)
    seam, gap = scaled(paint, 0.6), 0.235 * (front - rear)
    flank = [
        (rear * 0.97, sill, front * 0.96, sill + 0.09 * height, scaled(paint, 0.45)),
        (rear * 0.98, top - 0.115 * height, front * 0.86, top - 0.09 * height, mixed(paint, WHITE, 0.35)),
        (-0.012, sill + 0.1 * height, 0.012, top - 0.02, seam),
        (gap, sill + 0.12 * height, gap + 0.02, top - 0.04, seam),
        (-0.25, top - 0.17 * height, -0.08, top - 0.14 * height, scaled(paint, 0.5)),
    ]
    bodywork.sides(model, half, flank)
    _glass_house(model, glass, half, paint, panelled=kind == "van" and bool(rng.random() < 0.4))
    bodywork.hubs(model, width, axles, shape.wheel)
    rear, front, tail, head, slim = rear - 0.012, front + 0.012, shape.tail * belt, shape.head * height, 0.055 * height
    end = [
        *bodywork.mirrored(0.58 * half, tail - slim, 0.94 * half, tail + slim * 1.1, RED),
        *bodywork.mirrored(0.75 * half, tail - slim * 0.5, 0.92 * half, tail + slim * 0.2, mixed(RED, WHITE, 0.5)),
        (-0.27, tail - 0.10, 0.27, tail + 0.06, PLATE),
        (-half * 0.9, 0.2 * height, half * 0.9, 0.29 * height, scaled(paint, 0.55)),
        (-half * 0.88, tail + slim * 1.5, half * 0.88, tail + slim * 1.8, scaled(paint, 0.7)),
    ]
    bodywork.end(model, rear, end)
    nose = [
        (-half * 0.55, head - slim * 1.3, half * 0.55, head + slim * 0.7, BLACK),
        (-half * 0.5, head - slim * 0.4, half * 0.5, head - slim * 0.2, (130, 130, 130)),
        *bodywork.mirrored(half * 0.56, head - slim, half * 0.95, head + slim, WHITE),
        (-half * 0.8, 0.19 * height, half * 0.8, 0.27 * height, BLACK),
        (-0.26, 0.27 * height, 0.26, 0.27 * height + 0.15, PLATE),
    ]
    bodywork.end(model, front, nose)
    for x in (-half - 0.18, half + 0.02):  # mirrors
        model.box((x, belt + 0.02, 0.17 * length), (x + 0.16, belt + 0.15, 0.17 * length + 0.12), scaled(paint, 0.85))
    if taxi:
        model.box((-0.3, height, -0.15), (0.3, height + 0.14, 0.05), (120, 230, 250))
    bodywork.lamps(model, half, rear, front, tail, head)
    return model


def _glass_house(
    model: Model, outline: Sequence[tuple[float, float]], half: float, paint: Colour, *, panelled: bool
) -> None:
    """Pillars, roof and panes; `panelled` vans have none behind the front doors."""
    (rear_z, belt), (_, roof_y), (_, top), (screen_z, screen_y), (cowl_z, cowl_y) = outline

    def wide(y: float) -> float:
        return half * (0.95 - 0.15 * (y - belt) / (top - belt))

    model.loft(outline, wide, paint)
    model.flanks(outline, wide, scaled(paint, 0.88))
    if not panelled:
        _screen(model, outline[0], outline[1], -0.012, wide)
    _screen(model, outline[4], outline[3], 0.012, wide)
    low, high = belt + 0.03, top - 0.07
    back = rear_z + (outline[1][0] - rear_z) * min(1.0, (high - belt) / (roof_y - belt)) + 0.06
    ahead = cowl_z + (screen_z - cowl_z) * min(1.0, (high - cowl_y) / (screen_y - cowl_y)) - 0.06
    middle = (rear_z + cowl_z) / 2 + 0.05
    if not panelled:
        _side_window(model, (rear_z + 0.28, middle - 0.05), (back, middle - 0.05), low, high, wide)
    _side_window(model, (middle + 0.05, cowl_z - 0.22), (middle + 0.05, ahead), low, high, wide)


def _side_window(
    model: Model,
    sill: tuple[float, float],
    top: tuple[float, float],
    low: float,
    high: float,
    wide: Callable[[float], float],
) -> None:
    """A window on both sides from `sill` (z1, z2) at `low` to `top` (z1, z2) at `high`; above, it mirrors the sky."""
    for share, colour, lift in ((0.0, GLASS, 0.010), (0.55, mixed(GLASS, GLASS_LIT, 0.6), 0.015)):
        y = low + (high - low) * share
        z1, z2 = (a + (b - a) * share for a, b in zip(sill, top, strict=True))
        for side in (-1, 1):
            corners = (z1, y), (z2, y), (top[1], high), (top[0], high)
            model.face([(side * (wide(b) + lift), b, a) for a, b in corners], colour, solid=False)


def _screen(
    model: Model, low: tuple[float, float], high: tuple[float, float], lift: float, wide: Callable[[float], float]
) -> None:
    """A pane across, on the slope from `low` to `high` (z, y); its upper part mirrors the sky."""
    panes = (0.08, 0.9, GLASS), (0.55, 0.9, mixed(GLASS, GLASS_LIT, 0.7)), (0.08, 0.2, scaled(GLASS, 0.7))
    for start, stop, colour in panes:
        (z1, y1), (z2, y2) = (
            (low[0] + (high[0] - low[0]) * share + lift, low[1] + (high[1] - low[1]) * share + 0.006)
            for share in (start, stop)
        )
        w1, w2 = wide(y1) - 0.07, wide(y2) - 0.07
        model.face([(-w1, y1, z1), (w1, y1, z1), (w2, y2, z2), (-w2, y2, z2)], colour, solid=False)
