"""People on foot, and scooters, motorcycles and bicycles with those who ride them."""

from dataclasses import dataclass

import numpy as np

from mobile_centernet.data.synthetic.shapes import Colour, Model, Point

_SKINS: tuple[Colour, ...] = ((150, 180, 225), (120, 155, 205), (90, 125, 180), (60, 85, 130), (45, 60, 95))
_HAIRS: tuple[Colour, ...] = ((20, 20, 25), (30, 35, 50), (40, 60, 90), (90, 90, 95), (70, 130, 170))
_CLOTHES: tuple[Colour, ...] = (
    (40, 40, 45), (150, 75, 40), (60, 60, 190), (200, 200, 205), (70, 140, 70), (50, 160, 215), (130, 110, 100),
    (140, 60, 120), (200, 160, 90), (60, 90, 140), (90, 70, 60), (170, 140, 220),
)  # fmt: skip
_TROUSERS: tuple[Colour, ...] = ((120, 80, 50), (50, 45, 45), (35, 35, 40), (110, 130, 150), (90, 85, 80), (80, 55, 40))
_HELMETS: tuple[Colour, ...] = ((40, 40, 45), (210, 210, 215), (40, 40, 200), (200, 120, 40), (60, 190, 230), (190, 150, 220))
_BODIES: tuple[Colour, ...] = (
    (45, 45, 50), (215, 215, 220), (50, 50, 185), (170, 100, 40), (120, 150, 60), (70, 180, 225), (150, 130, 120),
)  # fmt: skip
_TYRE: Colour = (32, 30, 30)
_METAL: Colour = (150, 150, 150)


@dataclass(frozen=True, slots=True)
class Looks:
    """How one person looks and moves; drawn once per actor."""

    height: float
    build: float
    skin: Colour
    hair: Colour
    top: Colour
    trousers: Colour
    helmet: Colour
    body: Colour
    variant: float
    bag: Colour | None
    passenger: bool
    umbrella: Colour | None
    phase: float


def draw_looks(rng: np.random.Generator, *, wet: bool) -> Looks:
    """A person (and the machine below) drawn at random; people carry umbrellas when it is `wet`."""

    def pick(colours: tuple[Colour, ...]) -> Colour:
        base = np.array(colours[int(rng.integers(len(colours)))])
        blue, green, red = np.clip(base * rng.uniform(0.85, 1.15, 3), 8, 250).tolist()
        return (blue, green, red)

    child = rng.random() < 0.12
    return Looks(
        height=float(rng.uniform(1.1, 1.35) if child else rng.normal(1.70, 0.07)),
        build=float(rng.uniform(0.9, 1.25)),
        skin=pick(_SKINS),
        hair=pick(_HAIRS),
        top=pick(_CLOTHES),
        trousers=pick(_TROUSERS),
        helmet=pick(_HELMETS),
        body=pick(_BODIES),
        variant=float(rng.random()),
        bag=pick(_CLOTHES) if rng.random() < 0.35 else None,
        passenger=bool(rng.random() < 0.15),
        umbrella=pick(_CLOTHES) if wet and rng.random() < 0.45 else None,
        phase=float(rng.uniform(0, 2 * np.pi)),
    )


def _darker(colour: Colour, factor: float) -> Colour:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def _limb(model: Model, start: Point, stop: Point, radii: tuple[float, float], colour: Colour) -> None:
    """A capsule with a lit flank, so that it looks round."""
    model.capsule(start, stop, radii, _darker(colour, 0.78))
    lit = radii[0] * 0.3, radii[1] * 0.3
    model.capsule(
        (start[0] - lit[0], start[1] + lit[0] * 0.5, start[2] - 0.02),
        (stop[0] - lit[1], stop[1] + lit[1] * 0.5, stop[2] - 0.02),
        (radii[0] * 0.6, radii[1] * 0.6),
        colour,
        solid=False,
    )


def _torso(model: Model, hips: Point, shoulders: Point, width: float, colour: Colour) -> None:
    """From belt to shoulders; `width` is the half distance of the shoulders."""
    hx, hy, hz = hips
    sx, sy, sz = shoulders
    depth = width * 0.48
    model.hull(
        [(hx + s * width * 0.72, hy - 0.06, hz + d * depth) for s in (-1, 1) for d in (-1, 1)]
        + [(sx + s * width * 0.92, sy - 0.07, sz + d * depth) for s in (-1, 1) for d in (-1, 1)]
        + [(sx + s * width * 0.55, sy + 0.02, sz) for s in (-1, 1)],
        _darker(colour, 0.82),
    )
    model.hull(
        [(hx + s * width * 0.6 - 0.03, hy, hz - depth * 1.05) for s in (-1, 0.55)]
        + [(sx + s * width * 0.8 - 0.03, sy - 0.08, sz - depth * 1.05) for s in (-1, 0.55)],
        colour,
        solid=False,
    )


