"""Archives unpack whole, inside their folder and within bounds, or leave nothing but one sentence."""

import gzip
import io
import random
import re
import resource
import stat
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping, Sequence
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
    options = {"preset": 0} if mode == "w:xz" else {}
    with tarfile.open(path, mode, **options) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def make_tar_gz(path: Path, files: Mapping[str, bytes]) -> Path:
    return make_tar(path, files, "w:gz")


def make_tar_bz2(path: Path, files: Mapping[str, bytes]) -> Path:
    return make_tar(path, files, "w:bz2")


def make_tar_xz(path: Path, files: Mapping[str, bytes]) -> Path:
    return make_tar(path, files, "w:xz")


MAKERS = pytest.mark.parametrize("make", [make_zip, make_tar, make_tar_gz])
ALL_MAKERS = pytest.mark.parametrize("make", [make_zip, make_tar, make_tar_gz, make_tar_bz2, make_tar_xz])
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


@ALL_MAKERS
def test_whole_archives_whatever_they_are_called(make: Make, tmp_path: Path) -> None:
    archive = make(tmp_path / "0123456789abcdef.archive", FILES)
    unpack([archive], tmp_path / "out", progress=False)
    assert read_all(tmp_path / "out") == FILES
    assert not (tmp_path / ".out.partial").exists()
    with pytest.raises(DataError, match="expected a new or empty folder"):
        unpack([archive], tmp_path / "out", progress=False)


def test_a_zip_of_64_bits(tmp_path: Path) -> None:
    """As tools write that do not know how much is to come."""
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name, content in FILES.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
    unpack([tmp_path / "set.zip"], tmp_path / "out", progress=False)
    assert read_all(tmp_path / "out") == FILES


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


@ALL_MAKERS
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
    assert_refused(bomb, "expected a whole zip, tar, tar.gz, tar.bz2 or tar.xz|a zip bomb", shipped_ratio)


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
    assert_refused(archive, "expected a whole zip, tar, tar.gz, tar.bz2 or tar.xz, found")


@ALL_MAKERS
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


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<html>Please log in</html>" * 100, "an HTML page (sign in? token_env"),
        (b"\xef\xbb\xbf\n <!-- saved -->\n<!DOCTYPE HTML><title>Sign in</title>", "an HTML page (sign in? token_env"),
        (b'<?xml version="1.0"?>\n<html xmlns="...">', "an HTML page (sign in? token_env"),
        (b'{"error": "unauthorized"}', "text, which a server answers in place of a file"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "text, which a server answers"),
        (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(99), "a 7z archive, which is not read: pack it again as zip or tar.gz"),
        (b"Rar!\x1a\x07\1\0" + bytes(99), "a rar archive, which is not read"),
        (b"\x28\xb5\x2f\xfd" + bytes(99), "a Zstandard file, which is not read"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS"),
        (gzip.compress(b"not a tar" * 1000), "one that is cut off or damaged"),
        (random.Random(1).randbytes(2000), "one that is cut off or damaged"),
    ],
)
def test_no_archive_at_all(content: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert_refused(tmp_path / "file", re.escape(f"expected a whole zip, tar, tar.gz, tar.bz2 or tar.xz, found {found}"))


def test_errors_call_an_archive_what_the_caller_calls_it(tmp_path: Path) -> None:
    (tmp_path / "0123.archive").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"^https://host/a/set\.zip\?x=\$Y: expected a whole zip") as raised:
        unpack([tmp_path / "0123.archive"], tmp_path / "out", names=["https://host/a/set.zip?x=$Y"], progress=False)
    assert "0123" not in str(raised.value)


@pytest.mark.parametrize("slash", ["\\", "/"])
def test_a_zip_of_windows_with_entries_for_folders(tmp_path: Path, slash: str) -> None:
    """As .NET before 4.6.1 and Compress-Archive of PowerShell 5 write them."""
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name in ("set/", "set/Annotations/", "set/Annotations/All/", "set/empty/"):
            info = zipfile.ZipInfo("x")
            info.filename, info.external_attr = name.replace("/", slash), 0x10
            packed.writestr(info, b"")
        packed.writestr(zipfile.ZipInfo("set/Annotations/All/a.xml".replace("/", slash)), b"<a/>")
    unpack([archive], tmp_path / "out", progress=False)
    assert read_all(tmp_path / "out") == {"set/Annotations/All/a.xml": b"<a/>"}
    assert (tmp_path / "out/set/empty").is_dir()


def zip_named(path: Path, names: Sequence[bytes]) -> Path:
    """A zip whose names are these bytes, without a word about their encoding."""
    make_zip(path, {f"{number:0{len(name)}d}": b"content" for number, name in enumerate(names)})
    data = path.read_bytes()
    for number, name in enumerate(names):
        data = data.replace(f"{number:0{len(name)}d}".encode(), name)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("gbk", ["台北.mp4/台北.mp4_00001.jpg", "夜间/北京街道.mp4"]),
        ("big5", ["臺北市區/夜間行車.mp4", "臺北市區/a.mp4"]),
        ("shift_jis", ["東京タワー/ドライブ.mp4"]),
        ("utf-8", ["台北/Straße.mp4", "Café/a.jpg"]),  # Archive Utility of macOS, which does not say so
        ("cp437", ["Café/Málaga été.jpg", "Straße/Übung.jpg"]),  # what the format says
    ],
)
def test_names_of_a_zip_that_says_nothing_of_their_encoding(tmp_path: Path, encoding: str, names: list[str]) -> None:
    archive = zip_named(tmp_path / "set.zip", [name.encode(encoding) for name in names])
    unpack([archive], tmp_path / "out", progress=False)
    assert read_all(tmp_path / "out") == dict.fromkeys(names, b"content")


