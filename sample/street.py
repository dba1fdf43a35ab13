"""A stretch of street with all that stands and moves on it, drawn once per clip."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sample.light import Light
from sample.shapes import Model

LANE = 3.4


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
    """Cross-section and course of a road, in metres; our lane lies at x = 0.

    `lanes` are (x, direction: 1 our way), `dividers` (x, style), `parking` the x of parked cars, `rails` the x of a
    tram track, `crossing` the z of a crossing road; `bend` see `Camera`, `scene` as BDD100K names it.
    """

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

    def in_crossing(self, low: float, high: float) -> bool:
        """Whether the stretch between two z lies on the crossing road or its corners."""
        crossing = self.road.crossing
        return crossing is not None and low < crossing + 6.5 and high > crossing - 6.5

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
    to_left = int(rng.integers(ours))  # lanes between ours and the middle of the road
    lanes = [((i - to_left) * LANE, 1) for i in range(ours)]
    dividers = [((i - to_left + 0.5) * LANE, "dashed") for i in range(ours - 1)]
    left, right = -(to_left + 0.5) * LANE, (ours - to_left - 0.5) * LANE + 0.4
    rails = None
    if trams and scene != "highway" and rng.random() < 0.09:
        rails = left - 1.8
        dividers.append((left, "solid"))
        left -= 3.6
    if against:
        dividers.append((left, "double"))
        lanes += [(left - (i + 0.5) * LANE, -1) for i in range(against)]
        dividers += [(left - (i + 1) * LANE, "dashed") for i in range(against - 1)]
    left -= against * LANE + 0.4
    parking = []
    if scene == "highway":
        dividers += [(right, "solid"), (left, "solid")]
        left, right = left - 1.5, right + 2.0
    elif rng.random() < 0.55:
        dividers.append((right, "solid"))
        parking.append(right + 1.15)
        right += 2.3
    else:
        right += float(rng.uniform(0.4, 1.6))
    if scene != "highway" and rng.random() < 0.5:
        parking.append(left - 1.15)
        left -= 2.3
    crosses = scene != "highway" and rng.random() < 0.42
    return Road(
        left=left,
        right=right,
        lanes=tuple(lanes),
        dividers=tuple(dividers),
        parking=tuple(parking),
        pavement=float(rng.uniform(2.2, 4.5)),
        rails=rails,
        crossing=float(rng.uniform(13, 34)) if crosses else None,
        bend=float(rng.normal(0, 0.0003 if crosses else 0.0012)),
        scene=scene,
    )