def _head(model: Model, at: Point, radius: float, looks: Looks, *, helmet: bool) -> None:
    """Face ahead (+z), hair or helmet behind and on top."""
    x, y, z = at
    model.capsule((x, y - radius * 1.3, z), (x, y - radius * 0.6, z), (radius * 0.45, radius * 0.45), looks.skin)
    model.capsule((x, y - radius * 0.25, z + radius * 0.18), (x, y + radius * 0.1, z + radius * 0.15), (radius * 0.82, radius * 0.9), looks.skin)
    if helmet:
        _limb(model, (x, y + radius * 0.1, z - radius * 0.05), (x, y + radius * 0.25, z - radius * 0.05), (radius * 1.22, radius * 1.15), looks.helmet)
        visor = [(x + s * radius, y + d * radius, z + radius * 1.12) for s in (-0.8, 0.8) for d in (-0.35, 0.25)]
        model.hull(visor, (60, 50, 45), solid=False)
    else:
        model.capsule((x, y + radius * 0.2, z - radius * 0.25), (x, y + radius * 0.3, z - radius * 0.1), (radius * 1.0, radius * 0.92), looks.hair)
        if looks.variant > 0.55:
            model.capsule((x, y, z - radius * 0.5), (x, y - radius * 1.1, z - radius * 0.7), (radius * 0.85, radius * 0.6), looks.hair)


def pedestrian(looks: Looks, seconds: float, walking: bool) -> Model:
    """A person on foot, walking towards +z."""
    model = Model(sort=True)
    h, b = looks.height, looks.build
    swing = np.sin(looks.phase + seconds * 7.5) if walking else 0.08
    stride = 0.19 * h * swing
    hip, shoulder = 0.52 * h, 0.83 * h
    skirt = looks.variant > 0.8
    for side, step in ((-1, stride), (1, -stride)):
        x = side * 0.052 * h
        lift = 0.03 * h * max(0.0, -side * float(np.cos(looks.phase + seconds * 7.5))) if walking else 0.0
        knee = (x, 0.285 * h + lift, step * 0.55 + 0.02 * h)
        foot = (x, 0.05 * h + lift, step)
        shin = looks.skin if skirt else looks.trousers
        _limb(model, (x, hip, 0.0), knee, (0.052 * h * b, 0.042 * h * b), looks.trousers)
        _limb(model, knee, foot, (0.04 * h * b, 0.027 * h * b), shin)
        model.capsule((x, 0.028 * h + lift, step - 0.02 * h), (x, 0.022 * h + lift, step + 0.09 * h), (0.028 * h, 0.022 * h), (35, 35, 45))
        arm = -step * 0.85
        elbow = (side * 0.135 * h * b, 0.65 * h, arm * 0.4)
        hand = (side * 0.125 * h * b, 0.50 * h, arm + 0.03 * h)
        if looks.umbrella is not None and side > 0:
            elbow, hand = (0.14 * h * b, 0.66 * h, 0.02), (0.1 * h, 0.72 * h, 0.16)
        _limb(model, (side * 0.115 * h * b, 0.79 * h, 0.0), elbow, (0.034 * h * b, 0.03 * h * b), looks.top)
        _limb(model, elbow, hand, (0.028 * h * b, 0.02 * h * b), looks.top)
        model.capsule(hand, hand, (0.026 * h, 0.026 * h), looks.skin)
    if skirt:
        model.hull(
            [(s * 0.13 * h, 0.30 * h, d * 0.09 * h) for s in (-1, 1) for d in (-1, 1)]
            + [(s * 0.085 * h, 0.56 * h, d * 0.06 * h) for s in (-1, 1) for d in (-1, 1)],
            looks.trousers,
        )
    _torso(model, (0.0, hip, 0.0), (0.0, shoulder, 0.0), 0.118 * h * b, looks.top)
    if looks.bag is not None:
        _limb(model, (0.0, 0.60 * h, -0.10 * h), (0.0, 0.74 * h, -0.10 * h), (0.085 * h, 0.075 * h), looks.bag)
    _head(model, (0.0, 0.925 * h, 0.0), 0.068 * h, looks, helmet=False)
    if looks.umbrella is not None:
        top = 1.12 * h
        model.stroke([(0.1 * h, 0.72 * h, 0.16), (0.05 * h, top, 0.1)], 0.02, _METAL)
        rim = [(0.05 * h + 0.5 * np.cos(a), top - 0.12, 0.1 + 0.5 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 12)]
        model.hull([*rim, (0.05 * h, top + 0.12, 0.1)] + [(0.05 * h + 0.3 * s, top + 0.06, 0.1) for s in (-1, 1)], looks.umbrella)
    return model