def header_bomb(kind: str, size: int) -> bytes:
    """A tar.gz of a few kilobytes whose one header claims a name of `size` bytes, and has them."""
    names = {"pax": tarfile.XHDTYPE, "global": tarfile.XGLTYPE, "gnu": tarfile.GNUTYPE_LONGNAME}
    info = tarfile.TarInfo("x")
    info.type, info.size = names[kind], size
    head = b"" if kind == "gnu" else f"{size} path=".encode()
    content = head + b"a" * (size - len(head))
    padding = bytes(-size % 512)
    plain = tarfile.TarInfo("file").tobuf()
    return gzip.compress(info.tobuf() + content + padding + plain + bytes(1024), 1)


@pytest.mark.parametrize("kind", ["pax", "global", "gnu"])
def test_a_header_bomb_takes_no_memory(kind: str, tmp_path: Path) -> None:
    size = 100_000_000
    (tmp_path / "bomb.tgz").write_bytes(header_bomb(kind, size))
    tracemalloc.start()
    assert_refused(tmp_path / "bomb.tgz", r"expected headers of at most 1048576 bytes, found one of 1000\d+ \(a bomb")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    (tmp_path / "long.tgz").write_bytes(header_bomb(kind, 5000))
    assert_refused(tmp_path / "long.tgz", "expected names of at most 4096 characters|found: |cut off or damaged")


def test_many_headers_that_hold_nothing_are_bounded(tmp_path: Path) -> None:
    keys = "".join(f"{len(f'key{number}=v') + 4} key{number}=v\n" for number in range(1000, 2500)).encode()
    info = tarfile.TarInfo("g")
    info.type, info.size = tarfile.XGLTYPE, len(keys)
    block = info.tobuf() + keys + bytes(-len(keys) % 512)
    (tmp_path / "a.tar").write_bytes(block + tarfile.TarInfo("file").tobuf() + bytes(1024))
    assert_refused(tmp_path / "a.tar", "expected at most 1000 global headers|cut off or damaged")
    info.type = tarfile.XHDTYPE
    chain = (info.tobuf() + keys + bytes(-len(keys) % 512)) * 400
    (tmp_path / "b.tar").write_bytes(chain + tarfile.TarInfo("file").tobuf() + bytes(1024))
    assert_refused(tmp_path / "b.tar", "cut off or damaged")


def test_a_length_of_5000_digits_is_a_damaged_archive(tmp_path: Path) -> None:
    keys = b"9" * 5000 + b" path=x\n"
    info = tarfile.TarInfo("g")
    info.type, info.size = tarfile.XHDTYPE, len(keys)
    (tmp_path / "a.tar").write_bytes(info.tobuf() + keys + bytes(-len(keys) % 512) + tarfile.TarInfo("f").tobuf())
    assert_refused(tmp_path / "a.tar", "cut off or damaged")


def test_each_link_of_a_long_chain_is_followed_once(tmp_path: Path) -> None:
    count = 2000
    links = [(f"link{number}", tarfile.SYMTYPE, f"link{number + 1}") for number in range(count)]
    archive = tar_of(tmp_path / "chain.tar", *links, **{f"link{count}": b"content"})
    unpack([archive], tmp_path / "out", progress=False)
    assert len(read_all(tmp_path / "out")) == count + 1
    ring = [*links, (f"link{count}", tarfile.SYMTYPE, "link0")]
    (tmp_path / "other").mkdir()
    assert_refused(
        tar_of(tmp_path / "other/ring.tar", *ring), "expected the link link0 to lead to a file in it, found link1"
    )


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


@pytest.mark.parametrize(
    ("encoding", "folder"), [("gbk", "台北街道"), ("big5", "臺北市區"), ("utf-8", "台北"), ("latin-1", "Málaga")]
)
def test_names_in_a_tar_of_another_system(tmp_path: Path, encoding: str, folder: str) -> None:
    files = {f"{folder}/{folder}_{number}.jpg": b"%d" % number for number in range(3)} | {"plain.txt": b"x"}
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w", encoding=encoding, format=tarfile.GNU_FORMAT) as made:
        top = tarfile.TarInfo(folder)
        top.type = tarfile.DIRTYPE
        made.addfile(top)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo(f"{folder}/last.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, f"{folder}_2.jpg"
        made.addfile(link)
    unpack([archive], tmp_path / "out", progress=False)
    assert read_all(tmp_path / "out") == files | {f"{folder}/last.jpg": b"2"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([folder, "plain.txt"])
