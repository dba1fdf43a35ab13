"""What stands along a street: houses, trees, lamps, signs, traffic lights and clutter that is no traffic."""

from collections.abc import Callable
from functools import cache

import numpy as np

from mobile_centernet.data.synthetic.bodywork import mixed, scaled
from mobile_centernet.data.synthetic.shapes import Colour, Model, Point

_WALLS: tuple[Colour, ...] = (
    (150, 165, 180), (120, 140, 170), (95, 110, 150), (175, 180, 185), (140, 150, 150), (110, 125, 140), (160, 180, 200), (85, 95, 125),
)  # fmt: skip
_ADVERTS: tuple[Colour, ...] = ((60, 60, 200), (60, 170, 230), (170, 90, 40), (90, 150, 60), (220, 220, 220), (160, 60, 140), (40, 40, 40))
_LEAVES: tuple[Colour, ...] = ((40, 95, 60), (45, 110, 85), (35, 80, 45), (50, 120, 110), (55, 105, 70))
_GREY: Colour = (120, 118, 116)
_WARM: Colour = (120, 200, 250)
STOCK = 40
"""How many different houses and trees there are of a kind."""
UNLABELLED = -1
"""The owner of parts that are no object."""


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...], spread: float = 0.15) -> Colour:
    return scaled(colours[int(rng.integers(len(colours)))], float(rng.uniform(1 - spread, 1 + spread)))


def _clutter() -> Model:
    return Model(owner=UNLABELLED)


@cache
def pooled_house(number: int, side: int, *, shops: bool, dark: bool) -> tuple[Model, float]:
    """One of a fixed stock of houses, built once per process: the model and its depth along the road."""
    rng = np.random.default_rng((number, side + 1, shops, dark))
    depth = float(rng.uniform(8, 18))
    return house(rng, side, depth, shops=shops, dark=dark), depth


@cache
def pooled_tree(number: int) -> Model:
    """One of a fixed stock of trees, built once per process."""
    return tree(np.random.default_rng((number, 7)))


def house(rng: np.random.Generator, side: int, depth: float, *, shops: bool, dark: bool) -> Model:
    """A house whose wall to the road is at x = 0; `side` +1 stands right of the road."""
    storeys = int(rng.integers(2, 7)) if shops else int(rng.integers(1, 4))
    storey = 3.1
    height = storeys * storey + 0.9
    wall = _pick(rng, _WALLS)
    model = _clutter()
    model.box((min(0.0, side * 14.0), 0.0, 0.0), (max(0.0, side * 14.0), height, depth), wall, sides="xXyzY")
    glass = (120.0, 110.0, 100.0) if not dark else (55.0, 48.0, 42.0)
    count = max(2, int(depth / rng.uniform(2.2, 3.4)))
    step = depth / count
    first = 1 if shops else 0
    x = -side * 0.02
    model.centre = (side * 5.0, height / 2, depth / 2)
    for floor in range(first, storeys):
        low = floor * storey + 1.0
        model.face([(x, low - 0.15, 0.0), (x, low - 0.15, depth), (x, low, depth), (x, low, 0.0)], scaled(wall, 1.12))
        for column in range(count):
            z = column * step + step * 0.22
            lit = dark and rng.random() < 0.35
            pane = _pick(rng, (_WARM, (160, 220, 250), (100, 170, 230))) if lit else scaled(glass, float(rng.uniform(0.7, 1.25)))
            _pane(model, x, low, z, step * 0.56, 1.45, pane, glow=lit)
    for floor in range(first, storeys):
        low = floor * storey + 1.0
        for column in range(3):
            left = side * (0.9 + column * 3.0)
            lit = dark and rng.random() < 0.35
            model.face(
                [(left, low, -0.02), (left + side * 1.5, low, -0.02), (left + side * 1.5, low + 1.4, -0.02), (left, low + 1.4, -0.02)],
                _WARM if lit else scaled(glass, 0.9),
                glow=lit,
            )
    if shops:
        _shopfront(model, rng, side, depth, dark)
    model.face([(x, height - 0.35, 0.0), (x, height - 0.35, depth), (x, height, depth), (x, height, 0.0)], scaled(wall, 0.75))
    return model


def _pane(model: Model, x: float, low: float, z: float, width: float, height: float, colour: Colour, *, glow: bool) -> None:
    model.face([(x, low, z), (x, low, z + width), (x, low + height, z + width), (x, low + height, z)], colour, glow=glow)


