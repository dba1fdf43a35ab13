"""Cuts videos into frames, laid out and named as ivslab's: `JPEGImages/All/X.mp4/X.mp4_00007.jpg`.

OpenCV decodes. How many frames a player would show, only FFmpeg's packets tell (by PyAV): the number in a file's header
counts the ones before and behind a trimmed recording's edit list, or is guessed from a duration and a mean rate.
"""

import hashlib
import math
import re
from collections import Counter
from dataclasses import dataclass
from operator import sub
from pathlib import Path, PurePosixPath
from typing import Any

import av
import cv2
import numpy as np
from tqdm import tqdm

from mobile_centernet.data.annotations import Action, Finding
from mobile_centernet.data.readers.common import VIDEO_SUFFIXES, quarantined, require_folder, walk
from mobile_centernet.errors import DataError
from mobile_centernet.files import new_folder
from mobile_centernet.images.opencv import encode_jpeg

DURATION_IN_HEADER = frozenset({"asf", "avi", "flv", "matroska,webm", "mxf"})
"""Containers whose header has a duration; that of others is found in the packets that are there."""
ASF_HEADER = 1 << 16
ASF_FILE_SIZE = re.compile(
    rb"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65.{24}(.{8})", re.DOTALL
)  # Advanced Systems Format (ASF) Specification, 3.2: the object's GUID, its size, the file's identifier and size
TS_PACKETS = (188, 192, 204)
"""Bytes of a transport stream's packets: as broadcast, with time stamps (.m2ts), with error correction."""
LONGEST_GROUP = 1000
"""Frames between two key frames, at most, that are decoded to see whether the last one is whole."""


@dataclass(frozen=True)
class FrameStep:
    """Which frames are kept: every n-th (`frames`), or the first one in every interval of so many `seconds`."""

    frames: int = 1
    seconds: float = 0.0


@dataclass(frozen=True)
class ShownFrames:
    """How many frames of a video a player shows.

    Attributes:
        expected: by its index, its packets, or the duration in its header.
        packets: those of shown frames that are there.
        half: the number of the frame whose packet is cut off, so that FFmpeg makes up the rest of it; None without one.
    """

    expected: int
    packets: int
    half: int | None


def shown_frames(path: Path) -> ShownFrames:
    """Count the frames of a video file.

    Nothing is decoded, but where no index or duration tells how long it should be: there the frames from the last key
    frame on. Raises DataError where FFmpeg does not open it.
    """
    try:
        # No playlist may lead to other files or to the network.
        with av.open(str(path.absolute()), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.video:
                raise DataError(f"{path}: expected a video, found none in it")
            stream, kind = container.streams.video[0], container.format.name
            packets, is_corrupt, times, ends = 0, False, [0.0], [0.0]
            last_time, group = math.inf, list[Any]()  # from the last key frame on
            try:
                for packet in container.demux():
                    at = packet.dts if packet.pts is None else packet.pts
                    if at is not None and packet.size:
                        ends.append(float((at + (packet.duration or 0)) * packet.time_base))
                    if packet.size and packet.stream is stream and not packet.is_discard:
                        packets, is_corrupt = packets + 1, packet.is_corrupt
                        last_time = math.inf if at is None else float(at * packet.time_base)
                        times += [] if at is None else [last_time]
                        if kind == "asf" or not (kind in DURATION_IN_HEADER or kind.startswith("mov,")):
                            group = [packet] if packet.is_keyframe else [*group[-LONGEST_GROUP:], packet]
            except av.FFmpegError:
                is_corrupt = True  # it was whole up to there
            expected = max(packets, sum(not entry.is_discard for entry in stream.index_entries))
            if kind in DURATION_IN_HEADER and packets:
                times.sort()
                gap, end = max(map(sub, times[1:], times), default=0.0), max(max(ends), times[-1] * (1 + 1 / packets))
                duration = (container.duration or 0) / av.time_base
                if end + 0.9 * gap < duration:  # what is missing is a frame at least
                    expected = max(expected, round(packets * duration / end) if end else 0)
                if is_corrupt:
                    expected = max(expected, stream.frames)  # says the header; of AVI it may count ticks instead
            with path.open("rb") as file:
                begin = file.read(ASF_HEADER)
            if kind == "asf" and (found := ASF_FILE_SIZE.search(begin)):
                # FFmpeg does not believe the duration of a file that has another size than its header says.
                expected = max(expected, round(packets * int.from_bytes(found[1], "little") / path.stat().st_size))
            if kind == "mpegts" and all(path.stat().st_size % each for each in TS_PACKETS):
                expected = max(expected, packets + 1)  # cut off in something that follows
            if group and group[0].is_keyframe and not is_corrupt:
                # Such a file just ends; whether in the middle of a frame, only a strict decoder tells.
                given = stream.codec_context
                decoder: Any = av.CodecContext.create(given.name, "r")
                decoder.extradata, decoder.options = given.extradata, {"err_detect": "explode"}
                decoder.width, decoder.height, decoder.pix_fmt = given.width, given.height, given.pix_fmt
                try:
                    for one in (*group, None):
                        decoder.decode(one)
                except av.FFmpegError:
                    is_corrupt = True
            before = sum(time < last_time for time in times[1:]) if times[1:] else packets
            return ShownFrames(expected, packets, min(before, packets - 1) if is_corrupt else None)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path}: expected a video, found one that FFmpeg does not open ({error.strerror})") from error


