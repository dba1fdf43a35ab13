"""Buses, trucks and trams: boxes with much on their walls."""

import numpy as np

from mobile_centernet.data.synthetic.bodywork import (
    AMBER, BLACK, GLASS, GLASS_LIT, PLATE, RED, WHITE, Cell, end, hubs, lamps, mixed, scaled, sides, wheels,
)  # fmt: skip
from mobile_centernet.data.synthetic.shapes import Colour, Model

_BUS_PAINTS: tuple[Colour, ...] = ((225, 225, 225), (60, 140, 60), (45, 60, 190), (190, 120, 40), (60, 175, 225), (150, 110, 60))
_CAB_PAINTS: tuple[Colour, ...] = ((225, 225, 225), (165, 90, 40), (50, 55, 180), (80, 130, 80), (60, 165, 215))
_CARGO_PAINTS: tuple[Colour, ...] = ((228, 228, 226), (205, 205, 205), (150, 120, 90), (85, 120, 160), (120, 160, 130))
_TRAM_PAINTS: tuple[Colour, ...] = ((70, 70, 200), (190, 130, 50), (90, 160, 70), (215, 215, 215))


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return scaled(colours[int(rng.integers(len(colours)))], float(rng.uniform(0.9, 1.08)))


def _lit_panes(cells: list[Cell], z: float, low: float, to: float, high: float) -> None:
    """A window whose upper part mirrors the sky."""
    cells.append((z, low, to, high, GLASS))
    cells.append((z, low + (high - low) * 0.55, to, high, mixed(GLASS, GLASS_LIT, 0.55)))


def bus(rng: np.random.Generator) -> Model:
    """A city bus looking along +z."""
    length, width, height = float(rng.uniform(9.5, 12.0)), 2.5, float(rng.uniform(2.95, 3.2))
    half, low = width / 2, 0.35
    paint = _pick(rng, _BUS_PAINTS)
    stripe = _pick(rng, _BUS_PAINTS)
    model = Model(centre=(0.0, height / 2, 0.0))
    axles = (-0.27 * length, 0.33 * length)
    wheels(model, width, axles, 0.48)
    top = height - 0.14
    model.group = 1
    model.box((-half, low, -length / 2), (half, top, length / 2), paint, sides="xXzZ")
    model.hull([(sx * half * f, y, sz * length / 2 * f) for sx in (-1, 1) for sz in (-1, 1) for f, y in ((1.0, top - 0.03), (0.94, height))], scaled(paint, 0.9))
    cells: list[Cell] = [(-length / 2, low, length / 2, low + 0.35, scaled(paint, 0.55)), (-length / 2, 1.05, length / 2, 1.25, stripe)]
    count = 7
    step = (length - 0.8) / count
    for i in range(count):
        z = -length / 2 + 0.4 + i * step
        _lit_panes(cells, z, 1.4, z + step - 0.1, 2.45)
    cells.append((0.40 * length, 0.5, 0.40 * length + 1.0, 2.4, (60, 58, 55)))
    sides(model, half, cells)
    hubs(model, width, axles, 0.48)
    front: list[Cell] = [(-half * 0.93, 1.15, half * 0.93, 2.45, GLASS), (-half * 0.93, 1.85, half * 0.93, 2.45, mixed(GLASS, GLASS_LIT, 0.55))]
    front += [(-half * 0.8, 2.55, half * 0.8, 2.85, (25, 25, 25)), (-half * 0.6, 2.6, half * 0.5, 2.8, AMBER)]
    front += [(-half, low, half, 0.55, BLACK), (-half * 0.93, 0.62, -half * 0.6, 0.85, WHITE), (half * 0.6, 0.62, half * 0.93, 0.85, WHITE)]
    front += [(-0.25, 0.6, 0.25, 0.75, PLATE), (-0.02, 1.15, 0.02, 2.45, BLACK), (-half, 0.95, half, 1.1, stripe)]
    end(model, length / 2 + 0.012, front)
    rear: list[Cell] = [(-half * 0.8, 1.65, half * 0.8, 2.4, GLASS), (-half * 0.8, 2.05, half * 0.8, 2.4, mixed(GLASS, GLASS_LIT, 0.5))]
    rear += [(-half, low, half, 0.55, BLACK), (-half * 0.75, 0.65, half * 0.75, 1.3, scaled(paint, 0.75)), (-half * 0.7, 2.52, half * 0.2, 2.76, (40, 90, 160))]
    rear += [(s * half * 0.84 - 0.13, y, s * half * 0.84 + 0.13, y + 0.3, c) for s in (-1, 1) for y, c in ((0.7, RED), (1.05, AMBER))]
    rear += [(-0.28, 0.62, 0.28, 0.8, PLATE)] + [(-half * 0.7, y, half * 0.7, y + 0.03, scaled(paint, 0.5)) for y in (0.8, 0.92, 1.04, 1.16)]
    end(model, -length / 2 - 0.012, rear)
    model.group = 2
    for s in (-1, 1):
        model.box((min(s * half, s * (half + 0.22)), 1.9, length / 2 - 0.1), (max(s * half, s * (half + 0.22)), 2.35, length / 2 + 0.1), BLACK)
    lamps(model, half, -length / 2, length / 2, 0.85, 0.73)
    return model


