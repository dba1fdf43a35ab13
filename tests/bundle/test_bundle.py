"""A bundle is taken only when every byte of it is as its manifest says."""

import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mobile_centernet.bundle.bundle import verify_bundle, write_bundle
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.bundle.tar import BLOCK, END, pack
from tests.helpers.tiny import tiny_detector

Members = list[tuple[str, bytes]]


def members(path: Path) -> Members:
    """Read by Python's tar reader, not by ours."""
    with tarfile.open(path) as archive:
        return [(info.name, archive.extractfile(info).read()) for info in archive]  # type: ignore[union-attr]


def rewrite(path: Path, changed: Members) -> None:
    path.write_bytes(pack(changed) + END)


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as refused:
        verify_bundle(path)
    message = str(refused.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


def test_a_whole_bundle_is_taken(bundle: Path) -> None:
    manifest = verify_bundle(bundle)
    assert (manifest.name, manifest.version) == ("street", "7")
    assert set(manifest.variants) == {"fp32", "fp16", "int8"}


def test_any_tar_reads_it_and_finds_nothing_personal(bundle: Path) -> None:
    with tarfile.open(bundle) as archive:
        infos = archive.getmembers()
    assert infos[0].name == "manifest.json"
    assert [info.name for info in infos][1:] == sorted(info.name for info in infos[1:])
    assert {(i.mode, i.uid, i.gid, i.uname, i.gname, i.mtime, i.type) for i in infos} == {
        (0o644, 0, 0, "", "", 0, tarfile.REGTYPE)
    }


def test_rewriting_the_same_members_gives_the_same_bytes(bundle: Path) -> None:
    before = bundle.read_bytes()
    rewrite(bundle, members(bundle))
    assert bundle.read_bytes() == before


def flips(content: bytes, seed: int) -> list[tuple[int, int]]:
    """Positions and masks: three in every block, so that each header, padding and the end has its share, and 1,000."""
    rng = random.Random(seed)
    everywhere = [start + rng.randrange(BLOCK) for start in range(0, len(content), BLOCK) for _ in range(3)]
    everywhere += [rng.randrange(len(content)) for _ in range(1000)]
    return [(position, 1 << rng.randrange(8)) for position in everywhere]


def survivors(path: Path, flipped: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The flips with which the bundle is still taken by a device, which knows what manifest is signed."""
    taken, signed = [], verify_bundle(path).sha256
    with path.open("r+b", buffering=0) as file:
        for position, mask in flipped:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ mask]))
            try:
                verify_bundle(path, signed)
                taken.append((position, mask))
            except BundleError:
                pass
            file.seek(position)
            file.write(bytes([byte]))
    return taken


def test_no_flipped_bit_passes(bundle: Path) -> None:
    flipped = flips(bundle.read_bytes(), seed=7)
    assert len(flipped) > 1000
    assert survivors(bundle, flipped) == []
    verify_bundle(bundle)


@pytest.mark.slow
def test_no_byte_at_all_can_be_changed(bundle: Path) -> None:
    rng = random.Random(8)
    flipped = [(position, rng.randrange(1, 256)) for position in range(bundle.stat().st_size)]
    assert survivors(bundle, flipped) == []


def test_no_shorter_or_longer_file_passes(bundle: Path) -> None:
    content = bundle.read_bytes()
    rng = random.Random(9)
    near_the_end = range(len(content) - 3, len(content))
    cuts = {*range(0, len(content), 2 * BLOCK), *near_the_end, *rng.choices(range(len(content)), k=40)}
    for cut in sorted(cuts):
        bundle.write_bytes(content[:cut])
        refusal(bundle)
    for more in (b"\0", bytes(BLOCK), bytes(9 * 1024), b"x", content):
        bundle.write_bytes(content + more)
        assert "nothing behind its end" in refusal(bundle)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m[:-1], "expected model.int8.onnx as its next member|found its end"),
        (lambda m: [*m, ("more.txt", b"x")], "expected no members but those of its manifest, found more.txt"),
        (lambda m: [*m, m[-1]], "expected no members but those of its manifest"),
        (lambda m: [*m[:-2], m[-1], m[-2]], "as its next member, found"),
        (lambda m: m[1:], "expected manifest.json as its next member"),
        (lambda m: [m[0], m[0], *m[1:]], "as its next member, found manifest.json"),
        (lambda m: [m[0], ("signatures/x.pem", b"x"), *m[1:]], "as its next member, found signatures/x.pem"),
        (lambda m: [m[0], *m[2:]], "expected MODEL_CARD.md as its next member"),
        (lambda m: [*m[:-1], (m[-1][0], m[-1][1] + b"x")], "model.int8.onnx: expected .* bytes, found"),
        (lambda m: [*m[:-1], (m[-1][0], m[-1][1][:-1] + b"x")], "model.int8.onnx: expected SHA-256"),
    ],
)
def test_a_changed_bundle_is_refused(bundle: Path, change: Callable[[Members], Members], sentence: str) -> None:
    rewrite(bundle, change(members(bundle)))
    with pytest.raises(BundleError, match=sentence):
        verify_bundle(bundle)


def foreign_tar(path: Path, *infos: tarfile.TarInfo, form: int = tarfile.USTAR_FORMAT) -> None:
    with tarfile.open(path, "w", format=form) as archive:
        for info in infos:
            archive.addfile(info, io.BytesIO(bytes(info.size)))


def entry(name: str, size: int = 0, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        (entry("../../etc/passwd"), "'../../etc/passwd': expected a plain relative name"),
        (entry("/etc/passwd"), "'/etc/passwd': expected a plain relative name"),
        (entry("a/../b"), "expected a plain relative name"),
        (entry(".hidden"), "expected a plain relative name"),
        (entry("a/b/c"), "expected a plain relative name"),
        (entry("tête"), "expected a plain relative name"),
        (
            entry("x", type=tarfile.SYMTYPE, linkname="../../x"),
            r"expected a plain file, found a symbolic link to '../../x'",
        ),
        (entry("x", type=tarfile.LNKTYPE, linkname="manifest.json"), "found a hard link to 'manifest.json'"),
        (entry("golden", type=tarfile.DIRTYPE), "found a folder"),
        (entry("tty", type=tarfile.CHRTYPE), "found a device"),
        (entry("pipe", type=tarfile.FIFOTYPE), "found a pipe"),
        (entry("manifest.json", uid=1000), "found one with an owner, a time or other extras"),
        (entry("manifest.json", mtime=1), "found one with an owner, a time or other extras"),
        (entry("manifest.json", mode=0o755), "found one with an owner, a time or other extras"),
        (entry("manifest.json", 2 << 20), "expected at most 1048576 bytes"),
        (entry("manifest.json"), "another member, found its end|JSON"),
    ],
)
def test_members_of_other_kinds_are_refused_by_name(tmp_path: Path, info: tarfile.TarInfo, sentence: str) -> None:
    foreign_tar(tmp_path / "odd.tar", info)
    with pytest.raises(BundleError, match=sentence):
        verify_bundle(tmp_path / "odd.tar")


def test_a_link_behind_a_good_manifest_is_refused(bundle: Path) -> None:
    """In place of the last file: the header alone tells that it is a link."""
    link = entry("model.int8.onnx", type=tarfile.SYMTYPE, linkname="/etc/passwd").tobuf(tarfile.USTAR_FORMAT)
    bundle.write_bytes(pack(members(bundle)[:-1]) + link + END)
    assert "found a symbolic link to '/etc/passwd'" in refusal(bundle)


def test_a_huge_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    header = entry("manifest.json", 1 << 33).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "huge.tar").write_bytes(header)
    assert "expected at most 1073741824 bytes, found 8589934592" in refusal(tmp_path / "huge.tar")


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.tar"
    for content in (
        b"",
        b"<html>502 Bad Gateway</html>",
        b"<html>" * 500,
        bytes(10240),
        random.Random(0).randbytes(9999),
    ):
        path.write_bytes(content)
        refusal(path)
    assert "cannot be read" in refusal(tmp_path / "missing.tar")
    assert "cannot be read" in refusal(tmp_path)


def test_a_member_of_another_release_does_not_fit(
    bundle: Path, build: Callable[..., Manifest], material: Path, tmp_path: Path
) -> None:
    """Whichever is taken over, at its own place: its size or its digest is another one."""
    build(tmp_path / "next.tar", version="8", models=[tiny_detector(tmp_path / "next.onnx", seed=1)])
    other = dict(members(tmp_path / "next.tar"))
    for number, (name, content) in enumerate(mine := members(bundle)):
        if name in other and other[name] != content:
            rewrite(bundle, [*mine[:number], (name, other[name]), *mine[number + 1 :]])
            refusal(bundle)
    assert {"manifest.json", "model.fp32.onnx", "golden/fp32.json"} <= set(other) & {name for name, _ in mine}


def test_a_manifest_of_a_wrong_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.tar"
    for content in (b"{}", b"[]", b'{"kind": "mobile-centernet bundle", "format": 1}', b"\xff", b"[" * 100_000):
        rewrite(path, [("manifest.json", content), ("file", b"")])
        assert "manifest.json: " in refusal(path) and "expected " in refusal(path)


def test_a_bundle_that_cannot_be_written(bundle: Path, tmp_path: Path) -> None:
    files = dict(members(bundle)[1:])
    with pytest.raises(BundleError, match=r"out\.tar: cannot be written"):
        write_bundle(tmp_path / "missing" / "out.tar", verify_bundle(bundle), files)
