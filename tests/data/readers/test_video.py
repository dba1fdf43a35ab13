"""Videos are cut into the frames they have, numbered as in the video; damaged ones are findings."""

import struct
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobile_centernet.data.annotations import Action, FrameState
from mobile_centernet.data.readers.ivslab import read_ivslab
from mobile_centernet.data.readers.video import FrameStep, cut_videos
from mobile_centernet.errors import DataError
from mobile_centernet.images import read_image


def write_video(path: Path, frames: int, rate: float = 30.0) -> Path:
    """Frame n is grey of level 8 n, so that a frame tells its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 8 * number, np.uint8))
    writer.release()
    return path


def index_first(path: Path) -> Path:
    """Move the index (moov) to the front, as cameras and `-movflags faststart` do, so that a cut video still opens."""
    data, boxes, place = path.read_bytes(), [], 0
    while place < len(data):
        size = struct.unpack(">I", data[place : place + 4])[0]
        boxes.append(data[place : place + size])
        place += size
    moov = bytearray(next(box for box in boxes if box[4:8] == b"moov"))
    table = moov.index(b"stco") + 8
    for entry in range(struct.unpack(">I", moov[table : table + 4])[0]):
        at = slice(table + 4 + 4 * entry, table + 8 + 4 * entry)
        moov[at] = struct.pack(">I", struct.unpack(">I", moov[at])[0] + len(moov))
    rest = [box for box in boxes if box[4:8] != b"moov"]
    path.write_bytes(rest[0] + moov + b"".join(rest[1:]))
    return path


def numbers(folder: Path, video: str) -> list[int]:
    paths = sorted((folder / "JPEGImages/All" / video).iterdir())
    assert all(path.name.startswith(f"{video}_") and len(path.stem) == len(video) + 6 for path in paths)
    return [int(path.stem[-5:]) for path in paths]


def assert_pictures_are_what_their_names_say(folder: Path) -> None:
    for path in folder.rglob("*.jpg"):
        assert abs(read_image(path).mean() - 8 * int(path.stem[-5:])) < 8, path


def test_every_nth_frame_becomes_an_unlabelled_frame_of_ivslab(tmp_path: Path) -> None:
    write_video(tmp_path / "in/1_40_00.mp4", 25)
    write_video(tmp_path / "in/2_10_00.MP4", 4)
    out = tmp_path / "ivslab_train"
    assert cut_videos(tmp_path / "in", out, FrameStep(frames=7), progress=False) == (5, [])
    assert numbers(out, "1_40_00.mp4") == [0, 7, 14, 21]
    assert numbers(out, "2_10_00.MP4") == [0]
    assert_pictures_are_what_their_names_say(out)

    raw = read_ivslab(tmp_path)
    assert raw.findings == ()
    assert {frame.state for frame in raw.frames} == {FrameState.UNLABELLED}
    assert {(frame.video, frame.split) for frame in raw.frames} == {("1_40_00.mp4", "train"), ("2_10_00.MP4", "train")}
    assert raw.frames[1].name == "1_40_00.mp4/1_40_00.mp4_00007"


@pytest.mark.parametrize(
    ("rate", "seconds", "kept"),
    [
        (30.0, 0.1, [0, 3, 6, 9, 12, 15, 18, 21, 24]),
        (29.97, 0.1, [0, 3, 6, 9, 12, 15, 18, 21, 24]),
        (25.0, 0.1, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23]),  # 40 ms a frame: the first one in every tenth of a second
        (10.0, 1.0, [0, 10, 20]),
        (10.0, 0.001, list(range(25))),
    ],
)
def test_frames_by_time(tmp_path: Path, rate: float, seconds: float, kept: list[int]) -> None:
    write_video(tmp_path / "in/a.mp4", 25, rate)
    cut_videos(tmp_path / "in", tmp_path / "out", FrameStep(seconds=seconds), progress=False)
    assert numbers(tmp_path / "out", "a.mp4") == kept
    assert_pictures_are_what_their_names_say(tmp_path / "out")


def test_two_videos_of_one_name_are_both_there(tmp_path: Path) -> None:
    for folder in ("monday", "tuesday"):
        write_video(tmp_path / "in" / folder / "drive.mp4", 3)
    assert cut_videos(tmp_path / "in", tmp_path / "out", FrameStep(), progress=False) == (6, [])
    assert numbers(tmp_path / "out", "monday_drive.mp4") == numbers(tmp_path / "out", "tuesday_drive.mp4") == [0, 1, 2]

    write_video(tmp_path / "in/monday_drive.mp4", 4)
    frames, (finding,) = cut_videos(tmp_path / "in", tmp_path / "again", FrameStep(), progress=False)
    assert frames == 10
    assert (finding.kind, finding.action, finding.item) == ("duplicate_video", Action.REPAIRED, "monday/drive.mp4")
    (renamed,) = {path.name for path in (tmp_path / "again/JPEGImages/All").iterdir()} - {
        "monday_drive.mp4",
        "tuesday_drive.mp4",
    }
    assert finding.found == f"a second monday_drive.mp4: its frames are called {renamed}"
    assert (len(numbers(tmp_path / "again", "monday_drive.mp4")), len(numbers(tmp_path / "again", renamed))) == (4, 3)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.lists(st.sampled_from(["a", "b", "a_b"]), min_size=1, max_size=3).map("/".join), min_size=2))
def test_no_video_is_lost_to_the_name_of_another(tmp_path: Path, items: set[str]) -> None:
    clip = write_video(tmp_path / "clip.mp4", 1)
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        root = Path(folder)
        for item in items:
            (root / f"in/{item}.mp4").parent.mkdir(parents=True, exist_ok=True)
            (root / f"in/{item}.mp4").symlink_to(clip)
        frames, _ = cut_videos(root / "in", root / "out", FrameStep(), progress=False)
        assert frames == len({frame.video for frame in read_ivslab(root / "out").frames}) == len(items)


def trim(path: Path, first: int, frames: int) -> None:
    """Say in the edit list (elst) that only so many frames are shown, as phones do when they trim a recording."""
    data = bytearray(path.read_bytes())
    time_scale = struct.unpack(">I", data[(at := data.index(b"mdhd") + 16) : at + 4])[0]
    entry = data.index(b"elst") + 12  # after version, flags and the number of entries: duration, start
    duration = struct.unpack(">I", data[entry : entry + 4])[0]
    rate = 30
    data[entry : entry + 4] = struct.pack(">I", duration * frames // rate)
    data[entry + 4 : entry + 8] = struct.pack(">i", time_scale * first // rate)
    path.write_bytes(data)


@pytest.mark.parametrize(("first", "frames"), [(0, 24), (5, 20), (13, 17), (29, 1)])
def test_a_trimmed_recording_is_whole(tmp_path: Path, first: int, frames: int) -> None:
    trim(write_video(tmp_path / "in/trimmed.mp4", 30), first, frames)
    assert cut_videos(tmp_path / "in", tmp_path / "out", FrameStep(), progress=False) == (frames, [])
    assert numbers(tmp_path / "out", "trimmed.mp4") == list(range(frames))
    for path in (tmp_path / "out").rglob("*.jpg"):  # the first one shown is number 0
        assert abs(read_image(path).mean() - 8 * (first + int(path.stem[-5:]))) < 8, path


def remux(source: Path, target: Path) -> Path:
    """The same packets in another container."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.pts = packet.dts = packet.pts if packet.dts is None else packet.dts
                packet.stream = stream
                made.mux(packet)
    return target


