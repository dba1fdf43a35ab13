"""A stretch of street with all that stands and moves on it, drawn once per clip."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from mobile_centernet.data.synthetic import scenery
from mobile_centernet.data.synthetic.light import Light, draw_light
from mobile_centernet.data.synthetic.shapes import Model

LANE = 3.4
FPS = 10.0


@dataclass(slots=True)
class Actor:
    """One thing in the world. `kinds` names its objects by owner (machine, rider); empty for clutter."""

    build: Callable[[float], Model]
    x: float
    z: float
    half: tuple[float, float]
    kinds: tuple[str, ...] = ()
    vx: float = 0.0
    vz: float = 0.0
    heading: float = 0.0
    reach: float = 90.0
    shadow: bool = True
    signal: str = "NA"

    def at(self, seconds: float) -> tuple[float, float]:
        """Where it is (x, z) at that time."""
        return self.x + self.vx * seconds, self.z + self.vz * seconds

    def footprint(self) -> tuple[float, float]:
        """Half extents along x and z, after turning."""
        cos, sin = abs(np.cos(self.heading)), abs(np.sin(self.heading))
        return float(self.half[0] * cos + self.half[1] * sin), float(self.half[1] * cos + self.half[0] * sin)


def lazily(make: Callable[[np.random.Generator], Model], rng: np.random.Generator) -> Callable[[float], Model]:
    """A model that never changes, made from a generator of its own when it is first seen."""
    seed = int(rng.integers(2**62))
    made: list[Model] = []

    def build(_seconds: float) -> Model:
        if not made:
            made.append(make(np.random.default_rng(seed)))
        return made[0]

    return build


@dataclass(frozen=True, slots=True)
class Road:
    """Cross-section (x in metres, our lane at 0) and bends."""

    left: float
    right: float
    lanes: tuple[tuple[float, int], ...]
    dividers: tuple[tuple[float, str], ...]
    parking: tuple[float, ...]
    pavement: float
    rails: float | None
    crossing: float | None
    bend: float
    scene: str


@dataclass(slots=True)
class Street:
    """A clip's world. `speed` is ours, in m/s; `houses` are painted before everything else."""

    road: Road
    light: Light
    speed: float
    duration: float
    houses: list[Actor] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)
    _taken: list[tuple[float, ...]] = field(default_factory=list)

    def free(self, actor: Actor, margin: float = 0.6) -> bool:
        """Whether the actor touches nobody, nor us, at any time of the clip."""
        times = np.linspace(0.0, self.duration, 5 if self.duration else 1)[:, None]
        width, length = actor.footprint()
        x, z = actor.x + actor.vx * times, actor.z + actor.vz * times
        if ((np.abs(x) < width + 1.3) & (np.abs(z - self.speed * times) < length + 4.5)).any():
            return False
        if not self._taken:
            return True
        ox, oz, vx, vz, ow, ol = np.array(self._taken).T
        beside = np.abs(x - ox - vx * times) < width + ow + margin * 0.5
        return not (beside & (np.abs(z - oz - vz * times) < length + ol + margin)).any()

    def add(self, actor: Actor) -> None:
        """Take the actor in if there is room for it."""
        if self.free(actor):
            self.actors.append(actor)
            self._taken.append((actor.x, actor.z, actor.vx, actor.vz, *actor.footprint()))


def draw_road(rng: np.random.Generator, *, trams: bool) -> Road:
    """A road drawn at random: one to three lanes our way, none to two against, parking, rails, a crossing."""
    scene = str(rng.choice(("city street", "residential", "highway"), p=(0.68, 0.22, 0.10)))
    ours = int(rng.choice((1, 2, 3), p=(0.4, 0.4, 0.2))) if scene != "residential" else 1
    against = int(rng.choice((0, 1, 2), p=(0.15, 0.5, 0.35))) if scene != "residential" else 1
    to_left = int(rng.integers(ours))
    to_right = ours - 1 - to_left
    rails = trams and scene != "highway" and rng.random() < 0.16
    lanes: list[tuple[float, int]] = [((i - to_left) * LANE, 1) for i in range(ours)]
    dividers: list[tuple[float, str]] = [((i - to_left + 0.5) * LANE, "dashed") for i in range(ours - 1)]
    edge = -(to_left + 0.5) * LANE
    track = edge - 1.8 if rails else None
    if rails:
        dividers.append((edge, "solid"))
        edge -= 3.6
    if against:
        dividers.append((edge, "double"))
    lanes += [(edge - (i + 0.5) * LANE, -1) for i in range(against)]
    dividers += [(edge - (i + 1) * LANE, "dashed") for i in range(against - 1)]
    left = edge - against * LANE - 0.4
    right = (to_right + 0.5) * LANE + 0.4
    parking: list[float] = []
    if scene != "highway":
        if rng.random() < 0.55:
            dividers.append((right, "solid"))
            parking.append(right + 1.15)
            right += 2.3
        else:
            right += float(rng.uniform(0.4, 1.6))
        if rng.random() < 0.5:
            parking.append(left - 1.15)
            left -= 2.3
    else:
        dividers += [(right, "solid"), (left, "solid")]
        right, left = right + 2.0, left - 1.5
    crossing = float(rng.uniform(13, 34)) if scene != "highway" and rng.random() < 0.42 else None
    bend = float(rng.normal(0, 0.0012)) if crossing is None else float(rng.normal(0, 0.0003))
    return Road(
        left=left,
        right=right,
        lanes=tuple(lanes),
        dividers=tuple(dividers),
        parking=tuple(parking),
        pavement=float(rng.uniform(2.2, 4.5)),
        rails=track,
        crossing=crossing,
        bend=bend,
        scene=scene,
    )


