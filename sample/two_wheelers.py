"""Scooters, motorcycles and bicycles, with those who ride them."""

import math

from sample.people import METAL, Looks, darker, seated
from sample.shapes import Colour, Model, Point

_TYRE: Colour = (32, 30, 30)
_BLACK: Colour = (45, 45, 45)
_SADDLE: Colour = (34, 32, 32)
_PLATE: Colour = (225, 230, 230)
_RED: Colour = (40, 40, 225)
_WHITE: Colour = (235, 245, 250)
_TAIL_GLOW: Colour = (40, 40, 255)
_HEAD_GLOW: Colour = (220, 240, 255)
_RING = [(math.cos(i * math.pi / 10), math.sin(i * math.pi / 10)) for i in range(21)]


def _wheel(model: Model, z: float, radius: float, width: float) -> None:
    model.disc((0.0, radius, z), radius, width, _TYRE)
    model.disc((0.0, radius, z), radius * 0.62, width * 1.04, (110, 110, 112))
    model.disc((0.0, radius, z), radius * 0.22, width * 1.2, (60, 60, 60))


def _lights(model: Model, tail: Point, head: Point) -> None:
    """A tail light above the plate and a headlight, lit in the dark."""
    x, y, z = tail
    model.slab([(0.13, y - 0.05, z), (0.13, y + 0.04, z)], _RED, solid=False)
    model.slab([(0.1, y - 0.25, z), (0.1, y - 0.11, z)], _PLATE)
    model.ball(head, 0.08, _WHITE, solid=False)
    model.lamp((x, y, z - 0.04), _TAIL_GLOW, 0.10, (0.0, 0.0, -1.0))
    model.lamp((head[0], head[1], head[2] + 0.06), _HEAD_GLOW, 0.12, (0.0, 0.0, 1.0))


def _mirrors(model: Model, y: float, z: float) -> None:
    for side in (-1, 1):
        model.stroke([(side * 0.28, y - 0.2, z), (side * 0.36, y, z)], 0.02, _BLACK)
        model.capsule((side * 0.36, y + 0.01, z), (side * 0.42, y + 0.02, z), (0.055, 0.05), (70, 70, 72))


def motorcycle(looks: Looks, *, scooter: bool, separate: bool) -> Model:
    """A step-through scooter or a heavier machine, and its rider (owner 1 if `separate`), driving towards +z."""
    model = Model(sort=True)
    body, dark = looks.body, darker(looks.body, 0.7)
    if scooter:
        for z in (-0.58, 0.62):
            _wheel(model, z, 0.25, 0.13)
        floor = [(0.13, 0.28, -0.35), (0.13, 0.22, 0.4), (0.13, 0.36, 0.42), (0.13, 0.36, -0.3)]
        tail = [(0.19, 0.42, -0.82), (0.19, 0.66, -0.86), (0.19, 0.72, -0.1), (0.19, 0.40, -0.2)]
        tail_lit = [(0.15, 0.52, -0.82), (0.15, 0.66, -0.86), (0.15, 0.71, -0.22), (0.15, 0.52, -0.32)]
        saddle = [(0.15, 0.70, -0.74), (0.15, 0.80, -0.72), (0.15, 0.79, -0.05), (0.15, 0.70, -0.06)]
        shield = [(0.2, 0.32, 0.42), (0.23, 0.62, 0.36), (0.18, 0.92, 0.28), (0.16, 0.9, 0.4), (0.14, 0.4, 0.6)]
        shield_lit = [(0.16, 0.4, 0.61), (0.2, 0.62, 0.49), (0.16, 0.88, 0.43)]
        mudguard = [(0.1, 0.42, 0.46), (0.1, 0.5, 0.72), (0.1, 0.47, 0.82), (0.1, 0.4, 0.8)]
        model.slab(floor, dark)
        model.slab(tail, dark)
        model.slab(tail_lit, body, solid=False, sides=(-1.0, 0.6))
        model.slab(saddle, _SADDLE)
        model.slab(shield, dark)
        model.slab(shield_lit, body, solid=False, sides=(-1.0, 0.6))
        model.slab(mudguard, body)
        model.capsule((0.0, 0.45, 0.6), (0.0, 0.28, 0.64), (0.05, 0.05), METAL)
        model.capsule((-0.32, 1.0, 0.3), (0.32, 1.0, 0.3), (0.035, 0.035), _BLACK)
        model.capsule((-0.1, 0.98, 0.36), (0.1, 0.98, 0.36), (0.08, 0.08), body)
        _mirrors(model, 1.2, 0.28)
        _lights(model, (0.0, 0.61, -0.87), (0.0, 0.98, 0.44))
    else:  # big wheels and a tank
        for z in (-0.68, 0.74):
            _wheel(model, z, 0.32, 0.16)
        engine = [(0.15, 0.25, -0.25), (0.15, 0.25, 0.35), (0.15, 0.58, 0.38), (0.15, 0.6, -0.3)]
        tank = [(0.16, 0.62, -0.1), (0.16, 0.66, 0.45), (0.16, 0.92, 0.4), (0.16, 0.86, -0.05)]
        tank_lit = [(0.12, 0.72, -0.1), (0.12, 0.76, 0.4), (0.12, 0.92, 0.36), (0.12, 0.86, -0.07)]
        rear = [(0.14, 0.66, -0.1), (0.14, 0.8, -0.1), (0.14, 0.92, -0.85), (0.14, 0.76, -0.85), (0.14, 0.6, -0.5)]
        saddle = [(0.13, 0.80, -0.05), (0.13, 0.86, -0.1), (0.13, 0.94, -0.8), (0.13, 0.88, -0.8)]
        mudguard = [(0.12, 0.62, 0.8), (0.12, 0.68, 0.9), (0.12, 0.66, 0.55), (0.12, 0.6, 0.55)]
        fairing = [(0.17, 0.82, 0.5), (0.17, 0.9, 0.78), (0.17, 1.1, 0.62), (0.17, 1.08, 0.5)]
        model.slab(engine, (70, 68, 66))
        model.slab(tank, dark)
        model.slab(tank_lit, body, solid=False, sides=(-1.0, 0.5))
        model.slab(rear, dark)
        model.slab(saddle, _SADDLE)
        model.slab(mudguard, body)
        model.slab(fairing, body)
        for side in (-1, 1):
            model.capsule((side * 0.12, 0.36, 0.74), (side * 0.12, 0.95, 0.5), (0.035, 0.035), METAL)
        model.capsule((0.2, 0.34, -0.2), (0.22, 0.48, -0.8), (0.05, 0.07), METAL)
        model.capsule((-0.36, 1.03, 0.38), (0.36, 1.03, 0.38), (0.03, 0.03), _BLACK)
        _mirrors(model, 1.2, 0.4)
        _lights(model, (0.0, 0.84, -0.88), (0.0, 0.92, 0.78))

    model.owner = int(separate)
    if not scooter:
        feet = (0.2, 0.42, -0.1), (-0.2, 0.42, -0.1)
        seated(model, looks, (0.0, 0.9, -0.28), 0.38, (0.33, 1.05, 0.36), feet, helmet=True)
        return model
    feet = (0.14, 0.42, 0.16), (-0.14, 0.42, 0.16)
    seated(model, looks, (0.0, 0.84, -0.22), 0.16, (0.3, 1.02, 0.28), feet, helmet=True)
    if looks.passenger:
        feet = (0.22, 0.36, -0.35), (-0.22, 0.36, -0.35)
        seated(model, looks, (0.0, 0.86, -0.60), 0.1, (0.16, 1.05, -0.25), feet, helmet=True)
    return model