def _shopfront(model: Model, rng: np.random.Generator, side: int, depth: float, dark: bool) -> None:
    """Shop windows, an awning board above them and signs that stick out over the pavement."""
    x = -side * 0.03
    start = 0.0
    while start < depth - 2.0:
        width = min(float(rng.uniform(3.0, 5.5)), depth - start)
        lit = dark and rng.random() < 0.6
        window = _pick(rng, (_WARM, (190, 225, 245))) if lit else _pick(rng, ((85, 80, 75), (60, 58, 55), (110, 105, 95)))
        model.face([(x, 0.15, start + 0.2), (x, 0.15, start + width - 0.2), (x, 2.4, start + width - 0.2), (x, 2.4, start + 0.2)], window, glow=lit)
        model.face([(x, 0.1, start + width * 0.4), (x, 0.1, start + width * 0.6), (x, 2.2, start + width * 0.6), (x, 2.2, start + width * 0.4)], scaled(window, 0.6))
        board = _pick(rng, _ADVERTS)
        out = -side * float(rng.uniform(0.2, 0.9))
        model.hull([(a, y, z) for z in (start + 0.1, start + width - 0.1) for a, y in ((0.0, 3.25), (out, 3.1), (out, 2.6), (0.0, 2.6))], board)
        if rng.random() < 0.5:
            low, high, reach = 3.4, float(rng.uniform(5.0, 8.0)), -side * 0.9
            z = start + width / 2
            model.box((min(0.0, reach), low, z), (max(0.0, reach), high, z + 0.2), _pick(rng, _ADVERTS), sides="xXzY")
            stripe = _pick(rng, _ADVERTS)
            for y in np.arange(low + 0.3, high - 0.4, 0.75).tolist():
                model.face([(reach * 0.25, y, z - 0.02), (reach * 0.75, y, z - 0.02), (reach * 0.75, y + 0.45, z - 0.02), (reach * 0.25, y + 0.45, z - 0.02)], stripe)
        start += width


def tree(rng: np.random.Generator) -> Model:
    """A street tree: a trunk and a crown of leafy lumps, darker below."""
    model = _clutter()
    height = float(rng.uniform(4.0, 7.5))
    crown = height * float(rng.uniform(0.28, 0.36))
    leaf = _pick(rng, _LEAVES, 0.2)
    model.capsule((0.0, 0.0, 0.0), (float(rng.normal(0, 0.1)), height * 0.6, 0.0), (0.16, 0.10), (60, 75, 90))
    blobs: list[tuple[float, Point, float]] = []
    for _ in range(16):
        angle, ring = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random()) * crown * 0.72
        x, y = float(np.cos(angle) * ring), float(height * 0.7 + np.sin(angle) * ring * 0.85)
        blobs.append((y + x * 0.3, (x, y, float(rng.normal(0, 0.3))), float(crown * rng.uniform(0.32, 0.5))))
    for rank, (_, at, radius) in enumerate(sorted(blobs, key=lambda blob: blob[0])):
        shade = 0.62 + 0.55 * rank / len(blobs)
        ring_points = [
            (at[0] + radius * float(r * np.cos(a)), at[1] + radius * float(r * np.sin(a)), at[2])
            for a, r in zip(np.arange(11) * 2 * np.pi / 11, rng.uniform(0.82, 1.12, 11), strict=True)
        ]
        model.face([(x, y, -0.5) for x, y, _ in ring_points], scaled(leaf, shade))
    return model


def street_lamp(rng: np.random.Generator, side: int) -> Model:
    """A mast with an arm over the road."""
    model = _clutter()
    height = float(rng.uniform(6.0, 8.0))
    model.capsule((0.0, 0.0, 0.0), (0.0, height, 0.0), (0.09, 0.05), _GREY)
    model.capsule((0.0, height, 0.0), (-side * 1.6, height + 0.3, 0.0), (0.05, 0.04), _GREY)
    model.capsule((-side * 1.6, height + 0.28, 0.0), (-side * 2.1, height + 0.28, 0.0), (0.10, 0.08), (140, 140, 140))
    model.lamp((-side * 1.9, height + 0.2, 0.0), (150, 215, 255), 0.28)
    return model


def pole(rng: np.random.Generator) -> Model:
    """A bare pole, sometimes with a cabinet."""
    model = _clutter()
    model.capsule((0.0, 0.0, 0.0), (0.0, float(rng.uniform(5, 9)), 0.0), (0.12, 0.09), _pick(rng, ((95, 105, 115), (70, 85, 100))))
    if rng.random() < 0.5:
        model.box((-0.2, 1.0, -0.25), (0.2, 1.6, -0.05), (140, 145, 140))
    return model