@pytest.mark.parametrize("suffix", [".mov", ".M4V", ".avi", ".MKV", ".ts", ".flv", ".3gp", ".mxf", ".mpg", ".asf"])
def test_videos_of_other_kinds_are_cut(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"in/drive{suffix}"
    path.parent.mkdir()
    codec = "mpg2" if suffix in (".mpg", ".mxf") else "FLV1" if suffix == ".flv" else "mp4v"
    writer = cv2.VideoWriter(str(path.with_suffix(suffix.lower())), cv2.VideoWriter.fourcc(*codec), 25, (352, 288))
    for number in range(30):
        writer.write(np.full((288, 352, 3), 8 * number, np.uint8))
    writer.release()
    path.with_suffix(suffix.lower()).rename(path)
    assert cut_videos(tmp_path / "in", tmp_path / "out", FrameStep(frames=5), progress=False) == (6, [])
    assert numbers(tmp_path / "out", path.name) == [0, 5, 10, 15, 20, 25]
    assert_pictures_are_what_their_names_say(tmp_path / "out")


def test_a_cut_video_without_an_index_is_found_by_its_duration(tmp_path: Path) -> None:
    path = remux(write_video(tmp_path / "whole.mp4", 30), tmp_path / "in/drive.mkv")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    frames, (finding,) = cut_videos(tmp_path / "in", tmp_path / "out", FrameStep(), progress=False)
    assert (finding.kind, finding.expected) == ("truncated_video", "30 frames")
    assert 0 < frames < 30 and finding.found == f"{frames} that decode"


@pytest.mark.parametrize("suffix", [".ts", ".m4v", ".mpg", ".asf"])
def test_a_cut_stream_that_does_not_say_its_length_is_found_by_its_last_frame(tmp_path: Path, suffix: str) -> None:
    rng, path = np.random.default_rng(0), tmp_path / f"in/drive{suffix}"
    path.parent.mkdir()
    codec, container = ("mpeg2video", "mpeg") if suffix == ".mpg" else ("mpeg4", {".m4v": "m4v"}.get(suffix))
    with av.open(str(path), "w", format=container) as made:
        stream = made.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for _ in range(20):
            noise = cv2.resize(rng.integers(0, 256, (24, 32, 3)).astype(np.uint8), (128, 96))
            made.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        made.mux(stream.encode())
    assert cut_videos(tmp_path / "in", tmp_path / "whole", FrameStep(), progress=False) == (20, [])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    frames, (finding,) = cut_videos(tmp_path / "in", tmp_path / "out", FrameStep(), progress=False)
    assert (finding.kind, finding.item) == ("truncated_video", path.name)
    assert finding.found in (
        f"{frames} that decode",
        f"{frames + 1} that decode, of which the last may be half and is left out",
    )
    assert 5 < frames < 19 and (suffix != ".asf" or 15 < int(finding.expected.split()[0]) < 25)
    for image in (tmp_path / "out").rglob("*.jpg"):
        assert image.read_bytes() == (tmp_path / "whole" / image.relative_to(tmp_path / "out")).read_bytes()


@pytest.mark.parametrize("kind", ["fragmented", "HEVC", "MKV named mp4", "variable rate", "sound alone"])
def test_other_recordings_by_that_suffix(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    options = {"movflags": "frag_keyframe+empty_moov"} if kind == "fragmented" else {}
    container = "matroska" if kind.startswith("MKV") else "mp4"
    with av.open(str(tmp_path / "in/drive.mp4"), "w", format=container, container_options=options) as made:
        if kind == "sound alone":
            sound = made.add_stream("aac", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate = 8000
            for packet in (*sound.encode(frame), *sound.encode()):
                made.mux(packet)
        else:
            stream = made.add_stream("libx265" if kind == "HEVC" else "mpeg4", rate=30)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 300)
            for number in range(12):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * number, np.uint8), "rgb24")
                frame.pts = 10 * number + (number % 3 if kind == "variable rate" else 0)
                frame.time_base = Fraction(1, 300)
                for packet in stream.encode(frame):
                    made.mux(packet)
            for packet in stream.encode():
                made.mux(packet)
    if kind == "sound alone":
        with pytest.raises(DataError, match="expected videos that decode, found none in 1 files"):
            cut_videos(tmp_path / "in", tmp_path / "out", FrameStep(), progress=False)
        return
    assert cut_videos(tmp_path / "in", tmp_path / "out", FrameStep(), progress=False) == (12, [])
    assert_pictures_are_what_their_names_say(tmp_path / "out")