def _rider(model: Model, looks: Looks, hips: Point, lean: float, hands: Point, feet: tuple[Point, Point], *, helmet: bool) -> None:
    """Somebody seated: `hands` and `feet` are given for the right side and mirrored (feet: right, left)."""
    x, y, z = hips
    b = looks.build
    reach = 0.50
    shoulders = (x, y + reach * np.cos(lean), z + reach * np.sin(lean))
    for side, foot in ((1, feet[0]), (-1, feet[1])):
        hip = (x + side * 0.1, y, z)
        knee = (x + side * 0.17 * b, max(foot[1] + 0.34, (y + foot[1]) / 2 + 0.12), max(z, foot[2]) + 0.16)
        _limb(model, hip, knee, (0.092 * b, 0.075 * b), looks.trousers)
        _limb(model, knee, foot, (0.07 * b, 0.045 * b), looks.trousers)
        model.capsule((foot[0], foot[1] - 0.03, foot[2] - 0.05), (foot[0], foot[1] - 0.03, foot[2] + 0.13), (0.05, 0.04), (40, 40, 45))
        shoulder = (shoulders[0] + side * 0.19 * b, shoulders[1] - 0.05, shoulders[2])
        elbow = (side * 0.29 * b, (shoulder[1] + hands[1]) / 2 - 0.06, (shoulder[2] + hands[2]) / 2 - 0.04)
        _limb(model, shoulder, elbow, (0.062 * b, 0.052 * b), looks.top)
        _limb(model, elbow, (side * hands[0], hands[1], hands[2]), (0.05 * b, 0.038 * b), looks.top)
    _torso(model, hips, shoulders, 0.205 * b, looks.top)
    if looks.bag is not None:
        _limb(model, (x, y + 0.15, z - 0.16), (x, y + 0.38, shoulders[2] - 0.17), (0.14, 0.13), looks.bag)
    _head(model, (shoulders[0], shoulders[1] + 0.19, shoulders[2] + 0.05), 0.118, looks, helmet=helmet)


def _wheel(model: Model, z: float, radius: float, width: float) -> None:
    model.disc((0.0, radius, z), radius, width, _TYRE)
    model.disc((0.0, radius, z), radius * 0.62, width * 1.04, (110, 110, 112))
    model.disc((0.0, radius, z), radius * 0.22, width * 1.2, (60, 60, 60))


