"""Things made of convex parts, in metres; `canvas` paints them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sample.camera import Floats

Colour = tuple[float, float, float]
"""Blue, green, red in 0–255 under full light."""
Point = tuple[float, float, float]
FACE, HULL, CAPSULE, STROKE = range(4)
CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1)


UNLABELLED = -1
"""The owner of parts that belong to no object."""


def pick(rng: np.random.Generator, colours: Sequence[Colour], spread: float = 0.15) -> Colour:
    """One of the colours at random, up to `spread` lighter or darker."""
    factor = float(rng.uniform(1 - spread, 1 + spread))
    blue, green, red = (min(250.0, max(8.0, c * factor)) for c in colours[int(rng.integers(len(colours)))])
    return (blue, green, red)


@dataclass(slots=True)
class Part:
    """One convex piece. `start:stop` are its points in the model; `owner` tells which of an actor's objects it is."""

    shape: int
    start: int
    stop: int
    colour: Colour
    radii: tuple[float, float] = (0.0, 0.0)
    glow: bool = False
    solid: bool = True
    owner: int = 0
    group: int = 0
    normal: Point = (0.0, 0.0, -1.0)


@dataclass(slots=True)
class Lamp:
    """A light that blooms in the dark. `facing` is the way it shines in the model's own frame."""

    at: Point
    colour: Colour
    radius: float
    facing: Point | None = None


@dataclass(frozen=True, slots=True)
class Arrays:
    """A model as arrays: points [N,3]; of each part its first point, normal, colour, whether it is flat or glows."""

    points: Floats
    starts: NDArray[np.intp]
    normals: Floats
    colours: Floats
    flat: NDArray[np.bool_]
    glow: NDArray[np.bool_]