def truck(rng: np.random.Generator) -> Model:
    """A box, tank-side or dump truck looking along +z: a cab ahead of a higher load."""
    length, width, height = float(rng.uniform(6.0, 8.5)), float(rng.uniform(2.1, 2.45)), float(rng.uniform(2.7, 3.4))
    half, low, cab = width / 2, 0.55, 1.75
    paint, cargo = _pick(rng, _CAB_PAINTS), _pick(rng, _CARGO_PAINTS)
    dump = rng.random() < 0.3
    if dump:
        height, cargo = height * 0.82, _pick(rng, ((60, 150, 200), (90, 120, 90), (70, 90, 170)))
    model = Model(centre=(0.0, height / 2, 0.0))
    axles, radius = (-0.30 * length, 0.36 * length), 0.46
    wheels(model, width, axles, radius)
    front, rear = length / 2, -length / 2
    divide, cab_top = front - cab - 0.15, 2.35
    model.box((-half * 0.8, low - 0.1, rear + 0.1), (half * 0.8, low + 0.3, front - 0.2), (48, 46, 45))
    model.group, model.centre = 1, (0.0, height / 2, (rear + divide) / 2)
    model.box((-half, low + 0.3, rear), (half, height, divide), cargo)
    ribs: list[Cell] = [(z, low + 0.3, z + 0.05, height, scaled(cargo, 0.8)) for z in np.linspace(rear + 0.05, divide - 0.1, 6).tolist()]
    ribs += [(rear, low + 0.3, divide, low + 0.42, scaled(cargo, 0.6)), (rear, height - 0.1, divide, height, scaled(cargo, 0.85))]
    if not dump and rng.random() < 0.6:
        ribs.append((rear + 0.8, height * 0.5, divide - 0.8, height * 0.72, _pick(rng, _BUS_PAINTS)))
    sides(model, half, ribs)
    doors: list[Cell] = [(-0.025, low + 0.35, 0.025, height - 0.05, scaled(cargo, 0.45)), (-half, low + 0.3, half, low + 0.42, scaled(cargo, 0.5))]
    doors += [(s * half * 0.5 - 0.02, low + 0.5, s * half * 0.5 + 0.02, height - 0.15, (140, 140, 140)) for s in (-1, 1)]
    doors += [(-half, height - 0.12, half, height, scaled(cargo, 0.75)), (-half * 0.9, 0.42, half * 0.9, 0.62, (40, 40, 120))]
    doors += [(s * half * 0.8 - 0.2, 0.62, s * half * 0.8 + 0.2, 0.8, RED) for s in (-1, 1)]
    doors += [(s * half * 0.8 - 0.2, 0.62, s * half * 0.8 - 0.02, 0.8, AMBER) for s in (-1, 1)] + [(-0.26, 0.6, 0.26, 0.76, PLATE)]
    end(model, rear - 0.012, doors)
    hubs(model, width, axles[:1], radius)
    model.group, model.centre = 2, (0.0, 1.4, front - cab / 2)
    profile = [(divide + 0.12, low), (front, low), (front + 0.02, 1.25), (front - 0.3, cab_top), (divide + 0.12, cab_top)]
    for (z1, y1), (z2, y2) in zip(profile, [*profile[1:], profile[0]], strict=True):
        model.face([(-half * 0.96, y1, z1), (half * 0.96, y1, z1), (half * 0.96, y2, z2), (-half * 0.96, y2, z2)], paint)
    for s in (-1, 1):
        model.face([(s * half * 0.96, y, z) for z, y in profile], scaled(paint, 0.92))
        model.face([(s * half * 0.97, y, z) for z, y in ((divide + 0.5, 1.3), (front - 0.12, 1.3), (front - 0.38, 2.15), (divide + 0.5, 2.15))], GLASS, solid=False)
    slope = (front + 0.03, 1.3), (front - 0.27, 2.25)
    for share, colour in ((0.0, GLASS), (0.5, mixed(GLASS, GLASS_LIT, 0.6))):
        z, y = slope[0][0] + (slope[1][0] - slope[0][0]) * share, slope[0][1] + (slope[1][1] - slope[0][1]) * share
        model.face([(-half * 0.88, y, z + 0.01), (half * 0.88, y, z + 0.01), (half * 0.88, slope[1][1], slope[1][0] + 0.01), (-half * 0.88, slope[1][1], slope[1][0] + 0.01)], colour, solid=False)
    nose: list[Cell] = [(-half * 0.6, 0.8, half * 0.6, 1.15, BLACK), (-half * 0.96, 0.45, half * 0.96, 0.72, scaled(paint, 0.5))]
    nose += [(s * half * 0.78 - 0.16, 0.78, s * half * 0.78 + 0.16, 1.0, WHITE) for s in (-1, 1)] + [(-0.26, 0.52, 0.26, 0.68, PLATE)]
    end(model, front + 0.035, nose)
    hubs(model, width, axles[1:], radius)
    lamps(model, half, rear, front, 0.7, 0.9)
    return model