def bin_(rng: np.random.Generator) -> Model:
    """A litter bin or a wheeled one."""
    model = _clutter()
    colour = _pick(rng, ((70, 110, 60), (130, 90, 50), (60, 60, 60), (50, 120, 180)))
    height = float(rng.uniform(0.85, 1.15))
    model.hull([(s * w, y, d * w) for s in (-1, 1) for d in (-1, 1) for w, y in ((0.22, 0.05), (0.3, height))], scaled(colour, 0.85))
    model.hull([(s * 0.32, y, d * 0.32) for s in (-1, 1) for d in (-1, 1) for y in (height, height + 0.1)], scaled(colour, 0.65))
    return model


def hydrant(rng: np.random.Generator) -> Model:
    """A hydrant."""
    model = _clutter()
    colour = _pick(rng, ((50, 60, 200), (60, 190, 230), (190, 190, 190)))
    model.capsule((0.0, 0.1, 0.0), (0.0, 0.65, 0.0), (0.16, 0.13), colour)
    model.capsule((-0.22, 0.5, 0.0), (0.22, 0.5, 0.0), (0.08, 0.08), scaled(colour, 0.8))
    return model


def cone(rng: np.random.Generator) -> Model:
    """A traffic cone."""
    model = _clutter()
    model.hull([(s * 0.2, y, d * 0.2) for s in (-1, 1) for d in (-1, 1) for y in (0.0, 0.05)], (30, 60, 160))
    model.capsule((0.0, 0.08, 0.0), (0.0, 0.7, 0.0), (0.15, 0.03), (40, 95, 235))
    model.capsule((0.0, 0.36, 0.0), (0.0, 0.46, 0.0), (0.10, 0.08), (225, 225, 225))
    return model


def bollard(rng: np.random.Generator) -> Model:
    """A bollard with a reflecting band."""
    model = _clutter()
    model.capsule((0.0, 0.0, 0.0), (0.0, 0.9, 0.0), (0.09, 0.09), _pick(rng, ((60, 60, 60), (50, 140, 220), (110, 110, 110))))
    model.capsule((0.0, 0.7, 0.0), (0.0, 0.76, 0.0), (0.095, 0.095), (220, 220, 220))
    return model


def hedge(rng: np.random.Generator) -> Model:
    """A hedge or planter along the pavement."""
    model = _clutter()
    leaf, length = _pick(rng, _LEAVES), float(rng.uniform(1.5, 4.0))
    model.box((-0.35, 0.0, -length / 2), (0.35, 0.4, length / 2), (120, 130, 140))
    for z in np.arange(length / 2 - 0.2, -length / 2, -0.45).tolist():
        shade = float(rng.uniform(0.7, 1.15))
        model.capsule((float(rng.normal(0, 0.08)), 0.62, z), (0.0, 0.72, z), (0.42, 0.34), scaled(leaf, shade))
    return model


def stall(rng: np.random.Generator) -> Model:
    """A kiosk or bus shelter."""
    model = _clutter()
    colour = _pick(rng, _ADVERTS)
    model.sort = True
    for x in (-0.7, 0.7):
        for z in (-1.4, 1.4):
            model.capsule((x, 0.0, z), (x, 2.3, z), (0.05, 0.05), _GREY)
    model.hull([(s * 0.95, y, d * 1.7) for s in (-1, 1) for d in (-1, 1) for y in (2.3, 2.42)], scaled(colour, 0.9))
    model.hull([(s * 0.25 + 0.3, y, d * 1.0) for s in (-1, 1) for d in (-1, 1) for y in (0.4, 0.5)], (100, 110, 120))
    model.hull([(0.75, y, d * 1.35) for d in (-1, 1) for y in (0.5, 2.0)], mixed(colour, (200, 200, 200), 0.5))
    return model


def advert(rng: np.random.Generator) -> Model:
    """A poster panel: as big as a car seen from behind, and none."""
    model = _clutter()
    colour, width, low = _pick(rng, _ADVERTS), float(rng.uniform(0.6, 1.3)), float(rng.uniform(0.3, 1.2))
    model.capsule((0.0, 0.0, 0.05), (0.0, low, 0.05), (0.07, 0.07), _GREY)
    model.box((-width, low, 0.0), (width, low + 1.6, 0.15), (70, 70, 70))
    model.centre = (0.0, low + 0.8, 1.0)
    model.face([(-width * 0.94, low + 0.06, -0.01), (width * 0.94, low + 0.06, -0.01), (width * 0.94, low + 1.54, -0.01), (-width * 0.94, low + 1.54, -0.01)], colour)
    model.face([(-width * 0.7, low + 0.3, -0.02), (width * 0.3, low + 0.3, -0.02), (width * 0.5, low + 0.9, -0.02), (-width * 0.5, low + 1.1, -0.02)], _pick(rng, _ADVERTS))
    return model


