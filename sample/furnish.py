"""An empty street drawn at random: road, light, our speed, houses and all that stands along it."""

from collections.abc import Callable
from functools import partial

import numpy as np

from sample import houses, roadside, signals
from sample.light import Light
from sample.shapes import Colour, Model
from sample.street import Actor, Street, draw_road, lazily

_SIGHT = 90.0  # metres ahead that are furnished
_TIMES = ("daytime", "dawn/dusk", "night")
_WEATHERS = ("clear", "partly cloudy", "overcast", "rainy")
_SKIES: dict[tuple[str, bool], tuple[Colour, Colour, Colour, float, float]] = {
    # (time, clouded): zenith, horizon, tint, ambient, sun
    ("daytime", False): ((215, 150, 85), (235, 222, 200), (0.97, 1.0, 1.03), 0.72, 0.52),
    ("daytime", True): ((190, 180, 170), (220, 216, 212), (1.02, 1.0, 0.98), 0.82, 0.14),
    ("dawn/dusk", False): ((120, 80, 70), (130, 165, 235), (0.88, 0.90, 1.08), 0.46, 0.30),
    ("dawn/dusk", True): ((125, 110, 105), (165, 160, 170), (1.05, 0.98, 0.97), 0.46, 0.06),
    ("night", False): ((30, 16, 10), (62, 44, 38), (1.05, 0.98, 0.95), 0.22, 0.02),
    ("night", True): ((34, 27, 25), (66, 58, 56), (1.0, 0.98, 1.0), 0.22, 0.0),
}  # fmt: skip


def draw_street(rng: np.random.Generator, seconds: float, *, trams: bool) -> Street:
    """A street long enough to drive along it for that time; with `trams` some have rails.

    It is mostly day; a sixth is night, a sixth rain.
    """
    road = draw_road(rng, trams=trams)
    time = str(rng.choice(_TIMES, p=(0.66, 0.17, 0.17)))
    weather = str(rng.choice(_WEATHERS, p=(0.45, 0.2, 0.19, 0.16)))
    zenith, horizon, tint, ambient, sun = _SKIES[time, weather in ("overcast", "rainy")]
    aside = float(rng.choice((-1.0, 1.0)) * rng.uniform(0.25, 0.8))
    direction = np.array([aside, rng.uniform(0.45, 0.9), rng.uniform(-0.8, 0.3)])
    direction /= np.linalg.norm(direction)
    gain = float(rng.uniform(0.9, 1.08))
    light = Light(
        time=time,
        weather=weather,
        zenith=zenith,
        horizon=horizon,
        tint=tint,
        ambient=ambient * gain,
        sun=sun * gain * (0.6 if weather == "partly cloudy" else 1.0),
        sun_direction=(float(direction[0]), float(direction[1]), float(direction[2])),
        haze=float(rng.uniform(0.010, 0.016) if weather == "rainy" else rng.uniform(0.002, 0.006)),
        headlights={"daytime": 0.0, "dawn/dusk": 0.12}.get(time, 0.75),
    )
    speed = float(rng.uniform(16, 24) if road.scene == "highway" else rng.uniform(4, 13))
    if road.crossing is not None and rng.random() < 0.45:  # a red light, or just turning green
        speed = 0.0 if rng.random() < 0.6 else float(rng.uniform(0.5, 2.0))
    street = Street(road, light, speed, seconds)
    _line(street, rng, 1, road.right)
    _line(street, rng, -1, road.left)
    if road.crossing is not None:
        # Traffic lights on this and on the far side of the crossing road, all of one colour; red if we wait.
        colour = str(rng.choice(("G", "Y", "R"), p=(0.4, 0.1, 0.5)))
        colour = "R" if street.speed == 0.0 else colour
        for side, edge in ((1, road.right), (-1, road.left)):
            for z, chance in ((road.crossing - 6.0, 0.5), (road.crossing + 6.0, 0.9)):
                if rng.random() < chance:
                    overhead = bool(rng.random() < 0.45)
                    head = partial(signals.traffic_light, colour=colour, side=side, overhead=overhead)
                    where = edge + side * 0.6, z, (0.2, 0.2)
                    street.add(Actor(lazily(head, rng), *where, ("traffic light",), reach=60.0, signal=colour))
    return street


def _line(street: Street, rng: np.random.Generator, side: int, edge: float) -> None:
    """Houses, lamps, then trees, clutter and signs along one side of the road."""
    scene, far = street.road.scene, _SIGHT + street.speed * street.duration
    city = scene == "city street"
    if scene != "highway":  # houses wall to wall in the city, with gardens between them elsewhere
        setback = street.road.pavement + (0.3 if city else float(rng.uniform(3.0, 6.0)))
        z = float(rng.uniform(-12, -4))
        while z < far + 5:
            number = int(rng.integers(roadside.STOCK))
            model, length = houses.house(number, side, shops=city, dark=street.light.dark)
            if rng.random() < (0.93 if city else 0.65) and not street.in_crossing(z, z + length):
                x = edge + side * (setback + float(rng.uniform(0, 0.8)))
                street.houses.append(Actor(_still(model), x, z, (14.0, length), reach=140.0))
            z += length + float(rng.uniform(0.0, 1.0) if city else rng.uniform(2, 6))

    if side > 0 or rng.random() >= 0.4:
        first, step = rng.uniform(2, 24), rng.uniform(22, 32)
        for z in np.arange(first, far, step).tolist():
            lamp = lazily(partial(roadside.furniture, kind="lamp", side=side), rng)
            street.add(Actor(lamp, edge + side * 0.5, z, (0.2, 0.2)))

    leafy = not city or rng.random() < 0.6
    weights = np.array([weight for _, weight in roadside.CLUTTER])
    z = float(rng.uniform(2, 10))
    while z < far - 5:
        x = edge + side * float(rng.uniform(0.5, 0.9))
        draw = rng.random()
        if street.in_crossing(z, z):
            pass
        elif leafy and draw < 0.5:
            tree = roadside.tree(int(rng.integers(roadside.STOCK)))
            away = 0.0 if city else side * float(rng.uniform(0, 4))
            street.add(Actor(_still(tree), x + away, z, (0.4, 0.4)))
        elif draw < 0.90 and scene != "highway":
            kind, _ = roadside.CLUTTER[int(rng.choice(len(weights), p=weights / weights.sum()))]
            clutter = lazily(partial(roadside.furniture, kind=kind), rng)
            street.add(Actor(clutter, x + side * 0.3, z, (0.4, 0.6), reach=60.0))
        else:
            sign = lazily(signals.traffic_sign, rng)
            street.add(Actor(sign, x, z, (0.3, 0.2), ("traffic sign",), reach=42.0))
        z += float(rng.uniform(3.5, 13))


def _still(model: Model) -> Callable[[float], Model]:
    return lambda _seconds: model
