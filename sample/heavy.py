"""Buses, trucks and trams: boxes with much on their walls."""

from functools import cache

import numpy as np

from sample import bodywork
from sample.bodywork import AMBER, BLACK, GLASS, GLASS_LIT, PLATE, RED, WHITE, Cell, mirrored, mixed, scaled
from sample.shapes import Colour, Model, pick

_BUS_PAINTS: tuple[Colour, ...] = (
    (225, 225, 225), (60, 140, 60), (45, 60, 190), (190, 120, 40), (60, 175, 225), (150, 110, 60),
)  # fmt: skip
_CAB_PAINTS: tuple[Colour, ...] = ((225, 225, 225), (165, 90, 40), (50, 55, 180), (80, 130, 80), (60, 165, 215))
_BOX_PAINTS: tuple[Colour, ...] = (
    (228, 228, 226), (205, 205, 205), (150, 120, 90), (85, 120, 160), (120, 160, 130),
)  # fmt: skip
_DUMP_PAINTS: tuple[Colour, ...] = ((60, 150, 200), (90, 120, 90), (70, 90, 170))
_TRAM_PAINTS: tuple[Colour, ...] = ((70, 70, 200), (190, 130, 50), (90, 160, 70), (215, 215, 215))
_MIRROR = mixed(GLASS, GLASS_LIT, 0.55)


def _windows(start: float, low: float, stop: float, high: float) -> list[Cell]:
    """A pane whose upper part mirrors the sky."""
    return [(start, low, stop, high, GLASS), (start, low + (high - low) * 0.55, stop, high, _MIRROR)]


@cache
def bus(number: int) -> Model:
    """A city bus looking along +z; one of a fixed stock."""
    rng = np.random.default_rng((number, 3))
    length, height, half, low = float(rng.uniform(9.5, 12.0)), float(rng.uniform(2.95, 3.2)), 1.25, 0.35
    paint, stripe = pick(rng, _BUS_PAINTS, 0.1), pick(rng, _BUS_PAINTS, 0.1)
    axles, top, end = (-0.27 * length, 0.33 * length), height - 0.14, length / 2
    model = Model(centre=(0.0, height / 2, 0.0))
    bodywork.wheels(model, 2 * half, axles, 0.48)
    model.group = 1
    model.box((-half, low, -end), (half, top, end), paint, sides="xXzZ")
    roof = [(half * f, y, s * end * f) for s in (-1, 1) for f, y in ((1.0, top - 0.03), (0.94, height))]
    model.slab(roof, scaled(paint, 0.9))
    flank: list[Cell] = [(-end, low, end, low + 0.35, scaled(paint, 0.55)), (-end, 1.05, end, 1.25, stripe)]
    step = (length - 0.8) / 7
    for z in (-end + 0.4 + i * step for i in range(7)):
        flank += _windows(z, 1.4, z + step - 0.1, 2.45)
    flank.append((0.40 * length, 0.5, 0.40 * length + 1.0, 2.4, (60, 58, 55)))
    bodywork.sides(model, half, flank)
    bodywork.hubs(model, 2 * half, axles, 0.48)

    # Windscreen, destination board, headlights.
    cells = _windows(-half * 0.93, 1.15, half * 0.93, 2.45)
    cells += [(-half * 0.8, 2.55, half * 0.8, 2.85, (25, 25, 25)), (-half * 0.6, 2.6, half * 0.5, 2.8, AMBER)]
    cells += [(-half, low, half, 0.55, BLACK), *mirrored(half * 0.6, 0.62, half * 0.93, 0.85, WHITE)]
    cells += [(-0.25, 0.6, 0.25, 0.75, PLATE), (-0.02, 1.15, 0.02, 2.45, BLACK), (-half, 0.95, half, 1.1, stripe)]
    bodywork.end(model, end + 0.012, cells)
    # Rear window, engine flap, lights one above the other.
    cells = _windows(-half * 0.8, 1.65, half * 0.8, 2.4)
    cells += [(-half, low, half, 0.55, BLACK), (-half * 0.75, 0.65, half * 0.75, 1.3, scaled(paint, 0.75))]
    cells.append((-half * 0.7, 2.52, half * 0.2, 2.76, (40, 90, 160)))
    for y, colour in ((0.7, RED), (1.05, AMBER)):
        cells += mirrored(half * 0.84 - 0.13, y, half * 0.84 + 0.13, y + 0.3, colour)
    cells += [(-half * 0.7, y, half * 0.7, y + 0.03, scaled(paint, 0.5)) for y in (0.8, 0.92, 1.04, 1.16)]
    bodywork.end(model, -end - 0.012, [*cells, (-0.28, 0.62, 0.28, 0.8, PLATE)])

    model.group = 2
    for x in (-half - 0.22, half):  # mirrors
        model.box((x, 1.9, end - 0.1), (x + 0.22, 2.35, end + 0.1), BLACK)
    bodywork.lamps(model, half, -end, end, 0.85, 0.73)
    return model


