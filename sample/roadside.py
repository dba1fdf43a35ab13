"""What stands along a street and is no traffic: trees, lamps, and clutter that a detector must not fall for."""

import math
from functools import cache

import numpy as np

from sample.bodywork import mixed, scaled
from sample.shapes import UNLABELLED, Colour, Model, Point, pick

ADVERTS: tuple[Colour, ...] = (
    (60, 60, 200), (60, 170, 230), (170, 90, 40), (90, 150, 60), (220, 220, 220), (160, 60, 140), (40, 40, 40),
)  # fmt: skip
STOCK = 40
"""How many different trees there are, and houses of a kind."""
_LEAVES: tuple[Colour, ...] = ((40, 95, 60), (45, 110, 85), (35, 80, 45), (50, 120, 110), (55, 105, 70))
_BINS: tuple[Colour, ...] = ((70, 110, 60), (130, 90, 50), (60, 60, 60), (50, 120, 180))
_HYDRANTS: tuple[Colour, ...] = ((50, 60, 200), (60, 190, 230), (190, 190, 190))
_BOLLARDS: tuple[Colour, ...] = ((60, 60, 60), (50, 140, 220), (110, 110, 110))
_POLES: tuple[Colour, ...] = ((95, 105, 115), (70, 85, 100))
GREY: Colour = (120, 118, 116)
_ORIGIN: Point = (0.0, 0.0, 0.0)


@cache
def tree(number: int) -> Model:
    """A street tree out of a fixed stock: a trunk and a crown of leafy lumps, darker below."""
    rng = np.random.default_rng((number, 7))
    model = Model(owner=UNLABELLED)
    height = float(rng.uniform(4.0, 7.5))
    crown = height * float(rng.uniform(0.28, 0.36))
    leaf = pick(rng, _LEAVES, 0.2)
    model.capsule(_ORIGIN, (float(rng.normal(0, 0.1)), height * 0.6, 0.0), (0.16, 0.10), (60, 75, 90))
    angle, ring = rng.uniform(0, 2 * np.pi, 16), np.sqrt(rng.random(16)) * crown * 0.72
    x, y = np.cos(angle) * ring, height * 0.7 + np.sin(angle) * ring * 0.85
    for rank, i in enumerate(np.argsort(y + x * 0.3).tolist()):
        rim = crown * rng.uniform(0.32, 0.5) * rng.uniform(0.82, 1.12, 11)
        turn = np.arange(11) * 2 * np.pi / 11
        lump = np.stack([x[i] + rim * np.cos(turn), y[i] + rim * np.sin(turn), np.full(11, -0.5)], axis=1)
        model.face([(a, b, c) for a, b, c in lump.tolist()], scaled(leaf, 0.62 + 0.55 * rank / 16))
    return model


