"""A detector that follows the agent: it changes to each new release between two frames, without a pause."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.agent.device import Device
from mobile_centernet.agent.health import Heartbeat
from mobile_centernet.agent.store import AgentStore
from mobile_centernet.bundle.bundle import verify_folder
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.detections import Detections
from mobile_centernet.errors import ModelError
from mobile_centernet.inference.onnx import AUTO, Detector
from mobile_centernet.inference.stream import FrameDetections, detect_stream

logger = logging.getLogger(__name__)


class Release:
    """A release with its model loaded and warm. Raises UserError where a file is not the release's or does not load."""

    def __init__(
        self, store: AgentStore, digest: str, precision: str, provider: str, threads: int | None, spinning: bool
    ) -> None:
        folder = store.folder(digest)
        self.digest = digest
        self.manifest: Manifest = verify_folder(folder)
        if precision not in self.manifest.variants:
            raise ModelError(f"{folder}: expected a variant {precision}, found {', '.join(self.manifest.variants)}")
        model = self.manifest.variants[precision].model
        engine = store.engine(Device.here().engine_key(precision, self.manifest))
        engine_folder = engine if engine.is_dir() else None
        self.detector = Detector(folder / model, threads, provider, engine_folder, spinning=spinning)
        self.detector.warm_up()


class LiveDetector:
    """Detects with whatever `current` leads to, and beats for it. Use it in a `with`.

    A new release is loaded and warmed in a thread while the old one runs; the next frame runs on it. One that does
    not load is logged, the old one stays, and without its heartbeat the agent goes back. `release` is the one that the
    last frame ran on.

    Args:
        root: the agent's folder.
        precision: which variant of a release, as in the agent's settings.
        provider: what runs it, as in the agent's settings.
        threads: CPU threads, as `Detector` takes them.
        spinning: whether idle CPU threads keep their cores busy, as `Detector` takes it.
        look_every_s: seconds between two looks for a new release.
        beat_every_s: seconds between two heartbeats.
        name: of this application, where the device has several, such as one for each camera.

    Raises:
        ModelError: there is no release yet, or it does not load.
    """

    def __init__(
        self,
        root: Path,
        *,
        precision: str = "fp32",
        provider: str = AUTO,
        threads: int | None = None,
        spinning: bool = False,
        look_every_s: float = 0.5,
        beat_every_s: float = 1.0,
        name: str = "",
    ) -> None:
        self._store = AgentStore(root)
        self._settings = (precision, provider, threads, spinning)
        self._look_every_s, self._beat_every_s = look_every_s, beat_every_s
        self._heart = Heartbeat(root, name)
        self._beaten = (0.0, "")
        digest = self._store.pointed()
        if digest is None:
            raise ModelError(f"{root}: expected a release, found none yet: mobile-centernet-edge status")
        self.release = self._newest = Release(self._store, digest, *self._settings)
        self._end = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="releases", daemon=True)

    def __enter__(self) -> "LiveDetector":
        self._follower.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._follower.join()

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """As `Detector.detect`, on the newest release; a frame that was detected on is a heartbeat.

        Args:
            image: RGB uint8 [H, W, 3] of any size.

        Returns:
            What was found, in absolute pixels of the image, best score first.
        """
        self.release = self._newest
        found = self.release.detector.detect(image)
        # At once for a new release, then now and then. A disk that refuses must not stop the frames.
        now, (last, digest) = time.monotonic(), self._beaten
        if digest != self.release.digest or now - last >= self._beat_every_s:
            try:
                self._heart.beat(self.release.digest)
            except OSError as error:
                logger.warning("no heartbeat: %s", error)
            self._beaten = (now, self.release.digest)
        return found

    def detect_stream(
        self, frames: Iterable[NDArray[np.uint8]], *, drop_late: bool = True
    ) -> Iterator[FrameDetections]:
        """As `Detector.detect_stream`; `release` is the one of the frame that was yielded last."""
        return detect_stream(self.detect, frames, drop_late=drop_late)

    def _follow(self) -> None:
        failed = None
        while not self._end.wait(self._look_every_s):
            digest = None
            try:
                digest = self._store.pointed()
                if digest in (None, self._newest.digest):
                    failed = None  # the agent went back: it may try that one again later
                elif digest != failed:
                    self._newest = Release(self._store, digest, *self._settings)
                    logger.info("version %s from now on", self._newest.manifest.version)
            except Exception as error:  # noqa: BLE001  # whatever it is, the next release must be followed
                logger.error("release %s does not load, the old one stays: %s", (digest or "?")[:12], error)
                failed = digest
