"""Cuts videos into frames, laid out and named as ivslab's: `JPEGImages/All/X.mp4/X.mp4_00007.jpg`."""

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mobile_centernet.data.annotations import Finding
from mobile_centernet.data.readers.common import VIDEO_SUFFIXES, find_files, quarantined, require_folder
from mobile_centernet.errors import DataError
from mobile_centernet.files import new_folder
from mobile_centernet.images.opencv import encode_jpeg


@dataclass(frozen=True)
class FrameStep:
    """Which frames are kept: every n-th (`frames`), or the first one in every interval of so many `seconds`."""

    frames: int = 1
    seconds: float = 0.0


def cut_videos(
    videos: Path, out: Path, step: FrameStep, *, quality: int = 95, progress: bool = True
) -> tuple[int, list[Finding]]:
    """Cut every mp4 below `videos` into unlabelled frames in the new folder `out` (an `ivslab_train`), as JPEG.

    The number in a frame's name is its place in the video, from 0. A video in a subfolder is named after both
    (`a/x.mp4` → `a_x.mp4`). What could be decoded of a damaged video whole stays.

    Args:
        videos: the folder with the videos.
        out: appears only when it is complete.
        step: which frames are kept.
        quality: of the JPEGs, 1 to 100.
        progress: show a progress bar on a terminal.

    Returns:
        How many frames there are, and a finding for each video that does not open, has the name of another, or ends
        before it should.

    Raises:
        DataError: there is no video, or no frame in any, or the disk is full; nothing is left.
    """
    require_folder(videos, "mp4 files")
    found = list(find_files(videos, VIDEO_SUFFIXES))
    if not found:
        raise DataError(f"{videos}: expected mp4 files, found none")
    frames, findings, used = 0, [], set()
    with new_folder(out, "videos cannot be cut into frames there", DataError) as folder:
        for path in tqdm(found, "cut", unit="video", disable=None if progress else True):
            item = path.relative_to(videos).as_posix()
            name = item[: -len(path.suffix)].replace("/", "_") + ".mp4"
            if name in used:
                findings.append(quarantined("duplicate_video", item, "a name of its own", f"a second {name}"))
                continue
            used.add(name)
            count, finding = _cut(path, item, folder / "JPEGImages" / "All" / name, step, quality)
            frames += count
            findings += [finding] if finding else []
        if not frames:
            raise DataError(f"{videos}: expected videos that decode, found none in {len(found)} mp4 files")
    return frames, findings


def _cut(path: Path, item: str, folder: Path, step: FrameStep, quality: int) -> tuple[int, Finding | None]:
    """Write one video's kept frames; how many, and what is wrong with it."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            return 0, quarantined("unreadable_video", item, "a video", "one that FFmpeg does not open")
        announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        written: list[Path] = []
        grabbed, unreadable, interval = 0, 0, -1
        while capture.grab():  # decodes; only `retrieve` converts to pixels
            number, grabbed = grabbed, grabbed + 1
            if step.seconds:
                # Timestamps are rounded: 0.1 s at 30 fps is 99.99 ms. A tenth of a millisecond is far below a frame.
                seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 + 1e-4
                is_kept = math.floor(seconds / step.seconds) > interval
                interval = max(interval, math.floor(seconds / step.seconds))
            else:
                is_kept = number % step.frames == 0
            if not is_kept:
                continue
            decoded, bgr = capture.retrieve()
            if not decoded:
                unreadable += 1
                continue
            folder.mkdir(parents=True, exist_ok=True)
            written.append(folder / f"{folder.name}_{number:05d}.jpg")
            rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
            written[-1].write_bytes(encode_jpeg(rgb, quality))
    finally:
        capture.release()
    if grabbed - unreadable >= announced:
        return len(written), None
    found = f"{grabbed - unreadable} that decode"
    if written and written[-1].stem.endswith(f"_{grabbed - 1:05d}"):
        written.pop().unlink()  # FFmpeg may have made up the rest of the frame in which the file ends
        found += ", of which the last may be half and is left out"
    return len(written), quarantined("truncated_video", item, f"{announced} frames", found)
