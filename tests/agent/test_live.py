"""An application across a change of releases."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mobile_centernet.agent.health import read_beats
from mobile_centernet.agent.live import LiveDetector
from mobile_centernet.agent.store import AgentStore
from mobile_centernet.bundle.errors import BundleError
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
        while seen[-1:] != ["13"] and len(seen) < 100_000:
            yield FRAME
            if len(seen) == 5:
                agent.start()

    seen: list[str] = []
    with LiveDetector(lab.root, threads=1, look_every_s=0.02, beat_every_s=0.05) as live:
        for result in live.detect_stream(frames(), drop_late=False):
            seen.append(live.release.manifest.version)
            if seen[-1] == "12":
                assert (result.detections.scores == old.scores).all()
        last = result
        while agent.is_alive():
            live.detect(FRAME)
    agent.join()
    assert sorted(set(seen)) == ["12", "13"] and seen == sorted(seen)
    assert lab.running() == releases[13].digest
    new = Detector(lab.store.folder(releases[13].digest) / "model.fp32.onnx", 1).detect(FRAME)
    assert (last.detections.scores == new.scores).all() and not (new.scores == old.scores).all()


def test_a_release_that_does_not_load_is_never_beaten_for(lab: Lab, releases: Releases) -> None:
    """The old one goes on; the agent, without a heartbeat of the new one, goes back."""
    lab.install(releases[12])
    lab.offer(releases[13])
    lab.configure(health={"start_s": 0.5})
    with LiveDetector(lab.root, threads=1, look_every_s=0.02, beat_every_s=0.02) as live:
        live._settings = ("fp16", "cpu", 1, False)  # which this release does not have
        agent = threading.Thread(target=lab.polled)
        agent.start()
        while agent.is_alive():
            live.detect(FRAME)
        assert live.release.manifest.version == "12"
    beat = read_beats(lab.root)["heartbeat"]
    assert beat.release == releases[12].digest == lab.running()


@pytest.mark.parametrize(
    "error", [ModelError("no memory"), RuntimeError("no memory"), MemoryError(), OSError(5, "EIO")]
)
def test_it_follows_the_next_release_whatever_the_last_one_raised(
    lab: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A device without memory for one release: the old one goes on, and the next is loaded, the same one again too."""
    for number in (12, 13):
        lab.install(releases[number])
    lab.store.point(releases[12].digest)
    failures, real = [error], Detector.warm_up

    def warm_up(detector: Detector) -> None:
        if failures and releases[13].digest in str(detector.path):
            raise failures.pop()
        real(detector)

    monkeypatch.setattr(Detector, "warm_up", warm_up)

    looks: list[str | None] = []
    pointed = AgentStore.pointed

    def look(store: AgentStore) -> str | None:
        looks.append(pointed(store))
        return looks[-1]

    monkeypatch.setattr(AgentStore, "pointed", look)
    with LiveDetector(lab.root, threads=1, look_every_s=0.01) as live:

        def until(holds: Callable[[], object]) -> None:
            while not holds():
                assert live._follower.is_alive()
                time.sleep(0.01)

        lab.store.point(releases[13].digest)
        until(lambda: not failures)
        lab.store.point(releases[12].digest)  # as the agent does, which tries it again later
        until(lambda: looks[-2:] == [releases[12].digest] * 2)  # by the second look the first has been acted on
        lab.store.point(releases[13].digest)
        until(lambda: live._newest.manifest.version == "13")


def test_it_loads_no_file_that_is_not_the_releases(lab: Lab, releases: Releases) -> None:
    """The agent verified them when it started; disks rot, and others may write."""
    lab.install(releases[12])
    model = lab.store.folder(releases[12].digest) / "model.fp32.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="expected SHA-256"):
        LiveDetector(lab.root)