def test_a_recording_of_a_phone_held_upright_is_cut_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "in/a.mp4", 3)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44  # ISO/IEC 14496-12, 8.3.2; here a quarter turn
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    assert cut_videos(tmp_path / "in", tmp_path / "out", FrameStep(), progress=False) == (3, [])
    assert {read_image(each).shape for each in (tmp_path / "out").rglob("*.jpg")} == {(64, 48, 3)}


def test_five_kinds_of_one_name_are_five_videos(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mov", ".avi", ".mkv", ".3gp"):
        write_video(tmp_path / f"in/clip{suffix}", 3)
    assert cut_videos(tmp_path / "in", tmp_path / "ivslab_train", FrameStep(), progress=False) == (15, [])
    assert len({frame.video for frame in read_ivslab(tmp_path).frames}) == 5


def test_what_a_mac_leaves_beside_a_video_is_no_video(tmp_path: Path) -> None:
    write_video(tmp_path / "in/drive.mp4", 3)
    (tmp_path / "in/._drive.mp4").write_bytes(b"\0\5\x16\7" + bytes(99))
    (tmp_path / "in/__MACOSX").mkdir()
    (tmp_path / "in/__MACOSX/._drive.mp4").write_bytes(b"\0\5\x16\7" + bytes(99))
    assert cut_videos(tmp_path / "in", tmp_path / "out", FrameStep(), progress=False) == (3, [])


def test_a_playlist_leads_to_no_other_file(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.mp4", 3)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/list.mp4").write_text(f"ffconcat version 1.0\nfile {tmp_path}/secret.mp4\n")
    (tmp_path / "in/hls.ts").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/secret.mp4\n#EXT-X-ENDLIST\n")
    with pytest.raises(DataError, match="found none in 2 files"):
        cut_videos(tmp_path / "in", tmp_path / "out", FrameStep(), progress=False)


def test_a_cut_video_is_a_finding_and_its_whole_frames_stay(tmp_path: Path) -> None:
    write_video(tmp_path / "in/whole.mp4", 30)
    path = index_first(write_video(tmp_path / "in/cut.mp4", 30))
    assert cut_videos(tmp_path / "in", tmp_path / "before", FrameStep(), progress=False) == (60, [])
    path.write_bytes(path.read_bytes()[:-400])
    frames, findings = cut_videos(tmp_path / "in", tmp_path / "out", FrameStep(), progress=False)
    (finding,) = findings
    assert (finding.kind, finding.action, finding.item) == ("truncated_video", Action.QUARANTINED, "cut.mp4")
    assert finding.expected == "30 frames"
    left = numbers(tmp_path / "out", "cut.mp4")
    assert 0 < len(left) < 30
    assert finding.found == f"{len(left) + 1} that decode, of which the last may be half and is left out"
    assert frames == 30 + len(left)
    assert numbers(tmp_path / "out", "whole.mp4") == list(range(30))
    for number in left:
        name = f"JPEGImages/All/cut.mp4/cut.mp4_{number:05d}.jpg"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "before" / name).read_bytes()


