"""A frame of a clip: the street at one moment, seen by the camera, with every object's box."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.data.annotations import Xyxy
from mobile_centernet.data.synthetic import backdrop, weather
from mobile_centernet.data.synthetic.camera import NEAR, Camera, Floats
from mobile_centernet.data.synthetic.light import lit_colours
from mobile_centernet.data.synthetic.shapes import Canvas, Model, fixed_point, paint, place
from mobile_centernet.data.synthetic.street import FPS, Actor, Street

_CANVAS_WIDTH = 960  # frames are drawn at most this wide, then enlarged: a soft lens at a quarter of the price
_REFERENCE_WIDTH = 1280.0  # the width that the limits below refer to
_MIN_SIDE = 10.0
_MIN_AREA = 300.0
_MIN_VISIBLE = 0.25
_OCCLUDED = 0.85


@dataclass(frozen=True, slots=True)
class Seen:
    """One object in a frame: its kind, the box around its visible pixels, the visible share of it."""

    kind: str
    box: Xyxy
    visible: float
    truncated: bool
    signal: str

    @property
    def occluded(self) -> bool:
        """Whether something stands before it."""
        return self.visible < _OCCLUDED


@dataclass(slots=True)
class _Drawn:
    """An object on the canvas: its id, the window that holds it, its pixels when nothing stood before it yet."""

    ident: int
    kind: str
    window: tuple[slice, slice]
    pixels: int
    truncated: bool
    signal: str


class Clip:
    """A street and the camera that drives through it. The same `street` and `rng` give the same bytes."""

    def __init__(self, street: Street, size: tuple[int, int], rng: np.random.Generator) -> None:
        """`size` is the (height, width) of the frames in pixels."""
        self.street, self.size = street, size
        self.scale = min(1.0, _CANVAS_WIDTH / size[1])
        self.canvas_size = round(size[0] * self.scale), round(size[1] * self.scale)
        self._focal = float(rng.uniform(0.74, 0.88)) * self.canvas_size[1]
        self._eye = float(rng.uniform(1.25, 1.6))
        self._horizon = float(rng.uniform(0.40, 0.50))
        self._x = float(rng.normal(0, 0.2))
        self._phases = rng.uniform(0, 2 * np.pi, 6)
        self._shake = float(rng.uniform(0.3, 1.0)) * min(1.0, 0.2 + street.speed / 8)
        self._skyline = backdrop.draw_skyline(rng, street.road.scene)
        self._finish = weather.Finish(street.light, self.canvas_size, size, street.speed, rng)
        self._noise_seed = int(rng.integers(2**31))

    def camera(self, seconds: float) -> Camera:
        """The camera at that time: driving on, nodding, swaying and looking about a little."""
        height, width = self.canvas_size
        wave = np.sin(self._phases + seconds * np.array([9.5, 5.2, 2.1, 3.3, 0.7, 1.1]))
        pitch = self._shake * (wave[0] * 0.0025 + wave[1] * 0.004)
        yaw = self._shake * (wave[2] * 0.004) + wave[4] * 0.02
        return Camera(
            width=width,
            height=height,
            focal=self._focal,
            centre=(width / 2 + self._focal * float(yaw), height * self._horizon + self._focal * float(pitch)),
            x=self._x + 0.12 * float(wave[5]),
            eye=self._eye + self._shake * 0.015 * float(wave[3]),
            z=self.street.speed * seconds,
            bend=self.street.road.bend,
        )

    def frame(self, index: int) -> tuple[NDArray[np.uint8], list[Seen]]:
        """The picture (BGR uint8 [height, width, 3]) and its objects, boxes in its pixels, for frame `index`."""
        seconds = index / FPS
        camera = self.camera(seconds)
        painter = _Painter(self, camera, seconds)
        painter.paint()
        image = self._finish.apply(painter.canvas, painter.blooms(), seconds, np.random.default_rng((self._noise_seed, index)))
        return image, painter.objects()

    def lane_lines(self, index: int) -> list[tuple[str, Floats]]:
        """Kerbs and lane markings left to right: style, and four points [4,2] in pixels of the finished frame."""
        camera, road = self.camera(index / FPS), self.street.road
        lines = [(road.left, "kerb"), *sorted(road.dividers), (road.right, "kerb")]
        depth = np.geomspace(camera.nearest_ground() * 1.1, 45.0, 4)
        found = []
        for x, style in lines:
            pixels = camera.pixels(np.stack([np.full(4, x), np.zeros(4), camera.z + depth], axis=1)) / self.scale
            found.append((style, np.clip(pixels, 0.0, (self.size[1], self.size[0]))))
        return found


class _Painter:
    """Paints one frame."""

    def __init__(self, clip: Clip, camera: Camera, seconds: float) -> None:
        height, width = clip.canvas_size
        self.clip, self.camera, self.seconds = clip, camera, seconds
        self.street, self.light = clip.street, clip.street.light
        self.canvas = Canvas(np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint16))
        self.drawn: list[_Drawn] = []
        self.lamps: list[weather.Bloom] = []

    def paint(self) -> None:
        """Everything from the sky to the nearest actor."""
        backdrop.paint_sky(self.canvas, self.camera, self.light, self.clip._skyline)
        actors = in_painting_order(self._visible(self.street.actors), self.seconds)
        backdrop.paint_ground(self.canvas, self.camera, self.street)
        shade, pools = weather.ground_maps(self.camera, self.light, actors, self.seconds)
        backdrop.light_ground(self.canvas, self.camera, self.light, shade, pools)
        for house in sorted(self._visible(self.street.houses), key=lambda h: -h.at(self.seconds)[1]):
            self._paint_actor(house, owned=False)
        for actor in actors:
            self._paint_actor(actor, owned=True)

    def _visible(self, actors: list[Actor]) -> list[Actor]:
        """Actors ahead of the camera, near enough to matter and inside the picture."""
        kept = []
        for actor in actors:
            x, z = actor.at(self.seconds)
            width, length = actor.footprint()
            depth = z - self.camera.z
            if depth + length < NEAR + 0.2 or depth > actor.reach:
                continue
            far = max(depth + length, 1.0)
            aside = abs(x - self.camera.x + self.camera.bend * far**2) - width - 2.5
            if aside / far < 0.95 * self.camera.width / self.camera.focal:
                kept.append(actor)
        return kept

    def _paint_actor(self, actor: Actor, *, owned: bool) -> None:
        model = actor.build(self.seconds)
        x, z = actor.at(self.seconds)
        placed = place(model.arrays().points, (x, 0.0, z), actor.heading)
        normals = place(model.arrays().normals, (0.0, 0.0, 0.0), actor.heading)
        depth = max(0.5, z - self.camera.z - min(2.0, actor.half[1]))
        street_light = 0.12 if self.light.night and self.street.road.scene != "highway" else 0.0
        colours = lit_colours(self.light, model, normals, (x - self.camera.x, 0.0, depth), street_light)
        first = len(self.drawn) + 1
        owners = [first + i for i in range(len(actor.kinds))] if owned else None
        paint(self.canvas, self.camera, model, placed, normals, colours, owners)
        if owned and actor.kinds:
            self._note(actor, placed, owners or [])
        if self.light.dark and model.lamps:
            self._light_lamps(model, actor, (x, z), owners)

    def _note(self, actor: Actor, placed: Floats, owners: list[int]) -> None:
        """Remember what the actor's objects cover before anything nearer is painted."""
        seen = self.camera.view(placed)
        pixels = self.camera.project(np.hstack([seen[:, :2], np.maximum(seen[:, 2:], NEAR)]))
        margin = 3 + 0.3 * self.camera.focal / max(1.0, float(seen[:, 2].min()))
        (left, top), (right, bottom) = pixels.min(axis=0), pixels.max(axis=0)
        height, width = self.canvas.owners.shape
        window = (
            slice(int(np.clip(top - margin, 0, height)), int(np.clip(bottom + margin, 0, height))),
            slice(int(np.clip(left - margin, 0, width)), int(np.clip(right + margin, 0, width))),
        )
        cut = left < 0 or top < 0 or right > width or bottom > height
        for ident, kind in zip(owners, actor.kinds, strict=True):
            count = int(np.count_nonzero(self.canvas.owners[window] == ident))
            self.drawn.append(_Drawn(ident, kind, window, count, bool(cut), actor.signal))

    def _light_lamps(self, model: Model, actor: Actor, at: tuple[float, float], owners: list[int] | None) -> None:
        """Paint the bright cores of lamps that face us; their bloom comes at the end, if nothing hides them."""
        spots = place(np.array([lamp.at for lamp in model.lamps]), (at[0], 0.0, at[1]), actor.heading)
        seen = self.camera.view(spots)
        for lamp, spot in zip(model.lamps, seen, strict=True):
            if spot[2] < 1.0:
                continue
            if lamp.facing is not None:
                way = place(np.array([lamp.facing]), (0.0, 0.0, 0.0), actor.heading)[0]
                if float(way @ -spot) < 0.25 * float(np.linalg.norm(spot)):
                    continue
            pixel = self.camera.project(spot[None])[0]
            radius = max(0.8, lamp.radius * 0.62 * self.camera.focal / spot[2])
            ring = pixel + radius * weather.CIRCLE
            core = [min(255.0, c * 0.45 + 140) for c in lamp.colour]
            ident = owners[0] if owners else None
            self.canvas.fill(fixed_point(ring), core, None)
            mirrored = self.camera.project(np.array([[spot[0], -spot[1] - 2 * self.camera.eye, spot[2]]]))[0]
            self.lamps.append(weather.Bloom(pixel, radius, lamp.colour, ident, mirrored))

    def blooms(self) -> list[weather.Bloom]:
        """Lamps that are still visible."""
        height, width = self.canvas.owners.shape
        kept = []
        for lamp in self.lamps:
            x, y = int(lamp.pixel[0]), int(lamp.pixel[1])
            if 0 <= x < width and 0 <= y < height:
                owner = int(self.canvas.owners[y, x])
                if lamp.owner is None or owner in (lamp.owner, lamp.owner + 1):
                    kept.append(lamp)
        return kept

    def objects(self) -> list[Seen]:
        """The objects that are worth a label, boxes in pixels of the finished frame."""
        found = []
        reference = _REFERENCE_WIDTH / self.camera.width
        for thing in self.drawn:
            mask = self.canvas.owners[thing.window] == thing.ident
            left = int(np.count_nonzero(mask))
            if left == 0 or left < _MIN_VISIBLE * thing.pixels:
                continue
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            if min(w, h) * reference < _MIN_SIDE or w * h * reference**2 < _MIN_AREA:
                continue
            x, y = x + thing.window[1].start, y + thing.window[0].start
            box = tuple(v / self.clip.scale for v in (x, y, x + w, y + h))
            found.append(Seen(thing.kind, (box[0], box[1], box[2], box[3]), left / thing.pixels, thing.truncated, thing.signal))
        return found


def in_painting_order(actors: list[Actor], seconds: float) -> list[Actor]:
    """Far to near. Beside a long vehicle, who stands further from our line is painted before it."""
    if not actors:
        return []
    order = sorted(actors, key=lambda a: -a.at(seconds)[1])
    for vehicle in [a for a in order if max(a.half) > 1.5]:
        x, z = vehicle.at(seconds)
        width, length = vehicle.footprint()
        place_now = order.index(vehicle)
        for i, other in enumerate(order):
            ox, oz = other.at(seconds)
            ow, ol = other.footprint()
            beside = abs(oz - z) < length + ol and abs(ox - x) >= (width + ow) * 0.7
            if beside and i > place_now and ox * x > 0 and abs(ox) > abs(x):
                order.remove(vehicle)
                order.insert(i, vehicle)
                place_now = i
    return order
