"""A bundle is taken only when every byte of it is as its signer left it."""

import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mobile_centernet.bundle.bundle import inspect_bundle, sign_bundle, verify_bundle, write_bundle
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.keys import MAX_SIGNATURES, TrustedKeys, key_id, read_private_key
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.bundle.tar import BLOCK, END, pack

Members = list[tuple[str, bytes]]


def members(path: Path) -> Members:
    """Read by Python's tar reader, not by ours."""
    with tarfile.open(path) as archive:
        return [(info.name, archive.extractfile(info).read()) for info in archive]  # type: ignore[union-attr]


def rewrite(path: Path, changed: Members) -> None:
    path.write_bytes(pack(changed) + END)


def refusal(path: Path, trusted: TrustedKeys) -> str:
    with pytest.raises(BundleError) as refused:
        verify_bundle(path, trusted)
    message = str(refused.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


def test_a_signed_bundle_is_taken(signed: Path, trusted: TrustedKeys) -> None:
    manifest = verify_bundle(signed, trusted)
    assert (manifest.name, manifest.version, manifest.release) == ("street", "7", 12)
    assert set(manifest.variants) == {"fp32", "fp16", "int8"}


def test_any_tar_reads_it_and_finds_nothing_personal(signed: Path) -> None:
    with tarfile.open(signed) as archive:
        infos = archive.getmembers()
    assert infos[0].name == "manifest.json"
    assert [info.name for info in infos][5:] == sorted(info.name for info in infos[5:])
    assert {(i.mode, i.uid, i.gid, i.uname, i.gname, i.mtime, i.type) for i in infos} == {
        (0o644, 0, 0, "", "", 0, tarfile.REGTYPE)
    }


def test_rewriting_the_same_members_gives_the_same_bytes(signed: Path) -> None:
    before = signed.read_bytes()
    rewrite(signed, members(signed))
    assert signed.read_bytes() == before


def flips(content: bytes, seed: int) -> list[tuple[int, int]]:
    """Positions and masks: three in every block, so that each header, padding and the end has its share, and 1,000."""
    rng = random.Random(seed)
    everywhere = [start + rng.randrange(BLOCK) for start in range(0, len(content), BLOCK) for _ in range(3)]
    everywhere += [rng.randrange(len(content)) for _ in range(1000)]
    return [(position, 1 << rng.randrange(8)) for position in everywhere]


def survivors(path: Path, trusted: TrustedKeys, flipped: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The flips with which the bundle is still taken."""
    taken = []
    with path.open("r+b", buffering=0) as file:
        for position, mask in flipped:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ mask]))
            try:
                verify_bundle(path, trusted)
                taken.append((position, mask))
            except BundleError:
                pass
            file.seek(position)
            file.write(bytes([byte]))
    return taken


def test_no_flipped_bit_passes(signed: Path, trusted: TrustedKeys) -> None:
    flipped = flips(signed.read_bytes(), seed=7)
    assert len(flipped) > 1000
    assert survivors(signed, trusted, flipped) == []
    verify_bundle(signed, trusted)


@pytest.mark.slow
def test_no_byte_at_all_can_be_changed(signed: Path, trusted: TrustedKeys) -> None:
    rng = random.Random(8)
    flipped = [(position, rng.randrange(1, 256)) for position in range(signed.stat().st_size)]
    assert survivors(signed, trusted, flipped) == []


def test_no_shorter_or_longer_file_passes(signed: Path, trusted: TrustedKeys) -> None:
    content = signed.read_bytes()
    rng = random.Random(9)
    near_the_end = range(len(content) - 3, len(content))
    cuts = {*range(0, len(content), 2 * BLOCK), *near_the_end, *rng.choices(range(len(content)), k=40)}
    for cut in sorted(cuts):
        signed.write_bytes(content[:cut])
        refusal(signed, trusted)
    for more in (b"\0", bytes(BLOCK), bytes(9 * 1024), b"x", content):
        signed.write_bytes(content + more)
        assert "nothing behind its end" in refusal(signed, trusted)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m[:-1], "expected model.int8.onnx as its next member|found its end"),
        (lambda m: [*m, ("more.txt", b"x")], "expected no members but those of its manifest, found more.txt"),
        (lambda m: [*m, m[-1]], "expected no members but those of its manifest"),
        (lambda m: [*m[:-2], m[-1], m[-2]], "as its next member, found"),
        (lambda m: m[1:], "expected manifest.json as its next member"),
        (lambda m: [m[0], m[0], *m[1:]], "expected a signature by a trusted key, found none|as its next member"),
        (lambda m: [m[0], m[3], m[4], m[1], m[2], *m[5:]], "in the order of their key ids"),
        (lambda m: [m[0], m[1], m[2], m[1], m[2], *m[5:]], "in the order of their key ids"),
        (lambda m: [m[0], m[1], *m[3:]], "as its next member"),
        (lambda m: [m[0], (m[1][0], m[3][1]), *m[2:]], "expected the key of that id"),
        (lambda m: [m[0], (m[1][0], m[1][1] + b"\n"), *m[2:]], "expected the key of that id"),
        (lambda m: [m[0], (m[1][0], b"none"), *m[2:]], "expected an Ed25519 public key in PEM form"),
        (lambda m: [m[0], m[1], (m[2][0], m[4][1]), *m[3:]], "does not fit manifest.json"),
        (lambda m: [m[0], m[1], (m[2][0], m[2][1] + b"x"), *m[3:]], "expected at most 64 bytes"),
        (lambda m: [(m[0][0], m[0][1].replace(b'"release": 12', b'"release": 99')), *m[1:]], "does not fit manifest"),
        (lambda m: [*m[:-1], (m[-1][0], m[-1][1] + b"x")], "model.int8.onnx: expected .* bytes, found"),
        (lambda m: [*m[:-1], (m[-1][0], m[-1][1][:-1] + b"x")], "model.int8.onnx: expected SHA-256"),
    ],
)
def test_a_changed_bundle_is_refused(
    signed: Path, trusted: TrustedKeys, change: Callable[[Members], Members], sentence: str
) -> None:
    rewrite(signed, change(members(signed)))
    with pytest.raises(BundleError, match=sentence):
        verify_bundle(signed, trusted)


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
def test_members_of_other_kinds_are_refused_by_name(
    tmp_path: Path, trusted: TrustedKeys, info: tarfile.TarInfo, sentence: str
) -> None:
    foreign_tar(tmp_path / "odd.tar", info)
    with pytest.raises(BundleError, match=sentence):
        verify_bundle(tmp_path / "odd.tar", trusted)


def test_a_link_behind_a_good_signature_is_refused(signed: Path, trusted: TrustedKeys) -> None:
    """In place of the last file: the header alone tells that it is a link."""
    link = entry("model.int8.onnx", type=tarfile.SYMTYPE, linkname="/etc/passwd").tobuf(tarfile.USTAR_FORMAT)
    signed.write_bytes(pack(members(signed)[:-1]) + link + END)
    assert "found a symbolic link to '/etc/passwd'" in refusal(signed, trusted)


def test_a_huge_size_is_refused_before_it_is_read(tmp_path: Path, trusted: TrustedKeys) -> None:
    header = entry("manifest.json", 1 << 33).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "huge.tar").write_bytes(header)
    assert "expected at most 1073741824 bytes, found 8589934592" in refusal(tmp_path / "huge.tar", trusted)


def test_what_is_no_bundle_is_refused(tmp_path: Path, trusted: TrustedKeys) -> None:
    path = tmp_path / "page.tar"
    for content in (
        b"",
        b"<html>502 Bad Gateway</html>",
        b"<html>" * 500,
        bytes(10240),
        random.Random(0).randbytes(9999),
    ):
        path.write_bytes(content)
        refusal(path, trusted)
    assert "cannot be read" in refusal(tmp_path / "missing.tar", trusted)
    assert "cannot be read" in refusal(tmp_path, trusted)


def test_whose_signature_counts(signed_once: Path, material: Path, tmp_path: Path) -> None:
    """Signed by `first` and `second`."""

    def trust(*names: str, revoked: str | None = None) -> TrustedKeys:
        loaded = TrustedKeys.load([material / f"{name}.pub" for name in names])
        gone = TrustedKeys.load([material / f"{revoked}.pub"]).keys if revoked else ()
        return TrustedKeys(loaded.keys, frozenset(gone))

    for good in (
        trust("first"),
        trust("second"),
        trust("stranger", "first"),
        trust("first", "second", revoked="first"),
    ):
        verify_bundle(signed_once, good)
    assert "expected a signature by a trusted key, found only" in refusal(signed_once, trust("stranger"))
    assert "found only revoked" in refusal(signed_once, trust("first", revoked="first"))
    assert "found only revoked" in refusal(signed_once, trust("first", "stranger", revoked="first"))


def test_an_unsigned_bundle_is_refused_but_can_be_looked_at(
    build: Callable[..., Manifest], trusted: TrustedKeys, tmp_path: Path
) -> None:
    manifest = build(tmp_path / "plain.tar")
    assert "expected a signature by a trusted key, found none at all" in refusal(tmp_path / "plain.tar", trusted)
    assert inspect_bundle(tmp_path / "plain.tar") == (manifest, ())


def test_a_signature_of_another_release_does_not_fit(
    signed: Path, build: Callable[..., Manifest], trusted: TrustedKeys, material: Path, tmp_path: Path
) -> None:
    build(tmp_path / "next.tar", release=13)
    sign_bundle(tmp_path / "next.tar", read_private_key(material / "first"))
    transplanted = [members(signed)[0], *members(tmp_path / "next.tar")[1:3], *members(signed)[5:]]
    rewrite(signed, transplanted)
    assert "does not fit manifest.json" in refusal(signed, trusted)


def test_signing_again_changes_nothing_and_order_does_not_matter(
    signed: Path, build: Callable[..., Manifest], material: Path, tmp_path: Path
) -> None:
    before = signed.read_bytes()
    identity = sign_bundle(signed, read_private_key(material / "first"))
    assert signed.read_bytes() == before
    assert identity in inspect_bundle(signed)[1]
    build(tmp_path / "other.tar")
    for key in ("second", "first"):
        sign_bundle(tmp_path / "other.tar", read_private_key(material / key))
    assert (tmp_path / "other.tar").read_bytes() == before


def test_a_damaged_bundle_is_not_signed(signed: Path, material: Path) -> None:
    damaged = signed.read_bytes()[:-2000] + bytes(2000)
    signed.write_bytes(damaged)
    with pytest.raises(BundleError):
        sign_bundle(signed, read_private_key(material / "stranger"))
    assert signed.read_bytes() == damaged


def test_a_signed_manifest_of_a_wrong_kind_is_still_refused(
    material: Path, trusted: TrustedKeys, tmp_path: Path
) -> None:
    """The key may sign other things too: they are no releases."""
    key = read_private_key(material / "first")
    path = tmp_path / "other.tar"
    for content in (b"{}", b"[]", b'{"kind": "mobile-centernet bundle", "format": 2}', b"\xff", b"[" * 100_000):
        identity = key_id(key.public_key())
        pem = (material / "first.pub").read_bytes()
        signatures = [(f"signatures/{identity}.pem", pem), (f"signatures/{identity}.sig", key.sign(content))]
        rewrite(path, [("manifest.json", content), *signatures, ("file", b"")])
        assert "manifest.json: expected " in refusal(path, trusted)


def test_there_is_a_limit_of_signatures(signed: Path, trusted: TrustedKeys) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    for _ in range(MAX_SIGNATURES - 2):
        sign_bundle(signed, Ed25519PrivateKey.generate())
    verify_bundle(signed, trusted)
    with pytest.raises(BundleError, match="expected room for one more signature"):
        sign_bundle(signed, Ed25519PrivateKey.generate())
    verify_bundle(signed, trusted)


def test_a_bundle_that_cannot_be_written(signed: Path, material: Path, tmp_path: Path) -> None:
    manifest, _ = inspect_bundle(signed)
    files = members(signed)[5:]
    with pytest.raises(BundleError, match=r"out\.tar: cannot be written"):
        write_bundle(tmp_path / "missing" / "out.tar", manifest, pack(files) + END)
