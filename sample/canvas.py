"""Painting models: far parts first, soft edges, and a second image that says whose each pixel is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sample.camera import NEAR, Camera, Floats
from sample.shapes import CAPSULE, CIRCLE, FACE, HULL, STROKE, UNLABELLED, Model, Point

Fixed = NDArray[np.int32]
"""Points in cv2's fixed-point pixel coordinates, whose whole numbers are pixel centres."""
_BITS = 4


@dataclass(slots=True)
class Canvas:
    """The image under way (uint8 BGR) and which object owns each pixel (uint16, 0 = none)."""

    image: NDArray[np.uint8]
    owners: NDArray[np.uint16]

    def fill(self, points: Fixed, colour: Sequence[float], owner: int | None) -> None:
        """Paint a polygon [N,2] with soft edges; `owner` None leaves ownership alone."""
        fill(self.image, points, colour, soft=True)
        if owner is not None:
            fill(self.owners, points, (owner,), soft=False)

    def line(self, points: Fixed, width: float, colour: Sequence[float], owner: int | None) -> None:
        """Paint a polyline [N,2] `width` pixels thick, at least one."""
        thick = max(1, round(width))
        cv2.polylines(self.image, [points], False, colour, thick, cv2.LINE_AA, _BITS)
        if owner is not None:
            cv2.polylines(self.owners, [points], False, (owner,), thick, cv2.LINE_8, _BITS)


def fill(target: NDArray[Any], points: Fixed, colour: Sequence[float], *, soft: bool) -> None:
    """Fill a polygon [N,2] on any image, with `soft` or hard edges."""
    cv2.fillPoly(target, [points], colour, cv2.LINE_AA if soft else cv2.LINE_8, _BITS)


def fixed_point(pixels: Floats) -> Fixed:
    """Continuous pixel coordinates -> cv2's fixed-point ones, whose whole numbers are pixel centres."""
    return np.rint((pixels - 0.5) * (1 << _BITS)).astype(np.int32)


def place(points: Floats, at: Point, heading: float) -> Floats:
    """Points of a model's own frame [N,3] -> world: turned by `heading` (radians, 0 looks along the road)."""
    cos, sin = np.cos(heading), np.sin(heading)
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    return np.stack([x * cos + z * sin + at[0], y + at[1], z * cos - x * sin + at[2]], axis=1)


def paint(
    canvas: Canvas,
    camera: Camera,
    model: Model,
    placed: Floats,
    normals: Floats,
    colours: Floats,
    owners: Sequence[int] | None,
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
    lit = colours.tolist()

    # The two end circles [32,2] of every capsule, by part.
    rings: dict[int, Fixed] = {}
    if capsules := [i for i, part in enumerate(model.parts) if part.shape == CAPSULE]:
        ends = np.array([model.parts[i].start for i in capsules])[:, None] + (0, 1)
        radii = np.array([model.parts[i].radii for i in capsules]) * scale[ends]
        circles = pixels[ends][:, :, None] + radii[:, :, None, None] * CIRCLE
        rings = dict(zip(capsules, fixed_point(circles.reshape(len(capsules), -1, 2)), strict=True))

    # Parts that others hide come first.
    order = list(range(len(model.parts)))
    groups = {p.group for p in model.parts}
    if model.sort:
        far = np.add.reduceat(depth, model.arrays().starts) / np.diff(model.arrays().starts, append=len(depth))
        order = np.argsort(-far, kind="stable").tolist()
    elif len(groups) > 1:
        distance = {g: float(np.mean([depth[p.start] for p in model.parts if p.group == g])) for g in groups}
        distance[0] = np.inf
        order.sort(key=lambda i: -distance[model.parts[i].group])

    for i in order:
        part = model.parts[i]
        if part.shape == FACE and not facing[i]:
            continue
        outline = fixed[part.start : part.stop]
        owner = None if owners is None or not part.solid else owners[part.owner] if part.owner != UNLABELLED else 0
        if near is not None and near[part.start : part.stop].any():
            # What of it lies beyond NEAR.
            polygon, cut = seen[part.start : part.stop], []
            for here, there in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                if here[2] >= NEAR:
                    cut.append(here)
                if (here[2] >= NEAR) != (there[2] >= NEAR):
                    cut.append(here + (there - here) * ((NEAR - here[2]) / (there[2] - here[2])))
            if part.shape in (CAPSULE, STROKE) or len(cut) < 3:
                continue
            outline = fixed_point(camera.project(np.array(cut)))
        if part.shape == STROKE:
            canvas.line(outline, part.radii[0] * float(scale[part.start]), lit[i], owner)
            continue
        if part.shape == CAPSULE:
            outline = hull(rings[i])
        elif part.shape == HULL:
            outline = hull(outline)
        canvas.fill(outline, lit[i], owner)


def hull(points: Fixed) -> Fixed:
    """The convex hull of points [N,2]."""
    return np.asarray(cv2.convexHull(points), np.int32)