@cache
def truck(number: int) -> Model:
    """A box or dump truck looking along +z: a cab ahead of a higher load; one of a fixed stock."""
    rng = np.random.default_rng((number, 5))
    length, half, height = float(rng.uniform(6.0, 8.5)), float(rng.uniform(1.05, 1.22)), float(rng.uniform(2.7, 3.4))
    dump = bool(rng.random() < 0.3)
    height *= 0.82 if dump else 1.0
    rear, front, low = -length / 2, length / 2, 0.55
    divide, axles, radius, floor = front - 1.9, (-0.30 * length, 0.36 * length), 0.46, low + 0.3
    model = Model(centre=(0.0, height / 2, 0.0))
    bodywork.wheels(model, 2 * half, axles, radius)
    model.box((-half * 0.8, low - 0.1, rear + 0.1), (half * 0.8, floor, front - 0.2), (48, 46, 45))

    # The box with ribs, doors and rear lights.
    model.group, model.centre = 1, (0.0, height / 2, (rear + divide) / 2)
    paint = pick(rng, _DUMP_PAINTS if dump else _BOX_PAINTS, 0.1)
    model.box((-half, floor, rear), (half, height, divide), paint)
    ribs = np.linspace(rear + 0.05, divide - 0.1, 6).tolist()
    flank: list[Cell] = [(z, floor, z + 0.05, height, scaled(paint, 0.8)) for z in ribs]
    flank.append((rear, floor, divide, floor + 0.12, scaled(paint, 0.6)))
    flank.append((rear, height - 0.1, divide, height, scaled(paint, 0.85)))
    if not dump and rng.random() < 0.6:
        flank.append((rear + 0.8, height * 0.5, divide - 0.8, height * 0.72, pick(rng, _BUS_PAINTS)))
    bodywork.sides(model, half, flank)
    doors: list[Cell] = [
        (-0.025, floor, 0.025, height - 0.05, scaled(paint, 0.45)),
        (-half, floor, half, floor + 0.12, scaled(paint, 0.5)),
        (-half, height - 0.12, half, height, scaled(paint, 0.75)),
        *mirrored(half * 0.5 - 0.02, floor + 0.2, half * 0.5 + 0.02, height - 0.15, (140, 140, 140)),
        (-half * 0.9, 0.42, half * 0.9, 0.62, (40, 40, 120)),
        *mirrored(half * 0.8 - 0.2, 0.62, half * 0.8 + 0.2, 0.8, RED),
        *mirrored(half * 0.8 - 0.2, 0.62, half * 0.8 - 0.02, 0.8, AMBER),
        (-0.26, 0.6, 0.26, 0.76, PLATE),
    ]
    bodywork.end(model, rear - 0.012, doors)
    bodywork.hubs(model, 2 * half, axles[:1], radius)

    # The driver's cab with windows, grille and headlights.
    model.group, model.centre = 2, (0.0, 1.4, front - 0.9)
    paint, wide, back = pick(rng, _CAB_PAINTS, 0.1), half * 0.96, divide + 0.12
    outline = [(back, low), (front, low), (front + 0.02, 1.25), (front - 0.3, 2.35), (back, 2.35), (back, low)]
    model.loft(outline, lambda _y: wide, paint)
    model.flanks(outline[:-1], lambda _y: wide, scaled(paint, 0.92))
    for side in (-1, 1):
        window = (back + 0.4, 1.3), (front - 0.12, 1.3), (front - 0.38, 2.15), (back + 0.4, 2.15)
        model.face([(side * (wide + 0.02), y, z) for z, y in window], GLASS, solid=False)
    for y, z, colour in ((1.3, front + 0.04, GLASS), (1.78, front - 0.11, _MIRROR)):
        w, top, head = wide * 0.92, 2.25, front - 0.26
        model.face([(-w, y, z), (w, y, z), (w, top, head), (-w, top, head)], colour, solid=False)
    nose: list[Cell] = [
        (-wide * 0.6, 0.8, wide * 0.6, 1.15, BLACK),
        (-wide, 0.45, wide, 0.72, scaled(paint, 0.5)),
        *mirrored(wide * 0.8 - 0.16, 0.78, wide * 0.8 + 0.16, 1.0, WHITE),
        (-0.26, 0.52, 0.26, 0.68, PLATE),
    ]
    bodywork.end(model, front + 0.035, nose)
    bodywork.hubs(model, 2 * half, axles[1:], radius)
    bodywork.lamps(model, half, rear, front, 0.7, 0.9)
    return model