def draw_street(rng: np.random.Generator, seconds: float, *, trams: bool) -> Street:
    """The empty street: road, light, our speed, houses and what stands along it."""
    road = draw_road(rng, trams=trams)
    light = draw_light(rng)
    speed = float(rng.uniform(4, 13)) if road.scene != "highway" else float(rng.uniform(16, 24))
    if road.crossing is not None and rng.random() < 0.45:
        speed = 0.0 if rng.random() < 0.6 else float(rng.uniform(0.5, 2.0))
    street = Street(road, light, speed, seconds)
    _add_houses(street, rng)
    _add_furniture(street, rng)
    return street


def still(model: Model) -> Callable[[float], Model]:
    return lambda _seconds: model


def _in_crossing(road: Road, low: float, high: float) -> bool:
    return road.crossing is not None and low < road.crossing + 6.5 and high > road.crossing - 6.5


def _add_houses(street: Street, rng: np.random.Generator) -> None:
    road = street.road
    if road.scene == "highway":
        return
    city = road.scene == "city street"
    for side, edge in ((1, road.right), (-1, road.left)):
        z = float(rng.uniform(-12, -4))
        setback = 0.3 if city else float(rng.uniform(3.0, 6.0))
        while z < 95 + street.speed * street.duration:
            number = int(rng.integers(scenery.STOCK))
            model, depth = scenery.pooled_house(number, side, shops=city, dark=street.light.dark)
            keep = rng.random() < (0.93 if city else 0.65)
            if keep and not _in_crossing(road, z, z + depth):
                x = edge + side * (road.pavement + setback + float(rng.uniform(0, 0.8)))
                street.houses.append(Actor(still(model), x, z, (14.0, depth), reach=140.0))
            z += depth + float(rng.uniform(0.0, 1.0) if city else rng.uniform(2, 6))


def _add_furniture(street: Street, rng: np.random.Generator) -> None:
    road = street.road
    end = 85 + street.speed * street.duration
    weights = np.array([weight for _, weight in scenery.CLUTTER])
    leafy = rng.random() < 0.6 or road.scene != "city street"
    for side, edge in ((1, road.right), (-1, road.left)):
        lamps = np.arange(rng.uniform(2, 24), end, rng.uniform(22, 32)) if side > 0 or rng.random() < 0.6 else np.array([])
        for z in lamps.tolist():
            street.add(Actor(lazily(partial(scenery.street_lamp, side=side), rng), edge + side * 0.5, z, (0.2, 0.2)))
        z = float(rng.uniform(2, 10))
        while z < end:
            if not _in_crossing(road, z, z):
                kerb = edge + side * float(rng.uniform(0.5, 0.9))
                draw = rng.random()
                if leafy and draw < 0.5:
                    away = 0.0 if road.scene == "city street" else side * float(rng.uniform(0, 4))
                    street.add(Actor(still(scenery.pooled_tree(int(rng.integers(scenery.STOCK)))), kerb + away, z, (0.4, 0.4)))
                elif draw < 0.90 and road.scene != "highway":
                    make = scenery.CLUTTER[int(rng.choice(len(weights), p=weights / weights.sum()))][0]
                    street.add(Actor(lazily(make, rng), kerb + side * 0.3, z, (0.4, 0.6), reach=60.0))
                else:
                    sign = Actor(lazily(scenery.traffic_sign, rng), kerb, z, (0.3, 0.2), ("traffic sign",), reach=42.0)
                    street.add(sign)
            z += float(rng.uniform(3.5, 13))
    if road.crossing is not None:
        signal = str(rng.choice(("G", "Y", "R"), p=(0.4, 0.1, 0.5)))
        if street.speed == 0.0:
            signal = "R"
        for side, edge in ((1, road.right), (-1, road.left)):
            for z, chance in ((road.crossing - 6.0, 0.5), (road.crossing + 6.0, 0.9)):
                if rng.random() < chance:
                    overhead = bool(rng.random() < 0.45)
                    make_light = partial(scenery.traffic_light, colour=signal, side=side, overhead=overhead)
                    x = edge + side * 0.6
                    street.add(Actor(lazily(make_light, rng), x, z, (0.2, 0.2), ("traffic light",), reach=60.0, signal=signal))