def bicycle(looks: Looks, seconds: float, *, separate: bool) -> Model:
    """Thin wheels, a frame of tubes and an upright rider who pedals (owner 1 if `separate`)."""
    model = Model(sort=True)
    rear, front = -0.53, 0.55
    for z in (rear, front):
        model.stroke([(0.0, 0.34 + 0.33 * sin, z + 0.33 * cos) for cos, sin in _RING], 0.05, _TYRE)
        model.stroke([(0.0, 0.34 + 0.30 * sin, z + 0.30 * cos) for cos, sin in _RING], 0.012, METAL)
        for spoke in range(4):
            turned = looks.phase - seconds * 12 + spoke * math.pi / 4
            dy, dz = 0.31 * math.sin(turned), 0.31 * math.cos(turned)
            model.stroke([(0.0, 0.34 + dy, z + dz), (0.0, 0.34 - dy, z - dz)], 0.006, METAL)
        model.stroke([(0.0, 0.34 + 0.38 * sin, z + 0.38 * cos) for cos, sin in _RING[1:10]], 0.03, looks.body)
    crank, seat, head, hub = (0.0, 0.32, -0.08), (0.0, 0.84, -0.22), (0.0, 0.82, 0.38), (0.0, 0.34, rear)
    tubes = (crank, seat), (crank, head), ((0.0, 0.78, -0.2), head), (seat, hub), (crank, hub)
    for start, stop in (*tubes, ((0.0, 1.0, 0.33), (0.0, 0.34, front))):
        model.capsule(start, stop, (0.026, 0.026), looks.body)
    model.capsule((-0.27, 1.02, 0.3), (0.27, 1.02, 0.3), (0.022, 0.022), _BLACK)
    model.capsule((0.0, 0.92, -0.32), (0.0, 0.92, -0.12), (0.075, 0.04), _SADDLE)
    if looks.basket:
        basket = [(0.17, 0.95, 0.42), (0.17, 0.95, 0.68), (0.13, 0.72, 0.46), (0.13, 0.72, 0.64)]
        model.slab(basket, (95, 120, 140))
    model.ball((0.0, 0.76, -0.4), 0.05, _RED)
    model.lamp((0.0, 0.76, -0.46), _TAIL_GLOW, 0.05, (0.0, 0.0, -1.0))
    model.owner = int(separate)
    dy, dz = 0.16 * math.sin(looks.phase + seconds * 8), 0.16 * math.cos(looks.phase + seconds * 8)
    feet = (0.14, 0.36 + dy, -0.06 + dz), (-0.14, 0.36 - dy, -0.06 - dz)
    seated(model, looks, (0.0, 0.97, -0.22), 0.3, (0.25, 1.04, 0.28), feet, helmet=looks.cycle_helmet)
    return model