@dataclass(slots=True)
class Model:
    """Parts in painting order, in their own frame: x right, y up, z ahead.

    Group 0 is painted first, then the other groups far to near; with `sort` every part is a group of its own.
    """

    points: list[Point] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    lamps: list[Lamp] = field(default_factory=list)
    sort: bool = False
    owner: int = 0
    group: int = 0
    centre: Point = (0.0, 0.6, 0.0)
    _arrays: Arrays | None = None

    def arrays(self) -> Arrays:
        """The finished model as arrays, computed once."""
        if self._arrays is None:
            self._arrays = Arrays(
                np.array(self.points, np.float64).reshape(-1, 3),
                np.array([part.start for part in self.parts], np.intp),
                np.array([part.normal for part in self.parts], np.float64).reshape(-1, 3),
                np.array([part.colour for part in self.parts], np.float64).reshape(-1, 3),
                np.array([part.shape == FACE for part in self.parts], np.bool_),
                np.array([part.glow for part in self.parts], np.bool_),
            )
        return self._arrays

    def _add(self, shape: int, points: Iterable[Point], colour: Colour) -> Part:
        start = len(self.points)
        self.points.extend(points)
        self.parts.append(Part(shape, start, len(self.points), colour, owner=self.owner, group=self.group))
        return self.parts[-1]

    def face(self, points: Sequence[Point], colour: Colour, *, solid: bool = True, glow: bool = False) -> None:
        """A flat polygon, seen only from outside, that is from the side away from `centre`."""
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = points[:3]
        ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        outward = nx * (ax - self.centre[0]) + ny * (ay - self.centre[1]) + nz * (az - self.centre[2])
        scale = (1.0 if outward >= 0 else -1.0) / max(1e-9, (nx * nx + ny * ny + nz * nz) ** 0.5)
        part = self._add(FACE, points, colour)
        part.solid, part.glow, part.normal = solid, glow, (nx * scale, ny * scale, nz * scale)

    def across(
        self,
        z: float,
        cell: tuple[float, float, float, float],
        colour: Colour,
        *,
        solid: bool = False,
        glow: bool = False,
    ) -> None:
        """A rectangle (x1, y1, x2, y2) on a wall that runs across the road."""
        x1, y1, x2, y2 = cell
        self.face([(x1, y1, z), (x2, y1, z), (x2, y2, z), (x1, y2, z)], colour, solid=solid, glow=glow)

    def along(
        self,
        x: float,
        cell: tuple[float, float, float, float],
        colour: Colour,
        *,
        solid: bool = False,
        glow: bool = False,
    ) -> None:
        """A rectangle (z1, y1, z2, y2) on a wall that runs along the road."""
        z1, y1, z2, y2 = cell
        self.face([(x, y1, z1), (x, y1, z2), (x, y2, z2), (x, y2, z1)], colour, solid=solid, glow=glow)

    def loft(self, outline: Sequence[tuple[float, float]], wide: Callable[[float], float], colour: Colour) -> None:
        """The skin of a body from its side view (z, y): strips across from point to point, `wide(y)` to each side."""
        for (z1, y1), (z2, y2) in pairwise(outline):
            self.face([(-wide(y1), y1, z1), (wide(y1), y1, z1), (wide(y2), y2, z2), (-wide(y2), y2, z2)], colour)

    def flanks(self, outline: Sequence[tuple[float, float]], wide: Callable[[float], float], colour: Colour) -> None:
        """Both sides of a body from its side view (z, y), flat: `wide(y)` must be linear."""
        for side in (-1, 1):
            self.face([(side * wide(y), y, z) for z, y in outline], colour)

    def block(self, half: float, low: float, high: float, length: float, colour: Colour) -> None:
        """An upright lump of half width `half` and half length `length` around x = z = 0."""
        self.slab([(half, y, z) for y in (low, high) for z in (-length, length)], colour)

    def box(self, low: Point, high: Point, colour: Colour, *, sides: str = "xXyYzZ") -> None:
        """An upright box between two corners; `sides` picks the faces, capitals the far ends of the axes."""
        outer, self.centre = self.centre, ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, (low[2] + high[2]) / 2)
        for side in sides:
            axis = "xyz".index(side.lower())
            first, second = (a for a in range(3) if a != axis)
            corners = []
            for a, b in ((low, low), (high, low), (high, high), (low, high)):
                corner = [0.0, 0.0, 0.0]
                corner[axis] = (high if side.isupper() else low)[axis]
                corner[first], corner[second] = a[first], b[second]
                corners.append((corner[0], corner[1], corner[2]))
            self.face(corners, colour)
        self.centre = outer

    def hull(self, points: Sequence[Point], colour: Colour, *, solid: bool = True) -> None:
        """Whatever lies between the points (a rounded or boxy lump)."""
        self._add(HULL, points, colour).solid = solid

    def slab(
        self,
        outline: Sequence[Point],
        colour: Colour,
        *,
        solid: bool = True,
        sides: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        """A lump from points whose x is a half width: taken times -1 and 1, or other `sides` for a lit flank."""
        self.hull([(side * half, y, z) for side in sides for half, y, z in outline], colour, solid=solid)

    def ball(self, at: Point, radius: float, colour: Colour, *, solid: bool = True) -> None:
        """A sphere."""
        self.capsule(at, at, (radius, radius), colour, solid=solid)

    def disc(self, at: Point, radius: float, width: float, colour: Colour) -> None:
        """A wheel standing along z, `width` thick."""
        x, y, z = at
        rim = (CIRCLE * radius).tolist()
        self.hull([(x + s * width / 2, y + dy, z + dz) for s in (-1, 1) for dz, dy in rim], colour)

    def capsule(
        self, start: Point, stop: Point, radii: tuple[float, float], colour: Colour, *, solid: bool = True
    ) -> None:
        """A limb: two spheres and all between."""
        part = self._add(CAPSULE, (start, stop), colour)
        part.radii, part.solid = radii, solid

    def stroke(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """A thin line through points, `width` metres thick and never thinner than a pixel."""
        self._add(STROKE, points, colour).radii = (width, width)

    def lamp(self, at: Point, colour: Colour, radius: float, facing: Point | None = None) -> None:
        """A light in the dark."""
        self.lamps.append(Lamp(at, colour, radius, facing))
