"""A live source: the newest frame is looked at, late ones are dropped and counted, nothing is left running."""

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from mobile_centernet.detections import Detections
from mobile_centernet.errors import DataError
from mobile_centernet.inference.stream import detect_stream
from mobile_centernet.inference.video import LiveFrames, is_live, paced, video_frames
from tests.helpers.mjpeg import MjpegServer

Array = np.ndarray
_HAS_GSTREAMER = re.search(r"GStreamer: +YES", cv2.getBuildInformation()) is not None


def frame(number: int) -> Array:
    return np.full((2, 3, 3), number, np.uint8)


def detect(image: Array) -> Detections:
    """A box at the image's own number."""
    number = float(image[0, 0, 0])
    return Detections(np.full((1, 4), number, np.float32), np.array([0.5], np.float32), np.array([0], np.int64))


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "frames"]


class Camera:
    """Delivers `count` frames, each when the test lets it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.go = threading.Semaphore(0)
        self.released = self.asked = 0
        self.is_released = False

    def frames(self) -> Iterator[Array]:
        try:
            for number in range(self.count):
                self.asked += 1
                self.go.acquire()
                yield frame(number)
        finally:
            self.is_released = True

    def let(self, count: int) -> None:
        self.released += count
        self.go.release(count)

    def deliver(self, count: int) -> None:
        """Returns once the stream has taken them: the camera is then asked for the next one, or released."""
        self.let(count)
        deadline = time.monotonic() + 30
        while self.asked <= self.released and not self.is_released and time.monotonic() < deadline:
            time.sleep(0.001)
        assert self.asked > self.released or self.is_released


def test_late_frames_are_dropped_and_the_newest_is_looked_at() -> None:
    camera = Camera(10)
    stream = detect_stream(detect, camera.frames())
    threading.Timer(0.05, camera.let, (1,)).start()  # the stream waits for its first frame
    first = next(stream)
    assert (first.index, first.dropped) == (0, 0)
    camera.deliver(5)  # while the caller is busy with the first
    second = next(stream)
    assert (second.index, second.dropped, second.detections.boxes[0, 0]) == (5, 4, 5)
    np.testing.assert_array_equal(second.image, frame(5))
    camera.deliver(4)
    last = next(stream)
    assert (last.index, last.dropped) == (9, 3)
    assert list(stream) == [] and camera.is_released and not running()


def test_a_slow_detector_sees_the_present() -> None:
    """50 frames at 100 a second, 60 ms a detection: about ten results, on the newest frame there was."""
    born = []

    def live() -> Iterator[Array]:
        for number in range(50):
            time.sleep(0.01)
            born.append(number)
            yield frame(number)

    behind = []

    def slow(image: Array) -> Detections:
        behind.append(born[-1] - int(image[0, 0, 0]))
        time.sleep(0.06)
        return detect(image)

    results = list(detect_stream(slow, live()))
    assert results[-1].index == 49, "the last frame is never dropped"
    assert sum(result.dropped for result in results) + len(results) == 50
    assert 3 <= len(results) <= 25
    assert np.median(behind) <= 1


def test_every_frame_on_request() -> None:
    results = list(detect_stream(detect, (frame(n) for n in range(20)), drop_late=False))
    assert [(result.index, result.dropped, result.detections.boxes[0, 0]) for result in results] == [
        (n, 0, n) for n in range(20)
    ]


def test_the_model_may_change_between_two_frames() -> None:
    current = {"offset": 0.0}

    def swapping(image: Array) -> Detections:
        found = detect(image)
        return replace(found, boxes=found.boxes + np.float32(current["offset"]))

    seen = []
    for result in detect_stream(swapping, (frame(n) for n in range(6)), drop_late=False):
        seen.append(float(result.detections.boxes[0, 0]))
        current["offset"] = 100.0 if result.index >= 2 else 0.0
    assert seen == [0, 1, 2, 103, 104, 105]


@pytest.mark.parametrize("drop_late", [True, False])
def test_what_the_source_raises_reaches_the_caller_after_its_last_frame(drop_late: bool) -> None:
    def unplugged() -> Iterator[Array]:
        yield frame(0)
        raise DataError("camera: unplugged")

    stream = detect_stream(detect, unplugged(), drop_late=drop_late)
    assert next(stream).index == 0
    with pytest.raises(DataError, match="unplugged"):
        next(stream)
    assert not running()


@pytest.mark.parametrize("drop_late", [True, False])
def test_what_the_detector_raises_releases_the_camera(drop_late: bool) -> None:
    camera = Camera(100)
    camera.let(100)

    def broken(_image: Array) -> Detections:
        raise RuntimeError("engine lost")

    with pytest.raises(RuntimeError, match="engine lost"):
        next(detect_stream(broken, camera.frames(), drop_late=drop_late))
    assert not running() and camera.is_released


@pytest.mark.parametrize("drop_late", [True, False])
def test_leaving_early_releases_the_camera(drop_late: bool) -> None:
    camera = Camera(1000)
    camera.let(1000)

    def slowly() -> Iterator[Array]:
        for image in camera.frames():
            time.sleep(0.001)
            yield image

    stream = detect_stream(detect, slowly(), drop_late=drop_late)
    next(stream)
    stream.close()
    assert not running() and camera.asked < 500


def test_an_empty_source() -> None:
    assert list(detect_stream(detect, [])) == []
    assert [result.index for result in detect_stream(detect, iter([frame(0)]))] == [0]


def test_paced_is_no_faster_than_asked() -> None:
    start = time.monotonic()
    assert len(list(paced((frame(n) for n in range(6)), fps=50))) == 6
    assert time.monotonic() - start >= 5 / 50


def test_frames_of_a_video_come_whole_in_order_and_rgb(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(8):
        writer.write(np.full((48, 64, 3), (0, 30 * number, 255), np.uint8))  # BGR: red, and greener frame by frame
    writer.release()
    frames = list(video_frames(path))
    assert len(frames) == 8 and frames[0].shape == (48, 64, 3)
    assert [round(float(image[..., 1].mean()) / 30) for image in frames] == list(range(8))
    assert all(image[..., 0].mean() > 200 > 60 > image[..., 2].mean() for image in frames)


def test_a_live_source_that_ends_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that is pulled out is an error; the end of a file is none."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    camera = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: camera(str(path)))
    frames = video_frames(0)
    assert next(frames).shape == (48, 64, 3)
    with pytest.raises(DataError, match="0: expected another frame of a live source"):
        next(frames)


def test_a_pipeline_that_this_opencv_cannot_open() -> None:
    if _HAS_GSTREAMER:
        pytest.skip("needs an OpenCV without GStreamer")
    with pytest.raises(DataError, match="expected an OpenCV with GStreamer"):
        next(iter(video_frames("videotestsrc ! appsink")))


def test_a_stream_that_drops_comes_back(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """Each connection ends after 5 frames, and the next two find nothing; all is said without the password."""
    with MjpegServer(frames=5, login="guard:se/cr@et", closed=(1, 2)) as server:
        live = LiveFrames(server.url("guard:se%2Fcr%40et"), first_wait_s=0.01, longest_wait_s=0.02)
        caplog.set_level("INFO", "mobile_centernet")
        shades = []
        for result in detect_stream(detect, live, drop_late=False):
            shades.append(round(float(result.image.mean()) / 20))
            if len(shades) == 12:
                break
        assert shades == [0, 1, 2, 3, 4] * 2 + [0, 1] and server.connections == 5
    texts = [record.getMessage() for record in caplog.records]
    assert [re.sub(r".*: (expected|back)", r"\1", text) for text in texts] == [
        "expected another frame of a live source, found its end; it is opened again until it is back",
        "expected a camera or a video, found none that opens; it is opened again until it is back",
        "back",
        "expected another frame of a live source, found its end; it is opened again until it is back",
        "back",
    ]
    assert all("http://...@127.0.0.1:" in text and "token=..." in text for text in texts)
    said = " ".join(texts) + "".join(capfd.readouterr())
    assert not re.search("guard|se%2F|hidden", said)


def test_leaving_a_stream_that_is_waiting_for_its_source_ends_its_thread() -> None:
    with MjpegServer(frames=2) as server:
        stream = detect_stream(detect, LiveFrames(server.url(), first_wait_s=600, longest_wait_s=600))
        assert next(stream).index in (0, 1)
        deadline = time.monotonic() + 30
        while server.ended < 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        stream.close()
        assert not running()


def test_waits_for_a_source_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    live, waits = LiveFrames("/dev/no-such-camera", first_wait_s=1, longest_wait_s=5), []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 5:
            live.close()

    monkeypatch.setattr(live._is_closed, "wait", wait)
    assert list(live) == [] and waits == [1, 2, 4, 5, 5]


def test_what_is_wrong_for_good_is_not_tried_again(tmp_path: Path) -> None:
    for source in (tmp_path / "missing.mp4", "missing.mp4", *([] if _HAS_GSTREAMER else ["videotestsrc ! appsink"])):
        with pytest.raises(DataError):
            next(iter(LiveFrames(source, first_wait_s=600)))


def test_what_is_live(tmp_path: Path) -> None:
    assert all(map(is_live, (0, "/dev/video9", "/dev/null", "rtsp://camera/1", "v4l2src ! appsink " + "x" * 5000)))
    assert not any(map(is_live, ("drive.mp4", "wow!.mp4", tmp_path, tmp_path / "a://b")))


def test_a_source_that_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.mp4: expected a camera or a video"):
        next(iter(video_frames(tmp_path / "missing.mp4")))


def test_dashcam_clips(drives: list[Path]) -> None:
    for drive in drives:
        results = list(detect_stream(detect, islice(video_frames(drive), 30)))
        assert results[0].image.shape[2] == 3
        assert sum(result.dropped for result in results) + len(results) == results[-1].index + 1 == 30