def tram(rng: np.random.Generator) -> Model:
    """A light-rail train looking along +z: long, with a band of windows and a rounded nose at both ends."""
    length, half, height, low = float(rng.uniform(18, 26)), 1.28, 3.5, 0.3
    paint, body = pick(rng, _TRAM_PAINTS, 0.1), (222.0, 222.0, 220.0)
    end, inner = length / 2, length / 2 - 1.1
    model = Model(centre=(0.0, height / 2, 0.0))
    model.box(
        (-half * 0.7, height - 0.2, -inner * 0.9), (half * 0.7, height, inner * 0.9), (120, 120, 120), sides="xXzZ"
    )
    model.box((-half * 0.85, 0.05, -inner), (half * 0.85, low, inner), (40, 40, 40), sides="xXzZ")
    half_outline = [(inner, low), (end - 0.1, 0.75), (end, 1.3), (inner + 0.35, 3.0), (inner, height - 0.2)]
    outline = [*half_outline, *((-z, y) for z, y in half_outline[::-1]), half_outline[0]]
    model.loft(outline, lambda _y: half, body)
    model.flanks(outline[:-1], lambda _y: half, body)
    cells: list[Cell] = [(-inner, low, inner, 0.95, paint), (-inner, 2.75, inner, 2.95, paint)]
    for z in np.arange(-inner + 0.3, inner - 1.5, 1.9).tolist():
        cells += _windows(z, 1.4, z + 1.6, 2.55)
    cells += [(z, 0.5, z + 1.3, 2.6, scaled(GLASS, 0.8)) for z in (-inner * 0.55, inner * 0.4)]
    bodywork.sides(model, half, [*cells, (-0.25, low, 0.25, height - 0.2, (55, 55, 55))])
    for side in (-1, 1):
        z1, z2 = side * (end - 0.08), side * (end + 0.02)
        model.face([(-half, 0.76, z1), (half, 0.76, z1), (half, 1.28, z2), (-half, 1.28, z2)], paint)
        # Windscreen, lights and destination board.
        low_pane, top_pane = (side * (end + 0.01), 1.42), (side * (inner + 0.42), 2.85)
        middle = ((low_pane[0] + top_pane[0]) / 2 + side * 0.01, 2.15)
        for (z, y), colour in ((low_pane, GLASS), (middle, mixed(GLASS, GLASS_LIT, 0.6))):
            w, narrow, (back, top) = half * 0.85, half * 0.78, top_pane
            back += side * 0.01
            model.face([(-w, y, z), (w, y, z), (narrow, top, back), (-narrow, top, back)], colour, solid=False)
        light = WHITE if side > 0 else RED
        bodywork.end(model, side * (end + 0.03), mirrored(half * 0.7 - 0.2, 0.95, half * 0.7 + 0.2, 1.2, light))
        bodywork.end(model, side * (inner + 0.42), [(-half * 0.5, 2.92, half * 0.5, 3.12, AMBER)])
    model.stroke([(0.0, height, -1.0), (0.0, height + 0.9, 0.0), (0.0, height, 1.0)], 0.06, (50, 50, 50))
    bodywork.lamps(model, half * 0.9, -end, end, 1.05, 1.05)
    return model
