"""Footage from a folder, from archives and from videos: what is left in data/raw, and what is refused in a sentence."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.readers.bdd100k import read_bdd100k
from mobile_centernet.data.readers.ivslab import read_ivslab
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.mlops.params import Params, load_params
from mobile_centernet.mlops.paths import SUBSAMPLE
from mobile_centernet.mlops.refresh import refresh
from mobile_centernet.mlops.sources import DatasetSource, read_dataset_source, source_root
from steps.fetch import fetch_bdd100k, fetch_ivslab
from steps.subsample import subsample_ivslab
from tests.helpers.file_server import FileServer, file_server, status

ROOT = Path(__file__).resolve().parents[2]


def write_params(path: Path, **sections: Mapping[str, object]) -> Path:
    """params.yaml as shipped, with changed values in fetch_bdd100k or fetch_ivslab."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, values in sections.items():
        params[name] |= values
    params["fetch_field"]["source"] = "none"
    path.write_text(yaml.safe_dump(params))
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as current directory."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def params_for(project: Path, **sections: Mapping[str, object]) -> Params:
    return load_params(write_params(project / "params.yaml", **sections))


def from_folder(project: Path, folder: Path) -> Params:
    return params_for(project, fetch_bdd100k={"source": "folder", "path": str(folder)})


def jpeg() -> bytes:
    return cv2.imencode(".jpg", np.zeros((36, 64, 3), np.uint8))[1].tobytes()


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def served(server: FileServer, path: str, content: bytes) -> dict[str, str]:
    """An entry of `archives`."""
    return {"url": server.add(path, content), "sha256": hashlib.sha256(content).hexdigest()}


def urls(*entries: Mapping[str, str], **more: object) -> dict[str, object]:
    return {"source": "urls", "path": "data/upstream/some.json", "archives": list(entries), **more}


def test_a_folder_is_listed_with_its_digests_and_stays_where_it_is(project: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "images").mkdir(parents=True)
    (mine / "images/a.jpg").write_bytes(b"a")
    fetch_bdd100k(from_folder(project, mine))
    out = project / "data/raw/bdd100k"
    assert [path.name for path in out.iterdir()] == ["source.json"]
    assert source_root(out) == mine
    before = read_dataset_source(out).files
    assert list(before) == ["images/a.jpg"]

    (mine / "images/a.jpg").write_bytes(b"b")
    (mine / "images/b.jpg").write_bytes(b"c")
    fetch_bdd100k(from_folder(project, mine))
    after = read_dataset_source(out).files
    assert list(after) == ["images/a.jpg", "images/b.jpg"]
    assert after["images/a.jpg"] != before["images/a.jpg"]


def test_links_are_hashed_as_they_are_read_and_must_lead_where_dvc_looks(project: Path, tmp_path: Path) -> None:
    mine, disk = tmp_path / "mine", tmp_path / "disk"
    for path in (mine / "store/a.jpg", disk / "train/b.jpg"):
        path.parent.mkdir(parents=True)
        path.write_bytes(jpeg())
    (mine / "images").mkdir()
    (mine / "images/val").symlink_to(mine / "store")  # DVC looks there anyway
    fetch_bdd100k(from_folder(project, mine))
    out = project / "data/raw/bdd100k"
    assert list(read_dataset_source(out).files) == ["images/val/a.jpg"]

    (mine / "images/train").symlink_to(disk / "train")
    with pytest.raises(
        DataError, match=r"images/train: expected a link into `path` or `linked` .* found one to .*disk"
    ):
        fetch_bdd100k(from_folder(project, mine))
    section = {"source": "folder", "path": str(mine), "linked": str(disk)}
    fetch_bdd100k(params_for(project, fetch_bdd100k=section))
    before = read_dataset_source(out).files
    assert list(before) == ["images/train/b.jpg", "images/val/a.jpg"]
    (disk / "train/b.jpg").write_bytes(jpeg() + b"changed")
    fetch_bdd100k(params_for(project, fetch_bdd100k=section))
    assert read_dataset_source(out).files["images/train/b.jpg"] != before["images/train/b.jpg"]


def test_a_set_of_any_name_is_subsampled_and_one_of_test_frames_alone_is_refused(project: Path, tmp_path: Path) -> None:
    for video in range(2):
        for number in range(20):
            path = tmp_path / f"taipei/JPEGImages/All/{video}.MP4/{video}.MP4_{number:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg())
    params = params_for(project, fetch_ivslab={"source": "folder", "path": str(tmp_path / "taipei")})
    fetch_ivslab(params)
    subsample_ivslab(params)
    kept = json.loads(SUBSAMPLE.read_text())
    assert (kept["frames_before"], kept["frames_kept"]) == (40, 4)
    (tmp_path / "taipei").rename(tmp_path / "ivslab_test_public")
    params = params_for(project, fetch_ivslab={"source": "folder", "path": str(tmp_path / "ivslab_test_public")})
    fetch_ivslab(params)
    with pytest.raises(DataError, match="expected training frames, found only the splits test"):
        subsample_ivslab(params)


