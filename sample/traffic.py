"""Who moves: cars, buses, trucks, trams, two-wheelers and people on foot, each with its own speed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from sample import cars, heavy, people, two_wheelers
from sample.furnish import draw_street
from sample.shapes import Model
from sample.street import LANE, Actor, Street, lazily


@dataclass(frozen=True, slots=True)
class Mix:
    """How full the street is: the mean gap between vehicles in metres, and two-wheelers and people per frame."""

    gap: float
    scooters: float
    motorcycle_share: float
    bicycles: float
    pedestrians: float
    trams: bool
    separate_riders: bool


AMERICAN = Mix(
    gap=4.0, scooters=2.4, motorcycle_share=0.6, bicycles=2.6, pedestrians=6.0, trams=True, separate_riders=True
)
TAIWANESE = Mix(
    gap=3.0, scooters=4.6, motorcycle_share=0.1, bicycles=3.2, pedestrians=12.0, trams=False, separate_riders=False
)
DESERTED = Mix(
    gap=np.inf, scooters=0.0, motorcycle_share=0.0, bicycles=0.0, pedestrians=0.0, trams=False, separate_riders=False
)

_STOCK = 64  # different vehicles of a kind
_CAR_KINDS = ("sedan", "hatchback", "suv", "van")


def draw_scene(rng: np.random.Generator, seconds: float, mix: Mix) -> Street:
    """A whole world for a clip of that length."""
    street = draw_street(rng, seconds, trams=mix.trams)
    fullness = float(rng.gamma(3.0, 1 / 3.0))
    if np.isinf(mix.gap):
        return street
    road = street.road
    if road.rails is not None:
        direction = 1 if rng.random() < 0.5 else -1
        speed = direction * float(rng.uniform(0, 9))
        z = float(rng.uniform(18, 40)) + max(0.0, street.speed - speed) * street.duration * 0.4
        heading = 0.0 if direction > 0 else np.pi
        tram = lazily(heavy.tram, rng)
        street.add(Actor(tram, road.rails, z, (1.4, 13.0), ("train",), 0.0, speed, heading, 100.0))
    if road.crossing is not None:
        # On the crossing road, driving past while we wait, waiting or turning while we drive.
        for direction in (1, -1):
            z = road.crossing - direction * 2.0
            if street.speed <= 2.0:
                speed = direction * float(rng.uniform(4, 9))
                reach = 26 + abs(speed) * street.duration
                x = float(rng.uniform(-reach, -reach + 10))
                while x < 26:
                    if rng.random() < 0.6:
                        _put_vehicle(street, rng, direction * x, z, speed, 0.0, direction * np.pi / 2)
                    x += float(rng.uniform(8, 16))
            elif rng.random() < 0.6:
                edge = road.left - 4.5 if direction > 0 else road.right + 4.5
                turned = float(rng.normal(0, 0.15))
                _put_vehicle(street, rng, edge, z, 0.0, 0.0, direction * np.pi / 2 + turned)
        if rng.random() < 0.4:
            heading = float(rng.choice((-1, 1)) * rng.uniform(0.5, 1.3))
            speed = float(rng.uniform(2, 5))
            x = float(np.sign(heading) * rng.uniform(1.5, LANE * 1.5))
            _put_vehicle(street, rng, x, road.crossing, speed * np.sin(heading), speed * np.cos(heading), heading)
    if road.scene != "highway":
        _add_people(street, rng, mix, fullness)

    gap = mix.gap / max(0.35, fullness)
    for x, direction in road.lanes:  # vehicles one after the other at about one speed
        speed = direction * max(0.0, float(rng.normal(max(street.speed, 6.0), 2.0)))
        end = 75 + max(0.0, street.speed - speed) * street.duration
        z = float(rng.uniform(-8, 6) + (gap * rng.exponential(0.5)))
        while z < end:
            queued = street.speed == 0.0 and direction > 0 and road.crossing is not None and z < road.crossing - 4
            vz = 0.0 if queued else speed + float(rng.normal(0, 0.5))
            heading = (0.0 if direction > 0 else np.pi) + float(rng.normal(0, 0.035))
            _put_vehicle(street, rng, x + float(rng.normal(0, 0.25)), z, 0.0, vz, heading)
            z += 6.5 + float(rng.exponential(gap * (0.4 if queued else 1.0)))
    for x in road.parking:  # parked cars along the kerb, here and there askew
        z = float(rng.uniform(-2, 20))
        fill = float(rng.uniform(0.15, 0.7))
        while z < 55 + street.speed * street.duration:
            clear = road.crossing is None or abs(z - road.crossing) > 9
            if clear and rng.random() < fill:
                heading = (0.0 if x > 0 else np.pi) + float(rng.normal(0, 0.05))
                _put_vehicle(street, rng, x, z, 0.0, 0.0, heading, 0.06)
            z += float(rng.uniform(5.8, 9.0))
    return street


def _put_vehicle(
    street: Street,
    rng: np.random.Generator,
    x: float,
    z: float,
    vx: float,
    vz: float,
    heading: float,
    heavy_share: float = 0.16,
) -> None:
    """A car, bus or truck drawn at random."""
    draw = rng.random()
    kind, half = "car", (0.98, 2.4)
    make = _CAR_KINDS[int(rng.choice(4, p=(0.36, 0.24, 0.26, 0.14)))]
    if draw < heavy_share * 0.45:
        kind, half = "bus", (1.3, 6.0)
    elif draw < heavy_share:
        kind, half = "truck", (1.2, 4.2)
    number = int(rng.integers(_STOCK))

    def build(_seconds: float) -> Model:
        if kind == "car":
            return cars.car(make, number)
        return heavy.bus(number) if kind == "bus" else heavy.truck(number)

    reach = _reach(rng, 12.0, 24.0, 60.0) if kind == "car" else 30.0
    street.add(Actor(build, x, z, half, (kind,), vx, vz, heading, reach))


def _reach(rng: np.random.Generator, low: float, high: float, far: float) -> float:
    """From how far an actor is drawn, in metres: most only where they are of a good size, one in sixteen from far away.

    An image full of specks is no better trial, and takes many more epochs to learn from.
    """
    return far if rng.random() < 0.06 else float(rng.uniform(low, high))


def _starts(street: Street, rng: np.random.Generator, per_frame: float, far: float, vz: float) -> list[float]:
    """Places along the road such that about `per_frame` of them are within `far` metres at any time."""
    swept = (street.speed - vz) * street.duration
    low, high = 3.5 + min(0.0, swept), far + max(0.0, swept)
    count = int(rng.poisson(per_frame * (high - low) / (far - 3.5)))
    return sorted((low + (high - low) * rng.random(count) ** 1.15).tolist())


def _two_wheeler(
    rng: np.random.Generator, mix: Mix, *, bicycle: bool
) -> tuple[Callable[[float], Model], tuple[str, str]]:
    separate = mix.separate_riders
    if bicycle:
        looks = people.draw_looks(rng, wet=False)
        return lambda seconds: two_wheelers.bicycle(looks, seconds, separate=separate), ("bicycle", "rider")
    scooter = bool(rng.random() >= mix.motorcycle_share)

    def make(own: np.random.Generator) -> Model:
        return two_wheelers.motorcycle(people.draw_looks(own, wet=False), scooter=scooter, separate=separate)

    return lazily(make, rng), ("motorcycle", "rider")


def _add_people(street: Street, rng: np.random.Generator, mix: Mix, fullness: float) -> None:
    """Riders beside and between the lanes, with and against us, and across; then people on foot."""
    road = street.road
    stopped = street.speed == 0.0
    busy = 0.5 + 0.5 * fullness
    for bicycle, per_frame in ((False, mix.scooters * busy), (True, mix.bicycles)):
        cruise = float(rng.uniform(3.0, 5.0)) if bicycle else max(5.0, street.speed)
        for against in (False, True):
            direction = -1 if against else 1
            share = 0.32 if against else 0.68
            vz = 0.0 if stopped and not against and not bicycle else direction * cruise
            for z in _starts(street, rng, per_frame * share, 12.0, vz):
                build, kinds = _two_wheeler(rng, mix, bicycle=bicycle)
                edge = road.left + 0.9 if against else road.right - 0.9
                inner = [x for x, style in road.dividers if style == "dashed" and (x < -LANE) == against]
                x = float(rng.choice(inner)) if inner and not bicycle and rng.random() < 0.4 else edge
                x += float(rng.normal(0, 0.35))
                heading = (np.pi if against else 0.0) + float(rng.normal(0, 0.16))
                speed = vz + float(rng.normal(0, 0.6 if bicycle else 2.0)) if vz else 0.0
                street.add(Actor(build, x, z, (0.45, 1.0), kinds, 0.0, speed, heading, _reach(rng, 8.0, 14.0, 36.0)))
        for _ in range(3):  # seen from the side, on the crossing road or pulling out
            if rng.random() > min(0.8, per_frame * 0.3):
                continue
            build, kinds = _two_wheeler(rng, mix, bicycle=bicycle)
            direction = int(rng.choice((-1, 1)))
            speed = direction * float(rng.uniform(2, 4) if bicycle else rng.uniform(3, 7))
            middle = road.crossing if road.crossing is not None else float(rng.uniform(9, 26))
            z = middle + float(rng.uniform(-4, 4)) + street.speed * street.duration * float(rng.random())
            x = float(rng.uniform(-8, 8)) - speed * street.duration * 0.5
            heading = direction * np.pi / 2 + float(rng.normal(0, 0.3))
            street.add(Actor(build, x, z, (0.45, 1.0), kinds, speed, 0.0, heading, 15.0))

    # On the pavements, waiting at the kerb and walking over.
    for z in _starts(street, rng, mix.pedestrians * float(rng.gamma(2.0, 0.5)), 11.0, 0.0):
        right = rng.random() < 0.58
        edge, side = (road.right, 1) if right else (road.left, -1)
        walking = bool(rng.random() < 0.8)
        heading = float(rng.choice((0.0, np.pi)) + rng.normal(0, 0.25))
        pace = float(rng.uniform(0.9, 1.6)) if walking else 0.0
        x = edge + side * float(rng.uniform(0.9, road.pavement))
        if rng.random() < 0.28 or (road.crossing is not None and rng.random() < 0.25):
            heading = float(rng.choice((-1, 1)) * np.pi / 2 + rng.normal(0, 0.2))
            x = float(rng.uniform(road.left, road.right)) - np.sin(heading) * pace * street.duration * 0.5
        if not walking:
            heading = float(rng.uniform(-np.pi, np.pi))
        for friend in range(1 + int(rng.random() < 0.22)):
            looks = people.draw_looks(rng, wet=street.light.wet)
            build = partial(people.pedestrian, looks, walking=walking)
            velocity = (pace * np.sin(heading), pace * np.cos(heading))
            aside = friend * 0.65
            spot = (x + aside * np.cos(heading), z - aside * np.sin(heading))
            street.add(Actor(build, *spot, (0.3, 0.3), ("person",), *velocity, heading, _reach(rng, 7.0, 12.0, 30.0)))
