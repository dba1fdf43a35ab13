"""The houses along a street."""

from functools import cache

import numpy as np

from sample.bodywork import scaled
from sample.roadside import ADVERTS
from sample.shapes import UNLABELLED, Colour, Model, pick

_WALLS: tuple[Colour, ...] = (
    (150, 165, 180), (120, 140, 170), (95, 110, 150), (175, 180, 185), (140, 150, 150), (110, 125, 140),
    (160, 180, 200), (85, 95, 125),
)  # fmt: skip
_LIT: tuple[Colour, ...] = ((120, 200, 250), (160, 220, 250), (100, 170, 230))
_LIT_SHOPS: tuple[Colour, ...] = ((120, 200, 250), (190, 225, 245))
_SHOPS: tuple[Colour, ...] = ((85, 80, 75), (60, 58, 55), (110, 105, 95))
_STOREY = 3.1  # metres


@cache
def house(number: int, side: int, *, shops: bool, dark: bool) -> tuple[Model, float]:
    """One of a fixed stock of houses: the model and its length along the road in metres.

    Its front lies at x = 0 from z = 0 on; `side` +1 stands right of the road; windows are lit if it is `dark`.
    """
    rng = np.random.default_rng((number, side + 1, shops, dark))
    length = float(rng.uniform(8, 18))
    storeys = int(rng.integers(2, 7)) if shops else int(rng.integers(1, 4))
    height = storeys * _STOREY + 0.9
    wall = pick(rng, _WALLS)
    glass: Colour = (55, 48, 42) if dark else (120, 110, 100)
    model = Model(owner=UNLABELLED)
    model.box((min(0.0, side * 14.0), 0.0, 0.0), (max(0.0, side * 14.0), height, length), wall, sides="xXyzY")
    model.centre = (side * 5.0, height / 2, length / 2)
    front = -side * 0.02
    columns = max(2, int(length / rng.uniform(2.2, 3.4)))
    step = length / columns

    def window(shade: float) -> tuple[Colour, bool]:
        lit = dark and bool(rng.random() < 0.35)
        return (pick(rng, _LIT), True) if lit else (scaled(glass, shade), False)

    for floor in range(1 if shops else 0, storeys):
        low = floor * _STOREY + 1.0
        model.along(front, (0.0, low - 0.15, length, low), scaled(wall, 1.12))
        for column in range(columns):
            z = (column + 0.22) * step
            colour, glow = window(float(rng.uniform(0.7, 1.25)))
            model.along(front, (z, low, z + step * 0.56, low + 1.45), colour, glow=glow)
        for column in range(3):
            x = side * (0.9 + column * 3.0)
            colour, glow = window(0.9)
            model.across(-0.02, (x, low, x + side * 1.5, low + 1.4), colour, glow=glow)

    # Shop windows with doors, an awning above them, and signs that stick out over the pavement.
    start = 0.0
    while shops and start < length - 2.0:
        stop = min(start + float(rng.uniform(3.0, 5.5)), length)
        middle, width = (start + stop) / 2, stop - start
        lit = dark and bool(rng.random() < 0.6)
        pane = pick(rng, _LIT_SHOPS if lit else _SHOPS)
        model.along(-side * 0.03, (start + 0.2, 0.15, stop - 0.2, 2.4), pane, glow=lit)
        model.along(-side * 0.04, (middle - 0.1 * width, 0.1, middle + 0.1 * width, 2.2), scaled(pane, 0.6))
        out = -side * float(rng.uniform(0.2, 0.9))
        awning = (0.0, 3.25), (out, 3.1), (out, 2.6), (0.0, 2.6)
        model.hull([(x, y, z) for z in (start + 0.1, stop - 0.1) for x, y in awning], pick(rng, ADVERTS))
        if rng.random() < 0.5:
            top, reach = float(rng.uniform(5.0, 8.0)), -side * 0.9
            board = (min(0.0, reach), 3.4, middle), (max(0.0, reach), top, middle + 0.2)
            model.box(*board, pick(rng, ADVERTS), sides="xXzY")
            letters = pick(rng, ADVERTS)
            for y in np.arange(3.4 + 0.3, top - 0.4, 0.75).tolist():
                model.across(middle - 0.02, (reach * 0.25, y, reach * 0.75, y + 0.45), letters)
        start = stop
    model.along(front, (0.0, height - 0.35, length, height), scaled(wall, 0.75))
    return model, length
