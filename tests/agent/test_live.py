"""An application across a change of releases."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mobile_centernet.agent.health import read_beat
from mobile_centernet.agent.live import LiveDetector
from mobile_centernet.errors import ModelError
from mobile_centernet.inference.onnx import Detector
from tests.helpers.lab import Lab
from tests.helpers.offers import Bundle

Releases = dict[int, Bundle]
FRAME = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


def test_no_release_yet(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a release, found none yet"):
        LiveDetector(tmp_path)


def test_it_changes_between_two_frames_and_its_beats_commit_the_release(lab: Lab, releases: Releases) -> None:
    """Nothing beats here but the detector itself."""
    lab.install(releases[12])
    lab.offer(releases[13])
    old = Detector(lab.store.folder(releases[12].digest) / "model.fp32.onnx", 1).detect(FRAME)
    agent = threading.Thread(target=lab.polled)

    def frames() -> Iterator[NDArray[np.uint8]]:
        while seen[-1:] != [13] and len(seen) < 100_000:
            yield FRAME
            if len(seen) == 5:
                agent.start()

    seen: list[int] = []
    with LiveDetector(lab.root, threads=1, look_every_s=0.02, beat_every_s=0.05) as live:
        for result in live.detect_stream(frames(), drop_late=False):
            seen.append(live.release.manifest.release)
            if seen[-1] == 12:
                assert (result.detections.scores == old.scores).all()
        last = result
        while agent.is_alive():
            live.detect(FRAME)
    agent.join()
    assert sorted(set(seen)) == [12, 13] and seen == sorted(seen)
    assert lab.running() == releases[13].digest
    new = Detector(lab.store.folder(releases[13].digest) / "model.fp32.onnx", 1).detect(FRAME)
    assert (last.detections.scores == new.scores).all() and not (new.scores == old.scores).all()


def test_a_release_that_does_not_load_is_never_beaten_for(lab: Lab, releases: Releases) -> None:
    """The old one goes on; the agent, without a heartbeat of the new one, goes back."""
    lab.install(releases[12])
    lab.offer(releases[13])
    lab.configure(health={"start_s": 0.5})
    with LiveDetector(lab.root, threads=1, look_every_s=0.02, beat_every_s=0.02) as live:
        live._settings = ("fp16", "cpu", 1)  # which this release does not have
        agent = threading.Thread(target=lab.polled)
        agent.start()
        while agent.is_alive():
            live.detect(FRAME)
        assert live.release.manifest.release == 12
    beat = read_beat(lab.root)
    assert beat and beat.release == releases[12].digest == lab.running()
