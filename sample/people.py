"""People: how they look, on foot and seated."""

import math
from dataclasses import dataclass

import numpy as np

from sample.shapes import Colour, Model, Point

_CIRCLE = [(math.cos(i * math.pi / 6), math.sin(i * math.pi / 6)) for i in range(12)]
_SKINS: tuple[Colour, ...] = ((150, 180, 225), (120, 155, 205), (90, 125, 180), (60, 85, 130), (45, 60, 95))
_HAIRS: tuple[Colour, ...] = ((20, 20, 25), (30, 35, 50), (40, 60, 90), (90, 90, 95), (70, 130, 170))
_CLOTHES: tuple[Colour, ...] = (
    (40, 40, 45), (150, 75, 40), (60, 60, 190), (200, 200, 205), (70, 140, 70), (50, 160, 215), (130, 110, 100),
    (140, 60, 120), (200, 160, 90), (60, 90, 140), (90, 70, 60), (170, 140, 220),
)  # fmt: skip
_TROUSERS: tuple[Colour, ...] = ((120, 80, 50), (50, 45, 45), (35, 35, 40), (110, 130, 150), (90, 85, 80), (80, 55, 40))
_HELMETS: tuple[Colour, ...] = (
    (40, 40, 45),
    (210, 210, 215),
    (40, 40, 200),
    (200, 120, 40),
    (60, 190, 230),
    (190, 150, 220),
)
_BODIES: tuple[Colour, ...] = (
    (45, 45, 50), (215, 215, 220), (50, 50, 185), (170, 100, 40), (120, 150, 60), (70, 180, 225), (150, 130, 120),
)  # fmt: skip
_SHOE: Colour = (35, 35, 45)
METAL: Colour = (150, 150, 150)


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
    long_hair: bool
    skirt: bool
    basket: bool
    cycle_helmet: bool
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
        long_hair=bool(rng.random() < 0.45),
        skirt=bool(rng.random() < 0.2),
        basket=bool(rng.random() < 0.6),
        cycle_helmet=bool(rng.random() < 0.25),
        bag=pick(_CLOTHES) if rng.random() < 0.35 else None,
        passenger=bool(rng.random() < 0.15),
        umbrella=pick(_CLOTHES) if wet and rng.random() < 0.45 else None,
        phase=float(rng.uniform(0, 2 * np.pi)),
    )


def darker(colour: Colour, factor: float) -> Colour:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def limb(model: Model, start: Point, stop: Point, radii: tuple[float, float], colour: Colour) -> None:
    """A capsule with a lit flank, so that it looks round."""
    model.capsule(start, stop, radii, darker(colour, 0.78))
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
        darker(colour, 0.82),
    )
    model.hull(
        [(hx + s * width * 0.6 - 0.03, hy, hz - depth * 1.05) for s in (-1, 0.55)]
        + [(sx + s * width * 0.8 - 0.03, sy - 0.08, sz - depth * 1.05) for s in (-1, 0.55)],
        colour,
        solid=False,
    )


def _head(model: Model, at: Point, size: float, looks: Looks, *, helmet: bool) -> None:
    """Face ahead (+z), hair or helmet behind and on top; `size` is the radius in metres."""

    def lump(
        below: tuple[float, float], above: tuple[float, float], radii: tuple[float, float], colour: Colour
    ) -> None:
        """A capsule between two (y, z), all in radii of the head."""
        start, stop = ((at[0], at[1] + y * size, at[2] + z * size) for y, z in (below, above))
        model.capsule(start, stop, (radii[0] * size, radii[1] * size), colour)

    lump((-1.3, 0.0), (-0.6, 0.0), (0.45, 0.45), looks.skin)
    lump((-0.25, 0.18), (0.1, 0.15), (0.82, 0.9), looks.skin)
    if helmet:
        lump((0.1, -0.05), (0.25, -0.05), (1.22, 1.15), darker(looks.helmet, 0.78))
        model.ball((at[0] - 0.3 * size, at[1] + 0.4 * size, at[2] - 0.3 * size), 0.75 * size, looks.helmet, solid=False)
        visor = [(at[0] + x * size, at[1] + y * size, at[2] + 1.12 * size) for x in (-0.8, 0.8) for y in (-0.35, 0.25)]
        model.hull(visor, (60, 50, 45), solid=False)
        return
    lump((0.2, -0.25), (0.3, -0.1), (1.0, 0.92), looks.hair)
    if looks.long_hair:
        lump((0.0, -0.5), (-1.1, -0.7), (0.85, 0.6), looks.hair)