def test_what_is_no_video_is_a_finding(tmp_path: Path) -> None:
    write_video(tmp_path / "in/good.mp4", 3)
    cut = write_video(tmp_path / "in/no_index.mp4", 30)
    cut.write_bytes(cut.read_bytes()[:-400])  # the index is at the end
    (tmp_path / "in/empty.mp4").write_bytes(b"")
    (tmp_path / "in/text.mp4").write_text("no video")
    frames, findings = cut_videos(tmp_path / "in", tmp_path / "out", FrameStep(), progress=False)
    assert frames == 3
    assert {finding.kind for finding in findings} == {"unreadable_video"}
    assert [finding.item for finding in findings] == ["empty.mp4", "no_index.mp4", "text.mp4"]


def test_nothing_to_cut(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: expected a folder with videos, found nothing there"):
        cut_videos(tmp_path / "none", tmp_path / "out", FrameStep())
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match=r"in: expected videos \(\.mp4, \.m4v, .*\), found none"):
        cut_videos(tmp_path / "in", tmp_path / "out", FrameStep())
    (tmp_path / "in/text.mp4").write_text("no video")
    with pytest.raises(DataError, match="in: expected videos that decode, found none in 1 files"):
        cut_videos(tmp_path / "in", tmp_path / "out", FrameStep())
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_drives_are_cut_by_the_second(drives: list[Path], tmp_path: Path) -> None:
    """Four seconds drawn, 10 frames a second; the real ones have 25: 221 of 960×540 and 38 of 1280×720."""
    frames_step_size = {"drawn": (40, 4, (360, 640)), "highway_540p": (221, 10, (540, 960))}
    frames_step_size |= {"highway_720p": (38, 10, (720, 1280))}
    (tmp_path / "in").mkdir()
    for drive in drives:
        (tmp_path / "in" / drive.name).symlink_to(drive)
    out, expected = tmp_path / "ivslab_train", 0
    frames, findings = cut_videos(tmp_path / "in", out, FrameStep(seconds=0.4), progress=False)
    assert findings == []
    for drive in drives:
        count, step, size = frames_step_size[drive.stem]
        assert numbers(out, drive.name) == list(range(0, count, step))
        last = out / f"JPEGImages/All/{drive.name}/{drive.name}_{(count - 1) // step * step:05d}.jpg"
        assert read_image(last).shape == (*size, 3)
        expected += len(range(0, count, step))
    assert len(read_ivslab(tmp_path).frames) == frames == expected


def test_drives_that_break_off(drives: list[Path], tmp_path: Path) -> None:
    for drive in drives:
        source, out = tmp_path / drive.stem, tmp_path / f"{drive.stem} cut"
        source.mkdir()
        whole = (source / "cut.mp4").write_bytes(drive.read_bytes())
        if drive.stem == "drawn":
            index_first(source / "cut.mp4")
        with (source / "cut.mp4").open("r+b") as file:
            file.truncate(whole // 2)
        frames, (finding,) = cut_videos(source, out, FrameStep(), progress=False)
        assert finding.kind == "truncated_video" and frames > 5
        assert finding.found in (
            f"{frames} that decode",
            f"{frames + 1} that decode, of which the last may be half and is left out",
        )
        capture = cv2.VideoCapture(str(drive))
        for number in range(frames):  # none of them is a grey or smeared image
            true = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
            picture = read_image(out / f"JPEGImages/All/cut.mp4/cut.mp4_{number:05d}.jpg")
            assert np.abs(picture.astype(int) - true).mean() < 2
        capture.release()
