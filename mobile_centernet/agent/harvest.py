"""Keeps the few frames that are worth a label, beside a detector, and never in its way.

`offer` looks at a frame and its detections, which takes a small share of a detection's time. What seems worth it goes
to a thread that blurs, compresses and writes one frame at a time; one that comes meanwhile is left. A disk that is
full, slow or gone is told and costs frames, nothing else.
"""

import logging
import queue
import random
import shutil
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from io import BytesIO
from math import ceil, floor
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

from mobile_centernet.agent.config import Config
from mobile_centernet.detections import Detections
from mobile_centernet.field.criteria import CONTROL, Criteria, usefulness
from mobile_centernet.field.spool import FOLDER, Budget, Spool, SpoolError
from mobile_centernet.field.view import FrameView
from mobile_centernet.trust.layout import DEVICE_NAME

if TYPE_CHECKING:
    from mobile_centernet.agent.live import LiveDetector, Release

LEAST_SCORE = 0.05
"""Detections below are neither recorded nor blurred."""

_CELLS = 6
"""So many, along its longer side, are left of a box that is blurred."""

_MARGIN = 0.1
"""By which share of its sides such a box is enlarged first."""

_PAUSE_S = 10.0
"""After a failure nothing is tried for so long: frames come faster than a disk gets well."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Offer:
    picture: Image.Image
    detections: Detections
    at: datetime
    day: str
    release: "Release"
    reasons: Mapping[str, float]
    worth: float
    control: bool

    def blur(self, classes: Collection[str]) -> None:
        """Leave a few flat cells of every box of these classes, for good."""
        found, width, height = self.detections, self.picture.width, self.picture.height
        for (x1, y1, x2, y2), label in zip(found.boxes.tolist(), found.labels.tolist(), strict=True):
            if found.class_names[label] in classes:
                more_x, more_y = (x2 - x1) * _MARGIN, (y2 - y1) * _MARGIN
                left, top = max(floor(x1 - more_x), 0), max(floor(y1 - more_y), 0)
                right, bottom = min(ceil(x2 + more_x), width), min(ceil(y2 + more_y), height)
                if left < right and top < bottom:
                    part = self.picture.crop((left, top, right, bottom))
                    cell = max(ceil(max(part.size) / _CELLS), 4)
                    few = max(part.width // cell, 1), max(part.height // cell, 1)
                    flat = part.resize(few, Resampling.BOX).resize(part.size, Resampling.NEAREST)
                    self.picture.paste(flat, (left, top))

    def record(self, device: str, camera: str, blurred: Collection[str]) -> dict[str, object]:
        """What goes beside the image, as JSON has it."""
        found = self.detections
        rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        return {
            "device": device,
            "camera": camera,
            "at": self.at.isoformat(timespec="milliseconds"),
            "release": self.release.digest,
            "version": self.release.manifest.version,
            "reason": next(iter(self.reasons)),
            "reasons": {name: round(value, 4) for name, value in self.reasons.items()},
            "width": self.picture.width,
            "height": self.picture.height,
            "blurred": sorted(blurred),
            "detections": [
                {"class": found.class_names[label], "score": round(score, 4), "box": [round(side, 1) for side in box]}
                for label, score, box in rows
            ],
        }


class Harvester:
    """Use it in a `with`, one for each camera, and offer it every frame.

    Attributes:
        problem: why nothing is kept at present, None while all is well.
        kept, missed: frames written since the start, and those left because the one before was still being written.

    Args:
        config: the agent's settings, of which [harvest] says what is kept.
        live: the detector, which knows the release.
        name: of this application, where the device has several; letters, digits, _ or -.

    Raises:
        SpoolError: another process harvests under that name.
        ValueError: it is no such name.
    """

    def __init__(self, config: Config, live: "LiveDetector", name: str = "camera") -> None:
        if not DEVICE_NAME.fullmatch(name):
            raise ValueError(f"name: expected 1 to 64 letters, digits, _ or -, found {name!r}")
        self.problem: str | None = None
        self.kept = self.missed = 0
        self._live, self._name, self._device = live, name, config.device.name
        self._settings = settings = config.harvest
        self._reserve = int(config.store.keep_free_mb * 1e6)
        self._folder = config.paths.root / FOLDER / name
        self._budget = Budget(settings.frames_a_day, settings.control, int(settings.disk_mb * 1e6))
        self._criteria = Criteria(
            margin=settings.margin,
            rare_share=settings.rare_share,
            near_bits=settings.near_bits,
            novel_bits=settings.novel_bits,
        )
        self._day, self._floors = "", {False: 0.0, True: 0.0}
        self._last, self._rests_until = float("-inf"), float("-inf")
        self._chance = random.Random()  # noqa: S311  # draws the control sample
        self._classes: tuple[str, ...] = ()
        self._misfit: str | None = None
        self._offers: queue.Queue[_Offer | None] = queue.Queue(1)
        self._spool: Spool | None = None
        try:
            self._spool = Spool(self._folder, self._budget)
        except OSError as error:
            self._tell(f"{self._folder}: cannot be used ({error.strerror})")
        self._writer = threading.Thread(target=self._write, name="harvest", daemon=True)
        self._writer.start()

    def __enter__(self) -> "Harvester":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._offers.put(None)
        self._writer.join()
        if self._spool is not None:
            self._spool.close()

    def offer(
        self, frame: NDArray[np.uint8], detections: Detections, *, at: float | None = None
    ) -> Mapping[str, float]:
        """Have a frame considered. Neither a disk nor a clock makes it raise.

        Args:
            frame: RGB uint8 [H, W, 3] of any size; it is copied where it may be kept.
            detections: all of them, whatever their scores, in the frame's pixels.
            at: when it was taken, seconds since 1970; None: now.

        Returns:
            The reasons for keeping it, strongest first; none where it is left. The disk has the last word, later.

        Raises:
            ValueError: it is no such frame.
        """
        at = time.time() if at is None else at
        release, view, size = self._live.release, FrameView.of(frame), (frame.shape[0], frame.shape[1])
        thresholds = release.manifest.thresholds
        if detections.class_names != self._classes:
            self._classes, self._misfit = detections.class_names, None
            if strangers := sorted(set(self._settings.blur) - set(self._classes)):
                # A face that was to be blurred must not leave because of a slip of the pen.
                known = ", ".join(self._classes)
                self._misfit = f"harvest.blur: expected classes of the release ({known}), found {', '.join(strangers)}"
            elif set(self._classes) != set(thresholds):
                found = ", ".join(self._classes) or "none"
                self._misfit = f"detections: expected the classes {', '.join(thresholds)}, found {found}"
        if self._misfit:
            self._tell(self._misfit)
            return {}
        reasons = self._criteria.judge(view, size, detections, thresholds, at)
        taken = datetime.fromtimestamp(at, timezone.utc)
        day = taken.strftime("%Y-%m-%d")
        if day != self._day:
            self._day, self._floors = day, {False: 0.0, True: 0.0}
        worth, draw = usefulness(reasons), self._chance.random()
        # Each frame draws a number and the day's highest stay: a uniform sample, however many frames there will be.
        control = self._settings.control > 0 and draw > self._floors[True]
        is_chosen = worth > self._floors[False] and not 0 <= at - self._last < self._settings.least_s
        if not (is_chosen or control) or time.monotonic() < self._rests_until:
            return {}
        if self._offers.unfinished_tasks:
            self.missed += 1
            return {}
        if control:
            reasons, worth = {CONTROL: 1.0, **reasons}, draw
        else:
            self._last = at
            self._criteria.take(view)
        worthy = detections.above(LEAST_SCORE)
        self._offers.put(_Offer(Image.fromarray(frame), worthy, taken, day, release, reasons, worth, control))
        return reasons

    def flush(self) -> None:
        """Wait until the frame at hand, if there is one, is on the disk or refused."""
        self._offers.join()

    def _write(self) -> None:
        while (offer := self._offers.get()) is not None:
            try:
                if self._spool is None:
                    self._spool = Spool(self._folder, self._budget)
                if (free := shutil.disk_usage(self._folder).free) < self._reserve:
                    wanted = f"{self._reserve / 1e6:g} MB free (store.keep_free_mb)"
                    raise SpoolError(f"{self._folder}: expected {wanted}, found {free / 1e6:.1f}")
                offer.blur(self._settings.blur)
                content = BytesIO()
                offer.picture.save(content, "JPEG", quality=self._settings.quality)
                record = offer.record(self._device, self._name, self._settings.blur)
                self.kept += self._spool.add(offer.day, content.getvalue(), record, offer.worth, control=offer.control)
                if offer.day == self._day:
                    self._floors[offer.control] = self._spool.floor(offer.day, offer.control)
                self._tell(None)
            except Exception as error:  # noqa: BLE001  # whatever it is, detection continues
                said = f"{self._folder}: cannot be written ({error.strerror})" if isinstance(error, OSError) else error
                self._tell(f"{said or type(error).__name__}")
                self._rests_until = time.monotonic() + _PAUSE_S
            finally:
                del offer  # and its pixels, before the next one comes
                self._offers.task_done()

    def _tell(self, problem: str | None) -> None:
        if problem != self.problem:
            self.problem = problem
            if problem:
                logger.warning("no frame is kept: %s", problem)
            else:
                logger.info("frames are kept again")