def scooter(looks: Looks, *, separate: bool) -> Model:
    """A step-through scooter and its rider (owner 1 if `separate`), driving towards +z."""
    model = Model(sort=True)
    body, dark = looks.body, _darker(looks.body, 0.7)
    for z in (-0.58, 0.62):
        _wheel(model, z, 0.25, 0.13)
    model.hull([(s * 0.13, y, z) for s in (-1, 1) for y, z in ((0.28, -0.35), (0.22, 0.4), (0.36, 0.42), (0.36, -0.3))], dark)
    tail = ((0.42, -0.82), (0.66, -0.86), (0.72, -0.1), (0.40, -0.2))
    model.hull([(s * 0.19, y, z) for s in (-1, 1) for y, z in tail], dark)
    model.hull([(s * 0.15, y + 0.02, z - 0.02) for s in (-1, 0.6) for y, z in ((0.5, -0.8), (0.64, -0.84), (0.69, -0.2), (0.5, -0.3))], body, solid=False)
    model.hull([(s * 0.15, y, z) for s in (-1, 1) for y, z in ((0.70, -0.74), (0.80, -0.72), (0.79, -0.05), (0.70, -0.06))], (35, 32, 32))
    model.hull([(s * w, y, z) for s in (-1, 1) for w, y, z in ((0.2, 0.32, 0.42), (0.23, 0.62, 0.36), (0.18, 0.92, 0.28), (0.16, 0.9, 0.4), (0.14, 0.4, 0.6))], dark)
    model.hull([(s * w - 0.02, y, z + 0.03) for s in (-1, 0.7) for w, y, z in ((0.14, 0.4, 0.58), (0.19, 0.62, 0.46), (0.14, 0.88, 0.4))], body, solid=False)
    model.hull([(s * 0.1, y, z) for s in (-1, 1) for y, z in ((0.42, 0.46), (0.5, 0.72), (0.47, 0.82), (0.4, 0.8))], body)
    model.capsule((0.0, 0.45, 0.6), (0.0, 0.28, 0.64), (0.05, 0.05), _METAL)
    model.capsule((-0.32, 1.0, 0.3), (0.32, 1.0, 0.3), (0.035, 0.035), (45, 45, 45))
    model.capsule((-0.1, 0.98, 0.36), (0.1, 0.98, 0.36), (0.08, 0.08), body)
    for side in (-1, 1):
        model.stroke([(side * 0.26, 1.0, 0.3), (side * 0.36, 1.2, 0.28)], 0.02, (50, 50, 50))
        model.capsule((side * 0.36, 1.22, 0.28), (side * 0.42, 1.23, 0.28), (0.055, 0.05), (70, 70, 72))
    model.hull([(s * 0.13, y, -0.87) for s in (-1, 1) for y in (0.56, 0.65)], (40, 40, 225), solid=False)
    model.hull([(s * 0.1, y, -0.86) for s in (-1, 1) for y in (0.36, 0.5)], (225, 230, 230))
    model.capsule((0.0, 0.98, 0.44), (0.0, 0.98, 0.44), (0.075, 0.075), (235, 245, 250), solid=False)
    model.lamp((0.0, 0.61, -0.9), (40, 40, 255), 0.10, (0.0, 0.0, -1.0))
    model.lamp((0.0, 0.98, 0.5), (220, 240, 255), 0.12, (0.0, 0.0, 1.0))
    model.owner = int(separate)
    _rider(model, looks, (0.0, 0.84, -0.22), 0.16, (0.3, 1.02, 0.28), ((0.14, 0.42, 0.16), (-0.14, 0.42, 0.16)), helmet=True)
    if looks.passenger:
        _rider(model, looks, (0.0, 0.86, -0.60), 0.1, (0.16, 1.05, -0.25), ((0.22, 0.36, -0.35), (-0.22, 0.36, -0.35)), helmet=True)
    return model


def motorcycle(looks: Looks, *, separate: bool) -> Model:
    """A heavier machine with big wheels, a tank and a leaning rider (owner 1 if `separate`)."""
    model = Model(sort=True)
    body, dark = looks.body, _darker(looks.body, 0.7)
    for z in (-0.68, 0.74):
        _wheel(model, z, 0.32, 0.16)
    model.hull([(s * 0.15, y, z) for s in (-1, 1) for y, z in ((0.25, -0.25), (0.25, 0.35), (0.58, 0.38), (0.6, -0.3))], (70, 68, 66))
    model.hull([(s * 0.16, y, z) for s in (-1, 1) for y, z in ((0.62, -0.1), (0.66, 0.45), (0.92, 0.4), (0.86, -0.05))], dark)
    model.hull([(s * 0.12, y, z - 0.02) for s in (-1, 0.5) for y, z in ((0.72, -0.08), (0.76, 0.42), (0.92, 0.38), (0.86, -0.05))], body, solid=False)
    model.hull([(s * 0.14, y, z) for s in (-1, 1) for y, z in ((0.66, -0.1), (0.8, -0.1), (0.92, -0.85), (0.76, -0.85), (0.6, -0.5))], dark)
    model.hull([(s * 0.13, y, z) for s in (-1, 1) for y, z in ((0.80, -0.05), (0.86, -0.1), (0.94, -0.8), (0.88, -0.8))], (30, 30, 30))
    model.hull([(s * 0.12, y, z) for s in (-1, 1) for y, z in ((0.62, 0.8), (0.68, 0.9), (0.66, 0.55), (0.6, 0.55))], body)
    model.hull([(s * 0.17, y, z) for s in (-1, 1) for y, z in ((0.82, 0.5), (0.9, 0.78), (1.1, 0.62), (1.08, 0.5))], body)
    for side in (-1, 1):
        model.capsule((side * 0.12, 0.36, 0.74), (side * 0.12, 0.95, 0.5), (0.035, 0.035), _METAL)
        model.capsule((side * 0.36, 1.22, 0.4), (side * 0.42, 1.23, 0.4), (0.05, 0.05), (60, 60, 62))
        model.stroke([(side * 0.3, 1.04, 0.42), (side * 0.37, 1.2, 0.4)], 0.02, (50, 50, 50))
    model.capsule((0.2, 0.34, -0.2), (0.22, 0.48, -0.8), (0.05, 0.07), _METAL)
    model.capsule((-0.36, 1.03, 0.38), (0.36, 1.03, 0.38), (0.03, 0.03), (45, 45, 45))
    model.hull([(s * 0.12, y, -0.88) for s in (-1, 1) for y in (0.8, 0.88)], (40, 40, 225), solid=False)
    model.hull([(s * 0.1, y, -0.86) for s in (-1, 1) for y in (0.55, 0.68)], (225, 230, 230))
    model.capsule((0.0, 0.92, 0.78), (0.0, 0.92, 0.78), (0.09, 0.09), (235, 245, 250), solid=False)
    model.lamp((0.0, 0.84, -0.92), (40, 40, 255), 0.10, (0.0, 0.0, -1.0))
    model.lamp((0.0, 0.92, 0.85), (220, 240, 255), 0.13, (0.0, 0.0, 1.0))
    model.owner = int(separate)
    _rider(model, looks, (0.0, 0.9, -0.28), 0.38, (0.33, 1.05, 0.36), ((0.2, 0.42, -0.1), (-0.2, 0.42, -0.1)), helmet=True)
    return model


