"""Things made of convex parts: built once in metres, shaded and painted by every frame."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.data.synthetic.camera import NEAR, Camera, Floats, cut_near

Colour = tuple[float, float, float]
"""Blue, green, red in 0–255 under full light."""
Point = tuple[float, float, float]
Fixed = NDArray[np.int32]
FACE, HULL, CAPSULE, STROKE = range(4)
SUBPIXEL_BITS = 4
_CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1)


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

    def disc(self, at: Point, radius: float, width: float, colour: Colour) -> None:
        """A wheel standing along z, `width` thick."""
        x, y, z = at
        rim = (_CIRCLE * radius).tolist()
        self.hull([(x + s * width / 2, y + dy, z + dz) for s in (-1, 1) for dz, dy in rim], colour)

    def capsule(self, start: Point, stop: Point, radii: tuple[float, float], colour: Colour, *, solid: bool = True) -> None:
        """A limb: two spheres and all between."""
        part = self._add(CAPSULE, (start, stop), colour)
        part.radii, part.solid = radii, solid

    def stroke(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """A thin line through points, `width` metres thick and never thinner than a pixel."""
        self._add(STROKE, points, colour).radii = (width, width)

    def lamp(self, at: Point, colour: Colour, radius: float, facing: Point | None = None) -> None:
        """A light in the dark."""
        self.lamps.append(Lamp(at, colour, radius, facing))


@dataclass(slots=True)
class Canvas:
    """The picture under way (uint8 BGR) and which object owns each pixel (uint16, 0 = none)."""

    image: NDArray[np.uint8]
    owners: NDArray[np.uint16]

    def fill(self, points: Fixed, colour: Sequence[float], owner: int | None) -> None:
        """Paint a polygon [N,2] with soft edges; `owner` None leaves ownership alone."""
        cv2.fillPoly(self.image, [points], colour, cv2.LINE_AA, SUBPIXEL_BITS)
        if owner is not None:
            cv2.fillPoly(self.owners, [points], (owner,), cv2.LINE_8, SUBPIXEL_BITS)

    def line(self, points: Fixed, width: float, colour: Sequence[float], owner: int | None) -> None:
        """Paint a polyline [N,2] `width` pixels thick, at least one."""
        thick = max(1, round(width))
        cv2.polylines(self.image, [points], False, colour, thick, cv2.LINE_AA, SUBPIXEL_BITS)
        if owner is not None:
            cv2.polylines(self.owners, [points], False, (owner,), thick, cv2.LINE_8, SUBPIXEL_BITS)


def fixed_point(pixels: Floats) -> Fixed:
    """Continuous pixel coordinates -> cv2's fixed-point ones, whose whole numbers are pixel centres."""
    return np.rint((pixels - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)


def place(points: Floats, at: Point, heading: float) -> Floats:
    """Points of a model's own frame [N,3] -> world: turned by `heading` (radians, 0 looks along the road)."""
    cos, sin = np.cos(heading), np.sin(heading)
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    return np.stack([x * cos + z * sin + at[0], y + at[1], z * cos - x * sin + at[2]], axis=1)


def _painting_order(model: Model, depth: Floats) -> list[int]:
    """Indices of the parts, those to be hidden by others first."""
    order = list(range(len(model.parts)))
    if model.sort:
        starts = model.arrays().starts
        far = np.add.reduceat(depth, starts) / np.diff(starts, append=len(depth))
        return np.argsort(-far, kind="stable").tolist()  # type: ignore[no-any-return]
    groups = {p.group for p in model.parts}
    if len(groups) > 1:
        distance = {g: float(np.mean([depth[p.start] for p in model.parts if p.group == g])) for g in groups}
        distance[0] = np.inf
        return sorted(order, key=lambda i: -distance[model.parts[i].group])
    return order


def paint(
    canvas: Canvas, camera: Camera, model: Model, placed: Floats, normals: Floats, colours: Floats, owners: Sequence[int] | None
) -> None:
    """Paint a model from its `placed` points [N,3] and turned `normals` [parts,3] in the world.

    `colours` [parts,3] are lit already; `owners` are the ids of the model's objects, None to leave ownership alone.
    """
    seen = camera.view(placed)
    depth = seen[:, 2]
    if depth.max() <= NEAR:
        return
    near = depth < NEAR if depth.min() < NEAR else None
    safe = np.maximum(depth, NEAR)[:, None]
    pixels = camera.project(np.hstack([seen[:, :2], safe]))
    fixed = fixed_point(pixels)
    facing = ((normals * seen[model.arrays().starts]).sum(axis=1) < 0).tolist()
    scale = camera.focal / safe[:, 0]
    rings = _rings(model, pixels, scale)
    lit = colours.tolist()
    for i in _painting_order(model, depth):
        part = model.parts[i]
        if part.shape == FACE and not facing[i]:
            continue
        outline = fixed[part.start : part.stop]
        owner = None if owners is None or not part.solid else owners[part.owner] if part.owner >= 0 else 0
        if near is not None and near[part.start : part.stop].any():
            polygon = cut_near(seen[part.start : part.stop])
            if part.shape in (CAPSULE, STROKE) or len(polygon) < 3:
                continue
            outline = fixed_point(camera.project(polygon))
        if part.shape == STROKE:
            canvas.line(outline, part.radii[0] * float(scale[part.start]), lit[i], owner)
            continue
        if part.shape == CAPSULE:
            outline = cv2.convexHull(rings[i])
        elif part.shape == HULL:
            outline = cv2.convexHull(outline)
        canvas.fill(outline, lit[i], owner)


def _rings(model: Model, pixels: Floats, scale: Floats) -> dict[int, Fixed]:
    """The two end circles [32,2] of every capsule, by part."""
    index = [i for i, part in enumerate(model.parts) if part.shape == CAPSULE]
    if not index:
        return {}
    ends = np.array([model.parts[i].start for i in index])[:, None] + (0, 1)
    radii = np.array([model.parts[i].radii for i in index]) * scale[ends]
    circles = pixels[ends][:, :, None] + radii[:, :, None, None] * _CIRCLE
    return dict(zip(index, fixed_point(circles.reshape(len(index), -1, 2)), strict=True))