def pedestrian(looks: Looks, seconds: float, walking: bool) -> Model:
    """A person on foot, walking towards +z."""
    model = Model(sort=True)
    h, b = looks.height, looks.build
    swing = math.sin(looks.phase + seconds * 7.5) if walking else 0.08
    stride = 0.19 * h * swing
    hip, shoulder = 0.52 * h, 0.83 * h
    for side, step in ((-1, stride), (1, -stride)):
        x = side * 0.052 * h
        lift = 0.03 * h * max(0.0, -side * math.cos(looks.phase + seconds * 7.5)) if walking else 0.0
        knee = (x, 0.285 * h + lift, step * 0.55 + 0.02 * h)
        foot = (x, 0.05 * h + lift, step)
        shin = looks.skin if looks.skirt else looks.trousers
        limb(model, (x, hip, 0.0), knee, (0.052 * h * b, 0.042 * h * b), looks.trousers)
        limb(model, knee, foot, (0.04 * h * b, 0.027 * h * b), shin)
        heel, toe = (x, 0.028 * h + lift, step - 0.02 * h), (x, 0.022 * h + lift, step + 0.09 * h)
        model.capsule(heel, toe, (0.028 * h, 0.022 * h), _SHOE)
        arm = -step * 0.85
        elbow = (side * 0.135 * h * b, 0.65 * h, arm * 0.4)
        hand = (side * 0.125 * h * b, 0.50 * h, arm + 0.03 * h)
        if looks.umbrella is not None and side > 0:
            elbow, hand = (0.14 * h * b, 0.66 * h, 0.02), (0.1 * h, 0.72 * h, 0.16)
        limb(model, (side * 0.115 * h * b, 0.79 * h, 0.0), elbow, (0.034 * h * b, 0.03 * h * b), looks.top)
        limb(model, elbow, hand, (0.028 * h * b, 0.02 * h * b), looks.top)
        model.ball(hand, 0.026 * h, looks.skin)
    if looks.skirt:
        model.hull(
            [(s * 0.13 * h, 0.30 * h, d * 0.09 * h) for s in (-1, 1) for d in (-1, 1)]
            + [(s * 0.085 * h, 0.56 * h, d * 0.06 * h) for s in (-1, 1) for d in (-1, 1)],
            looks.trousers,
        )
    _torso(model, (0.0, hip, 0.0), (0.0, shoulder, 0.0), 0.118 * h * b, looks.top)
    if looks.bag is not None:
        limb(model, (0.0, 0.60 * h, -0.10 * h), (0.0, 0.74 * h, -0.10 * h), (0.085 * h, 0.075 * h), looks.bag)
    _head(model, (0.0, 0.925 * h, 0.0), 0.068 * h, looks, helmet=False)
    if looks.umbrella is not None:
        x, y, z = top = (0.05 * h, 1.12 * h, 0.1)
        model.stroke([(0.1 * h, 0.72 * h, 0.16), top], 0.02, METAL)
        rim = [(x + 0.5 * cos, y - 0.12, z + 0.5 * sin) for cos, sin in _CIRCLE]
        model.hull([*rim, (x, y + 0.12, z), (x - 0.3, y + 0.06, z), (x + 0.3, y + 0.06, z)], looks.umbrella)
    return model


def seated(
    model: Model, looks: Looks, hips: Point, lean: float, hands: Point, feet: tuple[Point, Point], *, helmet: bool
) -> None:
    """Somebody seated: `hands` and `feet` are given for the right side and mirrored (feet: right, left)."""
    x, y, z = hips
    b = looks.build
    shoulders = (x, y + 0.5 * math.cos(lean), z + 0.5 * math.sin(lean))
    for side, foot in ((1, feet[0]), (-1, feet[1])):
        hip = (x + side * 0.1, y, z)
        knee = (x + side * 0.17 * b, max(foot[1] + 0.34, (y + foot[1]) / 2 + 0.12), max(z, foot[2]) + 0.16)
        limb(model, hip, knee, (0.092 * b, 0.075 * b), looks.trousers)
        limb(model, knee, foot, (0.07 * b, 0.045 * b), looks.trousers)
        heel, toe = (foot[0], foot[1] - 0.03, foot[2] - 0.05), (foot[0], foot[1] - 0.03, foot[2] + 0.13)
        model.capsule(heel, toe, (0.05, 0.04), _SHOE)
        shoulder = (shoulders[0] + side * 0.19 * b, shoulders[1] - 0.05, shoulders[2])
        elbow = (side * 0.29 * b, (shoulder[1] + hands[1]) / 2 - 0.06, (shoulder[2] + hands[2]) / 2 - 0.04)
        limb(model, shoulder, elbow, (0.062 * b, 0.052 * b), looks.top)
        limb(model, elbow, (side * hands[0], hands[1], hands[2]), (0.05 * b, 0.038 * b), looks.top)
    _torso(model, hips, shoulders, 0.205 * b, looks.top)
    if looks.bag is not None:
        limb(model, (x, y + 0.15, z - 0.16), (x, y + 0.38, shoulders[2] - 0.17), (0.14, 0.13), looks.bag)
    _head(model, (shoulders[0], shoulders[1] + 0.19, shoulders[2] + 0.05), 0.118, looks, helmet=helmet)
