"""Paints one frame: the street at one moment, and a box around what is visible of every object."""

from dataclasses import dataclass

import cv2
import numpy as np

from mobile_centernet.data.annotations import Xyxy
from sample import backdrop
from sample.camera import NEAR, Camera, Floats
from sample.canvas import Canvas, fixed_point, paint, place
from sample.finish import Bloom
from sample.light import headlight
from sample.shadows import light_ground
from sample.shapes import CIRCLE
from sample.street import Actor, Street

_REFERENCE_WIDTH = 1280.0  # the width of the image that the limits in pixels below refer to
_MIN_SIDE = 10.0
_MIN_AREA = 300.0
_MIN_CUT_SIDE = 24.0  # of what the border of the image cuts: no slivers
_MIN_VISIBLE = 0.25
_OCCLUDED = 0.85
_STREET_LIGHT = 0.12  # what lamps and shop windows add at night, away from highways
_HERE = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class VisibleObject:
    """One object in a frame: its kind, the box around its visible pixels, and the visible share of it.

    It is `occluded` where something stands before it, `truncated` where the border of the image cuts it.
    """

    kind: str
    box: Xyxy
    visible: float
    occluded: bool
    truncated: bool
    signal: str


@dataclass(frozen=True, slots=True)
class _Drawn:
    """An object on the canvas: its id, the window that holds it, its pixels when nothing stood before it yet."""

    ident: int
    kind: str
    window: tuple[slice, slice]
    pixels: int
    truncated: bool
    signal: str