def test_a_folder_that_is_not_there_is_named(project: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: expected a folder of footage .* found none"):
        fetch_bdd100k(from_folder(project, tmp_path / "nowhere"))


def test_an_empty_folder_is_named(project: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: expected footage, found an empty folder"):
        fetch_bdd100k(from_folder(project, tmp_path / "empty"))


def test_a_folder_of_videos_leads_to_the_right_source(project: Path, tmp_path: Path) -> None:
    (tmp_path / "drives").mkdir()
    (tmp_path / "drives/a.mp4").write_bytes(b"?")
    with pytest.raises(DataError, match=r"drives: expected images, found videos \(fetch_ivslab reads them as"):
        fetch_bdd100k(from_folder(project, tmp_path / "drives"))


def test_archives_of_bdd100k_share_one_root(project: Path, server: FileServer) -> None:
    images = served(server, "/images.zip", zipped({"bdd100k/images/100k/train/a.jpg": jpeg()}))
    entry = {"name": "a.jpg", "labels": [{"category": "car", "box2d": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}]}
    labels = served(
        server, "/labels.zip", zipped({"bdd100k/labels/det_20/det_train.json": json.dumps([entry]).encode()})
    )
    fetch_bdd100k(params_for(project, fetch_bdd100k=urls(images, labels)))
    out = project / "data/raw/bdd100k"
    (frame,) = read_bdd100k(source_root(out)).frames
    assert (frame.name, frame.split, frame.state) == ("a", "train", FrameState.LABELLED)
    assert read_dataset_source(out).files == {each["url"]: each["sha256"] for each in (images, labels)}
    assert len(list((project / ".work/downloads").glob("*.archive"))) == 2

    fetch_bdd100k(params_for(project, fetch_bdd100k=urls(images, labels)))  # without DVC, which clears the folder first
    assert len(server.log) == 4  # looked at and fetched once


@pytest.mark.parametrize("top", ["", "download-2024/", "deep/er/"])
def test_archives_of_ivslab_may_have_a_folder_of_their_own(project: Path, server: FileServer, top: str) -> None:
    name = "1_40_00.mp4/1_40_00.mp4_00007"
    files = {f"{top}ivslab_train/JPEGImages/All/{name}.jpg": jpeg()}
    fetch_ivslab(params_for(project, fetch_ivslab=urls(served(server, "/a.zip", zipped(files)), keep_archives=False)))
    (frame,) = read_ivslab(source_root(project / "data/raw/ivslab")).frames
    assert (frame.name, frame.split) == (name, "train")
    assert list((project / ".work/downloads").glob("*.archive")) == []


def test_an_archive_of_the_finder_is_read_as_its_folder(project: Path, server: FileServer) -> None:
    """A folder of its own, a README beside the set, and a second file for each file's attributes."""
    name = "1_40_00.mp4/1_40_00.mp4_00007"
    files = {f"ivslab/ivslab_train/JPEGImages/All/{name}.jpg": jpeg(), "ivslab/README.txt": b"about", "LICENSE": b"MIT"}
    files |= {"ivslab/.DS_Store": b"\0\0\0\1Bud1", "ivslab/ivslab_train/.DS_Store": b"\0\0\0\1Bud1"}
    litter = {f"__MACOSX/{path.rpartition('/')[0]}/._{path.rpartition('/')[2]}": b"\0\5\x16\7" for path in files}
    entry = served(server, "/a.zip", zipped(files | litter))
    fetch_ivslab(params_for(project, fetch_ivslab=urls(entry)))
    raw = read_ivslab(source_root(project / "data/raw/ivslab"))
    assert [(frame.name, frame.split) for frame in raw.frames] == [(name, "train")]
    assert raw.findings == ()


def test_errors_about_an_archive_name_its_address(project: Path, server: FileServer) -> None:
    entry = served(server, "/sets/a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(99))
    with pytest.raises(DataError, match=r"^http://.*/sets/a\.7z: expected a whole zip.* found a 7z archive") as raised:
        fetch_ivslab(params_for(project, fetch_ivslab=urls(entry)))
    assert ".work" not in str(raised.value)


def test_archives_of_something_else_are_named(project: Path, server: FileServer) -> None:
    entry = served(server, "/a.zip", zipped({"photos/a.jpg": jpeg(), "photos/b.jpg": jpeg()}))
    with pytest.raises(DataError, match=r"expected ivslab_train, ivslab_test or JPEGImages .* found a.jpg, b.jpg"):
        fetch_ivslab(params_for(project, fetch_ivslab=urls(entry)))


def test_a_changed_file_is_not_taken_for_the_one_in_params(project: Path, server: FileServer) -> None:
    entry = served(server, "/a.zip", zipped({"ivslab_train/JPEGImages/a.jpg": jpeg()}))
    server.add("/a.zip", b"something else")
    with pytest.raises(DataError, match=f"a.zip: expected sha256 {entry['sha256']}, found"):
        fetch_ivslab(params_for(project, fetch_ivslab=urls(entry)))
    assert not (project / "data/raw/ivslab/footage").exists()
    assert not (project / "data/raw/ivslab/source.json").exists()


def video(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 48))
    for number in range(12):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(("step", "kept"), [({"frames": 5}, [0, 5, 10]), ({"seconds": 0.2}, [0, 6])])
def test_videos_become_unlabelled_frames_and_damaged_ones_findings(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, step: dict[str, float], kept: list[int]
) -> None:
    video(tmp_path / "drives/a.mp4")
    (tmp_path / "drives/b.mp4").write_bytes(b"no video")
    for beside in ("a.json", "cover.jpg", "a.LRV"):
        (tmp_path / "drives" / beside).touch()
    section = {"source": "videos", "path": str(tmp_path / "drives"), "frame_step": step}
    for _ in range(2):
        fetch_ivslab(params_for(project, fetch_ivslab=section))
    out = project / "data/raw/ivslab"
    frames = read_ivslab(source_root(out)).frames
    assert [frame.name for frame in frames] == [f"a.mp4/a.mp4_{number:05d}" for number in kept]
    assert {frame.state for frame in frames} == {FrameState.UNLABELLED}
    footage = read_dataset_source(out)
    assert list(footage.files) == ["a.mp4", "b.mp4"]
    assert [(finding.kind, finding.item) for finding in footage.findings] == [("unreadable_video", "b.mp4")]
    assert all(f"files that are not read: 1 {kind}" in caplog.text for kind in (".json", ".jpg", ".lrv"))


def test_videos_in_an_archive_are_cut_too(project: Path, server: FileServer, tmp_path: Path) -> None:
    content = video(tmp_path / "a.mp4").read_bytes()
    entry = served(server, "/drives.zip", zipped({"drives/a.mp4": content}))
    fetch_ivslab(params_for(project, fetch_ivslab=urls(entry, frame_step={"frames": 6})))
    out = project / "data/raw/ivslab"
    names = [frame.name for frame in read_ivslab(source_root(out)).frames]
    assert names == ["drives_a.mp4/drives_a.mp4_00000", "drives_a.mp4/drives_a.mp4_00006"]
    assert sorted(path.name for path in out.iterdir()) == ["footage", "source.json"]


def test_source_json_of_earlier_versions_reads(tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text('{"source": "sample", "root": "footage", "files": {}}')
    assert read_dataset_source(tmp_path) == DatasetSource("sample", "footage", {})


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"source": "urls"}, "archives belong to source: urls, which needs at least one"),
        ({"archives": [{"url": "https://h/a.zip", "sha256": "0" * 64}]}, "archives belong to source: urls"),
        (urls({"url": "https://h/a.zip", "sha256": "0" * 63}), "archives.0.sha256: String should match"),
        (urls({"url": "https://h/a.zip"}), "archives.0.sha256: Field required"),
        (urls({"url": "/data/a.zip", "sha256": "0" * 64}), "expected an address such as"),
        (urls({"url": "https://h/a.zip", "sha256": "0" * 64}, path="mobile_centernet"), "path must be the .json file"),
        ({"frame_step": {"frames": 3, "seconds": 0.1}}, "expected either frames or seconds"),
        ({"frame_step": {}}, "expected either frames or seconds"),
    ],
)
def test_mistakes_in_params(project: Path, section: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        params_for(project, fetch_ivslab=section)
    assert sentence in str(raised.value)


@pytest.mark.parametrize("missing_digest", [True, False])
def test_a_password_in_params_is_refused_and_never_shown(project: Path, missing_digest: bool) -> None:
    entry = {"url": "https://me:hush@host/a.zip"} | ({} if missing_digest else {"sha256": "0" * 64})
    with pytest.raises(UserError, match=r"https://...@host/a.zip: expected an address without user and pass") as raised:
        params_for(project, fetch_bdd100k=urls(entry))
    assert "hush" not in str(raised.value)


def test_refresh_writes_what_servers_say_and_only_when_it_has_changed(project: Path, server: FileServer) -> None:
    first, second = (served(server, f"/{name}.zip", name.encode()) for name in ("a", "b"))
    params = params_for(project, fetch_bdd100k=urls(first, second))
    written = project / "data/upstream/some.json"
    assert refresh(params) == [first["url"], second["url"]]
    document = json.loads(written.read_text())
    assert document[first["url"]]["etag"] == f'"{hashlib.md5(b"a").hexdigest()}"'  # noqa: S324
    before = written.stat()
    assert refresh(params) == []
    assert written.stat().st_mtime_ns == before.st_mtime_ns

    server.add("/b.zip", b"other")
    server.faults += [status(404)]
    with pytest.raises(DataError, match=r"a.zip: expected a file, found 404"):
        refresh(params)
    assert json.loads(written.read_text()) == document
    assert refresh(params) == [second["url"]]
    written.write_text("{")
    with pytest.raises(UserError, match=r"some.json: expected what `python -m steps.refresh` wrote"):
        refresh(params)


def test_refresh_has_nothing_to_ask_for_other_sources(project: Path) -> None:
    assert refresh(params_for(project)) == []
    assert not (project / "data").exists()
