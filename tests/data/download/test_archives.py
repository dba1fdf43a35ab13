"""Archives unpack whole, inside their folder and within bounds, or leave nothing but one sentence."""

import gzip
import io
import random
import resource
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mobile_centernet.data.download.archives import UnpackLimits, unpack
from mobile_centernet.errors import DataError

FILES = {"set/images/a.jpg": b"a" * 5000, "set/images/b/c.jpg": random.Random(4).randbytes(3_000_000), "set/empty": b""}


def make_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def make_tar_gz(path: Path, files: Mapping[str, bytes]) -> Path:
    return make_tar(path, files, "w:gz")


MAKERS = pytest.mark.parametrize("make", [make_zip, make_tar, make_tar_gz])
Make = Callable[[Path, Mapping[str, bytes]], Path]


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(archive: Path, sentence: str, limits: UnpackLimits | None = None) -> None:
    """Refused with one sentence, nothing left, and nothing written beside the folder."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(DataError, match=sentence) as raised:
        unpack([archive], archive.parent / "out", progress=False, **({"limits": limits} if limits else {}))
    assert str(archive) in str(raised.value)
    assert sorted(archive.parent.rglob("*")) == before


@MAKERS
def test_whole_archives_whatever_they_are_called(make: Make, tmp_path: Path) -> None:
    archive = make(tmp_path / "0123456789abcdef.archive", FILES)
    unpack([archive], tmp_path / "out", progress=False)
    assert read_all(tmp_path / "out") == FILES
    assert not (tmp_path / ".out.partial").exists()
    with pytest.raises(DataError, match="expected a new or empty folder"):
        unpack([archive], tmp_path / "out", progress=False)


def test_several_archives_share_a_folder(tmp_path: Path) -> None:
    images = make_zip(tmp_path / "images.zip", {"set/images/a.jpg": b"a", "set/LICENSE": b"same"})
    labels = make_tar_gz(tmp_path / "labels.tgz", {"set/labels/a.json": b"{}", "set/LICENSE": b"same"})
    unpack([images, labels], tmp_path / "out", progress=False)
    assert sorted(read_all(tmp_path / "out")) == ["set/LICENSE", "set/images/a.jpg", "set/labels/a.json"]

    for content in (b"some", b"same and more", b"sam"):
        other = make_tar(tmp_path / "other.tar", {"set/LICENSE": content})
        with pytest.raises(DataError, match=r"other.tar: expected one file set/LICENSE, found two that differ"):
            unpack([images, other], tmp_path / "again", progress=False)
        assert not (tmp_path / "again").exists()


@MAKERS
@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "set/../../evil", "set/images/../../../evil", "C:/evil"])
def test_members_that_lead_out(make: Make, name: str, tmp_path: Path) -> None:
    assert_refused(make(tmp_path / "set", {"good": b"1", name: b"2"}), "expected members inside its own folder")


def test_members_of_windows_that_lead_out(tmp_path: Path) -> None:
    assert_refused(make_zip(tmp_path / "set.zip", {"..\\evil": b"2"}), "inside its own folder")
    unpack([make_zip(tmp_path / "good.zip", {"set\\a.jpg": b"a"})], tmp_path / "out", progress=False)
    assert read_all(tmp_path / "out") == {"set/a.jpg": b"a"}


def tar_of(path: Path, *infos: tuple[str, bytes, str], **files: bytes) -> Path:
    """A tar of special members (name, type, link) before and after plain files."""
    with tarfile.open(path, "w") as archive:
        for name, kind, link in infos:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            archive.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def zip_link(path: Path, name: str, target: str, **files: bytes) -> Path:
    make_zip(path, {key.replace("__", "/"): content for key, content in files.items()})
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)
    return path


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "..", "a/../../.."])
def test_links_that_lead_out(target: str, tmp_path: Path) -> None:
    sentence = "inside its own folder, found the link set/link"
    from_below = target if target.startswith("/") else f"../{target}"
    assert_refused(tar_of(tmp_path / "1", ("set/link", tarfile.SYMTYPE, from_below)), sentence)
    assert_refused(zip_link(tmp_path / "3", "set/link", from_below), sentence)
    if target.startswith(("/", "..")):
        assert_refused(tar_of(tmp_path / "2", ("set/link", tarfile.LNKTYPE, target)), sentence)


@pytest.mark.parametrize("target", ["elsewhere", "/tmp"])  # noqa: S108
def test_writing_through_a_link(target: str, tmp_path: Path) -> None:
    """A link to a folder, then a file below the link: the file must not follow it."""
    (tmp_path / "elsewhere").mkdir()
    real = target if target.startswith("/") else str(tmp_path / target)
    archive = tar_of(tmp_path / "a.tar", ("door", tarfile.SYMTYPE, real), door__evil=b"1")
    assert_refused(archive, "inside its own folder")
    inside = tar_of(tmp_path / "b.tar", ("door", tarfile.SYMTYPE, "room"), door__evil=b"1", room__a=b"2")
    assert_refused(inside, "expected one file or folder of a name, found two of door")
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_chain_of_links_that_leads_out_step_by_step(tmp_path: Path) -> None:
    chain = [("a", tarfile.SYMTYPE, "."), ("a/b", tarfile.SYMTYPE, ".."), ("a/b/c", tarfile.SYMTYPE, "../evil")]
    assert_refused(tar_of(tmp_path / "chain.tar", *chain), "inside its own folder|lead to a file in it|two of a")


def test_links_inside_become_files(tmp_path: Path) -> None:
    links = [
        ("set/second", tarfile.SYMTYPE, "first"),  # to a link that comes later
        ("set/first", tarfile.SYMTYPE, "../plain/a"),
        ("set/hard", tarfile.LNKTYPE, "plain/a"),
    ]
    unpack([tar_of(tmp_path / "links.tar", *links, plain__a=b"content")], tmp_path / "tar", progress=False)
    unpack([zip_link(tmp_path / "l.zip", "set/link", "../plain/a", plain__a=b"content")], tmp_path / "zip")
    for folder in (tmp_path / "tar", tmp_path / "zip"):
        assert set(read_all(folder).values()) == {b"content"}
        assert not any(path.is_symlink() for path in folder.rglob("*"))


@pytest.mark.parametrize("target", ["nowhere", "link", "folder"])
def test_links_to_no_file(target: str, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar", ("link", tarfile.SYMTYPE, target), folder__a=b"1")
    assert_refused(archive, "expected the link link to lead to a file in it")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices(kind: bytes, tmp_path: Path) -> None:
    assert_refused(tar_of(tmp_path / "a.tar", ("device", kind, ""), good=b"1"), "found a device or pipe device")


@MAKERS
def test_bombs(make: Make, tmp_path: Path) -> None:
    bomb = make(tmp_path / "bomb", {"zeros": bytes(3_000_000)})
    if make is make_tar:  # not packed: three times its own size does not come out of it
        unpack([bomb], tmp_path / "out", limits=UnpackLimits(ratio=2, floor=10), progress=False)
    else:
        assert_refused(bomb, r"expected at most \d+ bytes in it, found more \(a zip bomb", UnpackLimits(100, 10_000))


def test_a_bomb_that_lies_about_its_size(tmp_path: Path) -> None:
    bomb = make_zip(tmp_path / "bomb.zip", {"zeros": bytes(20_000_000)})
    shipped_ratio = UnpackLimits(floor=1_000_000)
    assert_refused(bomb, "a zip bomb", shipped_ratio)
    data = bytearray(bomb.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 1)
    bomb.write_bytes(data)
    assert_refused(bomb, "expected a whole zip, tar or tar.gz|a zip bomb", shipped_ratio)


def test_a_bomb_of_empty_files(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "many.zip", {f"{number}": b"" for number in range(50)})
    assert_refused(archive, "expected at most 49 files in it, found more", UnpackLimits(members=49))


@MAKERS
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_cut_archives(make: Make, share: float, tmp_path: Path) -> None:
    archive = make(tmp_path / "set", FILES)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    if make is make_tar and share == 0.999:
        return  # a tar ends in kilobytes of zeros that nobody needs
    assert_refused(archive, "expected a whole zip, tar or tar.gz, found")


@MAKERS
def test_damaged_archives_never_end_in_anything_else_than_a_sentence(make: Make, tmp_path: Path) -> None:
    whole = make(tmp_path / "set", {f"folder/{name}": b"content" * 50 for name in "abcdefgh"}).read_bytes()
    seeded = random.Random(7)
    refused = 0
    for number in range(100):
        damaged = bytearray(whole)
        for _ in range(seeded.randint(1, 8)):
            damaged[seeded.randrange(len(damaged))] ^= 1 << seeded.randrange(8)
        archive = tmp_path / "damaged"
        archive.write_bytes(damaged)
        try:
            unpack([archive], tmp_path / f"out{number}", progress=False)
        except DataError:
            refused += 1
            assert not (tmp_path / f"out{number}").exists()
    assert refused > 20
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("out")} == {"set", "damaged"}


def test_no_archive_at_all(tmp_path: Path) -> None:
    page = tmp_path / "login.html"
    page.write_text("<html>Please log in</html>" * 100)
    assert_refused(page, "expected a whole zip, tar or tar.gz")
    page.write_bytes(gzip.compress(b"not a tar" * 1000))
    assert_refused(page, "expected a whole zip, tar or tar.gz")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a": b"1"})
    data = bytearray(archive.read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + place] |= 1
    archive.write_bytes(data)
    assert_refused(archive, "expected an archive without password, found a encrypted")


@MAKERS
def test_a_file_and_a_folder_of_one_name(make: Make, tmp_path: Path) -> None:
    assert_refused(make(tmp_path / "set", {"a": b"1", "a/b": b"2"}), "expected one file or folder of a name")
    assert_refused(make(tmp_path / "tes", {"a/b": b"1", "a": b"2"}), "expected one file or folder of a name")


@MAKERS
def test_a_full_disk_leaves_nothing(make: Make, tmp_path: Path) -> None:
    archive = make(tmp_path / "set", FILES)
    code = f"""
import resource, sys
from pathlib import Path
from mobile_centernet.data.download.archives import unpack
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    unpack([Path({str(archive)!r})], Path({str(tmp_path / "out")!r}), progress=False)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"DataError {tmp_path}/out: set cannot be unpacked there (File too large)")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1_000_000