def furniture(rng: np.random.Generator, kind: str, side: int = 1) -> Model:
    """A lamp (`side` +1 stands right of the road), or one of the kinds of `CLUTTER`."""
    model = Model(owner=UNLABELLED)
    match kind:
        case "lamp":
            height = float(rng.uniform(6.0, 8.0))
            elbow, head = (-side * 1.6, height + 0.3, 0.0), (-side * 2.1, height + 0.28, 0.0)
            model.capsule(_ORIGIN, (0.0, height, 0.0), (0.09, 0.05), GREY)
            model.capsule((0.0, height, 0.0), elbow, (0.05, 0.04), GREY)
            model.capsule(elbow, head, (0.10, 0.08), (140, 140, 140))
            model.lamp((-side * 1.9, height + 0.2, 0.0), (150, 215, 255), 0.28)
        case "pole":  # sometimes with a cabinet
            model.capsule(_ORIGIN, (0.0, float(rng.uniform(5, 9)), 0.0), (0.12, 0.09), pick(rng, _POLES))
            if rng.random() < 0.5:
                model.box((-0.2, 1.0, -0.25), (0.2, 1.6, -0.05), (140, 145, 140))
        case "litter bin":
            colour, height = pick(rng, _BINS), float(rng.uniform(0.85, 1.15))
            can = [(w, y, d * w) for d in (-1, 1) for w, y in ((0.22, 0.05), (0.3, height))]
            model.slab(can, scaled(colour, 0.85))
            model.block(0.32, height, height + 0.1, 0.32, scaled(colour, 0.65))
        case "hydrant":
            colour = pick(rng, _HYDRANTS)
            model.capsule((0.0, 0.1, 0.0), (0.0, 0.65, 0.0), (0.16, 0.13), colour)
            model.capsule((-0.22, 0.5, 0.0), (0.22, 0.5, 0.0), (0.08, 0.08), scaled(colour, 0.8))
        case "cone":
            model.block(0.2, 0.0, 0.05, 0.2, (30, 60, 160))
            model.capsule((0.0, 0.08, 0.0), (0.0, 0.7, 0.0), (0.15, 0.03), (40, 95, 235))
            model.capsule((0.0, 0.36, 0.0), (0.0, 0.46, 0.0), (0.10, 0.08), (225, 225, 225))
        case "bollard":  # with a reflecting band
            model.capsule(_ORIGIN, (0.0, 0.9, 0.0), (0.09, 0.09), pick(rng, _BOLLARDS))
            model.capsule((0.0, 0.7, 0.0), (0.0, 0.76, 0.0), (0.095, 0.095), (220, 220, 220))
        case "hedge":  # in a planter along the pavement
            leaf, length = pick(rng, _LEAVES), float(rng.uniform(1.5, 4.0))
            model.box((-0.35, 0.0, -length / 2), (0.35, 0.4, length / 2), (120, 130, 140))
            for z in np.arange(length / 2 - 0.2, -length / 2, -0.45).tolist():
                lean, shade = float(rng.normal(0, 0.08)), float(rng.uniform(0.7, 1.15))
                model.capsule((lean, 0.62, z), (0.0, 0.72, z), (0.42, 0.34), scaled(leaf, shade))
        case "shelter":  # at a bus stop: four posts, a roof, a bench and a poster
            model.sort = True
            colour = pick(rng, ADVERTS)
            for x, z in ((-0.7, -1.4), (-0.7, 1.4), (0.7, -1.4), (0.7, 1.4)):
                model.capsule((x, 0.0, z), (x, 2.3, z), (0.05, 0.05), GREY)
            model.block(0.95, 2.3, 2.42, 1.7, scaled(colour, 0.9))
            model.hull([(x, y, z) for x in (0.05, 0.55) for y in (0.4, 0.5) for z in (-1.0, 1.0)], (100, 110, 120))
            model.hull([(0.75, y, z) for y in (0.5, 2.0) for z in (-1.35, 1.35)], mixed(colour, (200, 200, 200), 0.5))
        case "advert":  # a poster panel: as big as a car seen from behind, and none
            colour, w, low = pick(rng, ADVERTS), float(rng.uniform(0.6, 1.3)), float(rng.uniform(0.3, 1.2))
            model.capsule((0.0, 0.0, 0.05), (0.0, low, 0.05), (0.07, 0.07), GREY)
            model.box((-w, low, 0.0), (w, low + 1.6, 0.15), (70, 70, 70))
            model.centre = (0.0, low + 0.8, 1.0)
            model.across(-0.01, (-w * 0.94, low + 0.06, w * 0.94, low + 1.54), colour)
            edge = w * math.sqrt(rng.random()) - 0.1
            model.across(-0.02, (-w * 0.7, low + 0.3, edge, low + 1.1), pick(rng, ADVERTS))
    return model


CLUTTER: tuple[tuple[str, float], ...] = (
    ("litter bin", 1.2), ("hydrant", 0.6), ("cone", 0.8), ("bollard", 1.5), ("hedge", 1.5), ("shelter", 0.5),
    ("advert", 0.8), ("pole", 1.2),
)  # fmt: skip
"""Kinds of clutter, and how often each is wanted."""