def bicycle(looks: Looks, seconds: float, *, separate: bool) -> Model:
    """Thin wheels, a frame of tubes and an upright rider who pedals (owner 1 if `separate`)."""
    model = Model(sort=True)
    colour = looks.body
    angles = np.linspace(0, 2 * np.pi, 21)
    for z in (-0.53, 0.55):
        ring = [(0.0, 0.34 + 0.33 * float(np.sin(a)), z + 0.33 * float(np.cos(a))) for a in angles]
        model.stroke(ring, 0.05, _TYRE)
        model.stroke([(p[0], 0.34 + (p[1] - 0.34) * 0.9, z + (p[2] - z) * 0.9) for p in ring], 0.012, _METAL)
        turned = looks.phase - seconds * 12
        for spoke in range(4):
            a = turned + spoke * np.pi / 4
            dy, dz = 0.31 * float(np.sin(a)), 0.31 * float(np.cos(a))
            model.stroke([(0.0, 0.34 + dy, z + dz), (0.0, 0.34 - dy, z - dz)], 0.006, _METAL)
    crank, seat, head = (0.0, 0.32, -0.08), (0.0, 0.84, -0.22), (0.0, 0.82, 0.38)
    for start, stop in ((crank, seat), (crank, head), ((0.0, 0.78, -0.2), head), (seat, (0.0, 0.34, -0.53)), (crank, (0.0, 0.34, -0.53)), ((0.0, 1.0, 0.33), (0.0, 0.34, 0.55))):
        model.capsule(start, stop, (0.026, 0.026), colour)
    model.capsule((-0.27, 1.02, 0.3), (0.27, 1.02, 0.3), (0.022, 0.022), (50, 50, 50))
    model.capsule((0.0, 0.92, -0.32), (0.0, 0.92, -0.12), (0.075, 0.04), (35, 35, 35))
    if looks.variant > 0.4:
        model.hull([(s * w, y, z) for s in (-1, 1) for w, y, z in ((0.17, 0.95, 0.42), (0.17, 0.95, 0.68), (0.13, 0.72, 0.46), (0.13, 0.72, 0.64))], (95, 120, 140))
    for z in (-0.53, 0.55):
        guard = [(0.0, 0.34 + 0.38 * float(np.sin(a)), z + 0.38 * float(np.cos(a))) for a in np.linspace(0.4, 2.9, 9)]
        model.stroke(guard, 0.03, colour)
    model.capsule((0.0, 0.76, -0.4), (0.0, 0.76, -0.4), (0.05, 0.05), (40, 40, 225))
    model.lamp((0.0, 0.76, -0.46), (40, 40, 255), 0.05, (0.0, 0.0, -1.0))
    model.owner = int(separate)
    turn = looks.phase + seconds * 8
    feet = [(s * 0.14, 0.36 + 0.16 * s * float(np.sin(turn)), -0.06 + 0.16 * s * float(np.cos(turn))) for s in (1, -1)]
    _rider(model, looks, (0.0, 0.97, -0.22), 0.3, (0.25, 1.04, 0.28), (feet[0], feet[1]), helmet=looks.variant < 0.25)
    return model