def tram(rng: np.random.Generator) -> Model:
    """A light-rail train looking along +z: long, with a band of windows and a rounded nose at both ends."""
    length, width, height = float(rng.uniform(18, 26)), 2.55, 3.5
    half, low = width / 2, 0.3
    paint = _pick(rng, _TRAM_PAINTS)
    body: Colour = (222, 222, 220)
    model = Model(centre=(0.0, height / 2, 0.0))
    inner = length / 2 - 1.1
    model.box((-half * 0.85, 0.05, -inner), (half * 0.85, low, inner), (40, 40, 40), sides="xXzZ")
    outline = [(-inner, low), (inner, low), (length / 2 - 0.1, 0.75), (length / 2, 1.3), (inner + 0.35, 3.0), (inner, height - 0.2), (-inner, height - 0.2), (-inner - 0.35, 3.0), (-length / 2, 1.3), (-length / 2 + 0.1, 0.75)]
    for (z1, y1), (z2, y2) in zip(outline, [*outline[1:], outline[0]], strict=True):
        model.face([(-half, y1, z1), (half, y1, z1), (half, y2, z2), (-half, y2, z2)], paint if y1 < 2 else body)
    for s in (-1, 1):
        model.face([(s * half, y, z) for z, y in outline], body)
    cells: list[Cell] = [(-inner, low, inner, 0.95, paint), (-inner, 2.75, inner, 2.95, paint)]
    for z in np.arange(-inner + 0.3, inner - 1.5, 1.9).tolist():
        _lit_panes(cells, z, 1.4, z + 1.6, 2.55)
    cells += [(z, 0.5, z + 1.3, 2.6, scaled(GLASS, 0.8)) for z in (-inner * 0.55, inner * 0.4)]
    cells += [(-0.25, low, 0.25, height - 0.2, (55, 55, 55))]
    sides(model, half, cells)
    for s in (-1, 1):
        base, top = (s * (length / 2 + 0.01), 1.42), (s * (inner + 0.42), 2.85)
        model.face([(-half * 0.85, base[1], base[0]), (half * 0.85, base[1], base[0]), (half * 0.78, top[1], top[0]), (-half * 0.78, top[1], top[0])], GLASS, solid=False)
        mid = ((base[0] + top[0]) / 2 + s * 0.01, 2.15)
        model.face([(-half * 0.8, mid[1], mid[0]), (half * 0.8, mid[1], mid[0]), (half * 0.78, top[1], top[0] + s * 0.01), (-half * 0.78, top[1], top[0] + s * 0.01)], mixed(GLASS, GLASS_LIT, 0.6), solid=False)
        end(model, s * (length / 2 + 0.03), [(x * half * 0.7 - 0.2, 0.95, x * half * 0.7 + 0.2, 1.2, WHITE if s > 0 else RED) for x in (-1, 1)])
        end(model, s * (inner + 0.42), [(-half * 0.5, 2.92, half * 0.5, 3.12, AMBER)])
    model.box((-half * 0.7, height - 0.2, -inner * 0.9), (half * 0.7, height, inner * 0.9), (120, 120, 120))
    model.stroke([(0.0, height, -1.0), (0.0, height + 0.9, 0.0), (0.0, height, 1.0)], 0.06, (50, 50, 50))
    lamps(model, half * 0.9, -length / 2, length / 2, 1.05, 1.05)
    return model