class Painter:
    """One frame under way."""

    def __init__(self, street: Street, camera: Camera, seconds: float) -> None:
        self.street, self.light, self.camera, self.seconds = street, street.light, camera, seconds
        size = (camera.height, camera.width)
        self.canvas = Canvas(np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint16))
        self._drawn: list[_Drawn] = []
        self._lamps: list[Bloom] = []

    def paint(self, skyline: Floats) -> None:
        """Everything from the sky to the nearest actor; `skyline` as `backdrop.paint_sky` takes it."""
        spots = [(*a.at(self.seconds), *a.footprint(), a) for a in self.street.actors if self._in_sight(a)]
        spots.sort(key=lambda spot: -spot[1])
        # Far to near; but beside a vehicle, who stands further from our line comes first, whatever their middles say.
        for vehicle in [spot for spot in spots if max(spot[4].half) > 1.5]:
            x, z, width, length, _ = vehicle
            further = [
                i
                for i, (ox, oz, ow, ol, _) in enumerate(spots)
                if abs(oz - z) < length + ol and abs(ox - x) >= 0.7 * (width + ow) and ox * x > 0 and abs(ox) > abs(x)
            ]
            now = spots.index(vehicle)
            if further and further[-1] > now:
                spots.insert(further[-1], spots.pop(now))
        actors = [spot[4] for spot in spots]

        houses = [house for house in self.street.houses if self._in_sight(house)]
        backdrop.paint_sky(self.canvas, self.camera, self.light, skyline)
        backdrop.paint_ground(self.canvas, self.camera, self.street)
        light_ground(self.canvas, self.camera, self.light, actors, self.seconds)
        for house in sorted(houses, key=lambda house: -house.z):
            self._paint_actor(house, None)
        for actor in actors:
            first = len(self._drawn) + 1
            self._paint_actor(actor, [first + i for i in range(len(actor.kinds))])

    def _in_sight(self, actor: Actor) -> bool:
        """Ahead of the camera, near enough to matter and not beside the image."""
        x, z = actor.at(self.seconds)
        width, length = actor.footprint()
        depth = z - self.camera.z
        if depth + length < NEAR + 0.2 or depth > actor.reach:
            return False
        far = max(depth + length, 1.0)
        aside = abs(x - self.camera.x + self.camera.bend * far**2) - width - 2.5
        return aside / far < 0.95 * self.camera.width / self.camera.focal

    def _paint_actor(self, actor: Actor, owners: list[int] | None) -> None:
        model = actor.build(self.seconds)
        x, z = actor.at(self.seconds)
        arrays, light = model.arrays(), self.light
        placed = place(arrays.points, (x, 0.0, z), actor.heading)
        normals = place(arrays.normals, _HERE, actor.heading)

        # How the light falls on each part [parts,3], and the haze before it.
        depth = max(0.5, z - self.camera.z - min(2.0, actor.half[1]))
        lamps = _STREET_LIGHT if light.night and self.street.road.scene != "highway" else 0.0
        sunny = np.where(arrays.flat, np.maximum(0.0, normals @ np.array(light.sun_direction)), 0.45)
        sky = np.where(arrays.flat, 0.82 + 0.18 * normals[:, 1], 0.9)
        frontal = np.where(arrays.flat, np.maximum(0.15, -normals[:, 2]), 0.8)
        beam = float(headlight(light, np.array([x - self.camera.x]), np.array([depth]))[0])
        strength = light.ambient * sky + light.sun * sunny + lamps * sky + beam * frontal
        colours = arrays.colours * strength[:, None] * np.array(light.tint)
        colours[arrays.glow] = arrays.colours[arrays.glow] * (1.0 if light.dark else 0.95)
        veil = 1.0 - np.exp(-light.haze * depth)
        colours = np.clip(colours + (np.array(light.horizon) - colours) * veil, 0, 255)

        paint(self.canvas, self.camera, model, placed, normals, colours, owners)
        if owners:  # what its objects cover before anything nearer is painted
            seen = self.camera.view(placed)
            pixels = self.camera.project(np.hstack([seen[:, :2], np.maximum(seen[:, 2:], NEAR)]))
            # Limbs are thicker than the points they run through.
            margin = 3 + 0.3 * self.camera.focal / max(1.0, float(seen[:, 2].min()))
            (left, top), (right, bottom) = pixels.min(axis=0), pixels.max(axis=0)
            height, width = self.canvas.owners.shape
            rows = np.clip((top - margin, bottom + margin), 0, height)
            columns = np.clip((left - margin, right + margin), 0, width)
            window = slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))
            cut = bool(left < 0 or top < 0 or right > width or bottom > height)
            for ident, kind in zip(owners, actor.kinds, strict=True):
                count = int(np.count_nonzero(self.canvas.owners[window] == ident))
                self._drawn.append(_Drawn(ident, kind, window, count, cut, actor.signal))
        # The bright cores of lamps that face us; their blooms come at the end, where nothing hides them.
        for lamp in model.lamps if self.light.dark else ():
            spot = self.camera.view(place(np.array([lamp.at]), (x, 0.0, z), actor.heading))[0]
            if spot[2] < 1.0:
                continue
            if lamp.facing is not None:
                towards = float(place(np.array([lamp.facing]), _HERE, actor.heading)[0] @ -spot)
                if towards < 0.25 * float(np.linalg.norm(spot)):
                    continue
            pixel = self.camera.project(spot[None])[0]
            radius = max(0.8, lamp.radius * 0.62 * self.camera.focal / spot[2])
            core = [min(255.0, c * 0.45 + 140) for c in lamp.colour]
            self.canvas.fill(fixed_point(pixel + radius * CIRCLE), core, None)
            below = np.array([[spot[0], -spot[1] - 2 * self.camera.eye, spot[2]]])
            owner = owners[0] if owners else None
            self._lamps.append(Bloom(pixel, radius, lamp.colour, owner, self.camera.project(below)[0]))

    def blooms(self) -> list[Bloom]:
        """The lamps that are still visible."""
        height, width = self.canvas.owners.shape
        kept = []
        for lamp in self._lamps:
            x, y = int(lamp.pixel[0]), int(lamp.pixel[1])
            if 0 <= x < width and 0 <= y < height:
                owner = int(self.canvas.owners[y, x])
                if lamp.owner is None or owner in (lamp.owner, lamp.owner + 1):
                    kept.append(lamp)
        return kept

    def objects(self, scale: float) -> list[VisibleObject]:
        """The objects that are worth a label; their boxes in pixels of a frame 1 / `scale` times as big."""
        found = []
        unit = _REFERENCE_WIDTH / self.camera.width
        for thing in self._drawn:
            mask = self.canvas.owners[thing.window] == thing.ident
            left = int(np.count_nonzero(mask))
            if left == 0 or left < _MIN_VISIBLE * thing.pixels:
                continue
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            side = _MIN_CUT_SIDE if thing.truncated else _MIN_SIDE
            if min(w, h) * unit < side or w * h * unit**2 < _MIN_AREA:
                continue
            rows, columns = thing.window
            x1, y1 = (x + columns.start) / scale, (y + rows.start) / scale
            box, visible = (x1, y1, x1 + w / scale, y1 + h / scale), left / thing.pixels
            found.append(VisibleObject(thing.kind, box, visible, visible < _OCCLUDED, thing.truncated, thing.signal))
        return found