def cut_videos(
    videos: Path, out: Path, step: FrameStep, *, quality: int = 95, progress: bool = True
) -> tuple[int, list[Finding]]:
    """Cut every video below `videos` into unlabelled frames in the new folder `out` (an `ivslab_train`), as JPEG.

    The number in a frame's name is its place in the video, from 0. A video in a subfolder is named after both
    (`a/x.mp4` → `a_x.mp4`; where another has that name, `a_x-3f2a91c0.mp4`, by the digest of its path, so that new
    videos rename none). What could be decoded of a damaged video stays.

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
    require_folder(videos, "videos")
    listing = walk(videos)
    paths = {item: videos / item for item in listing.videos}
    if not paths:
        raise DataError(f"{videos}: expected videos ({', '.join(VIDEO_SUFFIXES)}), found none")
    flat = {item: item.replace("/", "_") for item in paths}
    taken = Counter(flat.values())
    frames, findings = 0, list(listing.findings)
    with new_folder(out, "videos cannot be cut into frames there", DataError) as folder:
        for item, path in tqdm(paths.items(), "cut", unit="video", disable=None if progress else True):
            name = flat[item]
            if taken[name] > 1 and name != item:
                digest, plain = hashlib.sha256(item.encode(errors="surrogateescape")).hexdigest(), PurePosixPath(name)
                name = f"{plain.stem}-{digest[:8]}{plain.suffix}"
                found = f"a second {flat[item]}: its frames are called {name}"
                findings.append(Finding("duplicate_video", Action.REPAIRED, item, "a name of its own", found))
            count, finding = _cut(path, item, folder / "JPEGImages" / "All" / name, step, quality)
            frames += count
            findings += [finding] if finding else []
        if not frames:
            raise DataError(f"{videos}: expected videos that decode, found none in {len(paths)} files")
    return frames, findings


def _cut(path: Path, item: str, folder: Path, step: FrameStep, quality: int) -> tuple[int, Finding | None]:
    """Write one video's kept frames; how many, and what is wrong with it."""
    try:
        shown = shown_frames(path)
    except DataError as error:
        found = str(error).partition("found ")[2]
        return 0, quarantined("unreadable_video", item, "a video", found)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            return 0, quarantined("unreadable_video", item, "a video", "one that FFmpeg does not open")
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
            is_decoded, bgr = capture.retrieve()
            if not is_decoded:
                unreadable += 1
                continue
            folder.mkdir(parents=True, exist_ok=True)
            written.append(folder / f"{folder.name}_{number:05d}.jpg")
            rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
            written[-1].write_bytes(encode_jpeg(rgb, quality))
    finally:
        capture.release()
    decoded = grabbed - unreadable
    if not decoded:
        return 0, quarantined("unreadable_video", item, "a video", "none of its frames decodes")
    if decoded >= shown.expected and shown.half is None:
        return len(written), None
    found = f"{decoded} that decode"
    half = folder / f"{folder.name}_{-1 if shown.half is None else shown.half:05d}.jpg"
    if half in written:
        written.remove(half)
        half.unlink()
        found += ", of which the last may be half and is left out"
    return len(written), quarantined("truncated_video", item, f"{shown.expected} frames", found)
