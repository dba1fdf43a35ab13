"""A clip: one street, and the camera that drives through it."""

import numpy as np
from numpy.typing import NDArray

from sample.camera import Camera
from sample.canvas import fill
from sample.finish import Finish
from sample.painter import Painter, VisibleObject
from sample.street import Street

FPS = 10.0
_CANVAS_WIDTH = 960  # frames are drawn at most this wide, then enlarged: a soft lens at a quarter of the price


class Clip:
    """Frames of one drive, a tenth of a second apart. The same `street` and `rng` give the same bytes."""

    def __init__(self, street: Street, size: tuple[int, int], rng: np.random.Generator) -> None:
        """Draws the camera; `size` is the (height, width) of the frames in pixels."""
        self.street, self.size = street, size
        self.scale = min(1.0, _CANVAS_WIDTH / size[1])
        self.canvas_size = round(size[0] * self.scale), round(size[1] * self.scale)
        self._focal = float(rng.uniform(0.92, 1.08)) * self.canvas_size[1]
        self._eye = float(rng.uniform(1.25, 1.6))
        self._horizon = float(rng.uniform(0.40, 0.50))
        self._x = float(rng.normal(0, 0.2))
        self._phases = rng.uniform(0, 2 * np.pi, 6)
        self._shake = float(rng.uniform(0.3, 1.0)) * min(1.0, 0.2 + street.speed / 8)
        # Far roofs as steps [36,2]: bearing (x/z) and height in metres, seen 400 m away.
        tall = {"city street": 55.0, "residential": 14.0, "highway": 22.0}[street.road.scene]
        bearing = np.concatenate([[-2.0], np.sort(rng.uniform(-1.2, 1.2, 34)), [2.0]])
        self._skyline = np.stack([bearing, rng.gamma(2.0, tall / 2.0, 36)], axis=1)
        self._finish = Finish(street.light, self.canvas_size, size, street.speed, rng)
        self._noise_seed = int(rng.integers(2**31))

    def frame(self, index: int) -> tuple[NDArray[np.uint8], list[VisibleObject]]:
        """The image (BGR uint8 [height, width, 3]) and its objects, boxes in its pixels, for frame `index` from 0."""
        seconds = index / FPS
        painter = Painter(self.street, self.camera(seconds), seconds)
        painter.paint(self._skyline)
        if self._finish.bonnet:
            outline = self._finish.bonnet_outline()  # what will be painted over owns no pixel any more
            fill(painter.canvas.owners, outline, (0,), soft=False)
        noise = np.random.default_rng((self._noise_seed, index))
        return self._finish.apply(painter.canvas, painter.blooms(), noise), painter.objects(self.scale)

    def camera(self, seconds: float) -> Camera:
        """The camera at that time: driving on, nodding, swaying and looking about a little."""
        height, width = self.canvas_size
        wave = np.sin(self._phases + seconds * np.array([9.5, 5.2, 2.1, 3.3, 0.7, 1.1])).tolist()
        pitch = self._shake * (wave[0] * 0.0025 + wave[1] * 0.004)
        yaw = self._shake * wave[2] * 0.004 + wave[4] * 0.02
        return Camera(
            width=width,
            height=height,
            focal=self._focal,
            centre=(width / 2 + self._focal * yaw, height * self._horizon + self._focal * pitch),
            x=self._x + 0.12 * wave[5],
            eye=self._eye + self._shake * 0.015 * wave[3],
            z=self.street.speed * seconds,
            bend=self.street.road.bend,
        )