CLUTTER: tuple[tuple[Callable[[np.random.Generator], Model], float], ...] = (
    (bin_, 1.2), (hydrant, 0.6), (cone, 0.8), (bollard, 1.5), (hedge, 1.5), (stall, 0.5), (advert, 0.8), (pole, 1.2),
)  # fmt: skip


def _disc(at: Point, radius: float, corners: int, tilt: float = 0.0) -> list[Point]:
    angles = tilt + np.arange(corners) * 2 * np.pi / corners
    return [(at[0] + radius * float(np.cos(a)), at[1] + radius * float(np.sin(a)), at[2]) for a in angles]


def traffic_sign(rng: np.random.Generator) -> Model:
    """A sign on a post that faces the camera; the plate alone is the object (owner 0)."""
    model = _clutter()
    height, size, style = float(rng.uniform(2.1, 2.9)), float(rng.uniform(0.34, 0.5)), int(rng.integers(6))
    model.capsule((0.0, 0.0, 0.04), (0.0, height + size, 0.04), (0.045, 0.045), _GREY)
    model.owner, model.centre = 0, (0.0, height, 1.0)
    at: Point = (0.0, height, 0.0)
    rim, field_, shape = (
        ((40, 40, 205), (235, 238, 238), 20), ((235, 235, 235), (45, 45, 205), 8), ((40, 40, 205), (240, 240, 240), 3),
        ((30, 30, 30), (50, 195, 245), 4), ((235, 235, 235), (170, 90, 30), 20), ((235, 235, 235), (90, 130, 40), 40),
    )[style]  # fmt: skip
    if shape == 40:
        wide = size * 1.7
        for grow, colour in ((1.0, rim), (0.92, field_)):
            model.face([(x * wide * grow, height + y * size * 0.75 * grow, 0.0 if grow == 1.0 else -0.01) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))], colour)
        for y in (0.3, -0.25):
            model.face([(x * wide * 0.7, height + (y + d) * size, -0.02) for x, d in ((-1, -0.1), (0.6, -0.1), (0.6, 0.1), (-1, 0.1))], (235, 235, 235), solid=False)
        return model
    tilt = np.pi / 2 if shape in (3, 4) else np.pi / 8
    model.face(_disc(at, size, shape, tilt), rim)
    model.face(_disc((0.0, height, -0.01), size * 0.76, shape, tilt), field_, solid=False)
    mark = (235, 235, 235) if style in (1, 4) else (30, 30, 35)
    model.face([(x * size * 0.42, height + y * size * 0.13, -0.02) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))], mark, solid=False)
    return model


def traffic_light(rng: np.random.Generator, colour: str, side: int, *, overhead: bool) -> Model:
    """A mast with a lit signal head (owner 0) whose `colour` is G, Y or R; `overhead` hangs it on an arm."""
    model = _clutter()
    height = 5.2 if overhead else 3.0
    x = -side * float(rng.uniform(3.0, 5.0)) if overhead else 0.0
    model.capsule((0.0, 0.0, 0.1), (0.0, height + 0.3, 0.1), (0.1, 0.08), _GREY)
    if overhead:
        model.capsule((0.0, height + 0.25, 0.1), (x, height + 0.25, 0.1), (0.07, 0.05), _GREY)
    model.owner = 0
    body: Colour = (35, 40, 38) if rng.random() < 0.6 else (50, 165, 215)
    model.box((x - 0.22, height - 0.6, -0.15), (x + 0.22, height + 0.55, 0.1), body)
    model.centre = (x, height, 1.0)
    lights = {"R": (height + 0.33, (40, 40, 255)), "Y": (height - 0.02, (40, 200, 255)), "G": (height - 0.37, (120, 255, 60))}
    for name, (y, bright) in lights.items():
        on = name == colour
        model.face(_disc((x, y, -0.17), 0.145, 12), bright if on else scaled(bright, 0.22), solid=False, glow=on)
        if on:
            model.lamp((x, y, -0.2), bright, 0.16)
    return model
