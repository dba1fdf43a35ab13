"""A bundle: one file that holds a release, and the only way to write, sign and verify it.

    manifest.json                    what the release is; pins every file below by size and SHA-256
    signatures/KEY_ID.pem and .sig   a public key and its signature over the bytes of manifest.json; several may sign
    MODEL_CARD.md golden/fp32.json golden/000.png model.fp32.onnx ...    in the order of their names

Verifying takes nothing on trust: the manifest is read only behind a signature by a trusted key, and every other byte
of the file must be what the manifest, the signatures and the one possible tar form make it.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mobile_centernet.bundle.errors import BundleError, StorageError
from mobile_centernet.bundle.keys import (
    MAX_PEM,
    MAX_SIGNATURES,
    SIGNATURE_BYTES,
    Signatures,
    TrustedKeys,
    check_signatures,
    key_id,
    signature_files,
    to_pem,
)
from mobile_centernet.bundle.manifest import MANIFEST, SIGNATURES, Manifest
from mobile_centernet.bundle.tar import Reader, pack
from mobile_centernet.files import write_atomically

MAX_MANIFEST = 1 << 20

Keep = Callable[[str, Iterable[bytes]], None]
"""Takes the name and all pieces of a member; what it raises stops the reading."""


def verify_bundle(path: Path, trusted: TrustedKeys) -> Manifest:
    """The manifest of a bundle that is whole and signed by a trusted, unrevoked key; BundleError for any other."""
    return inspect_bundle(path, trusted)[0]


def inspect_bundle(path: Path, trusted: TrustedKeys | None = None) -> tuple[Manifest, tuple[str, ...]]:
    """The manifest, and the ids of the keys that signed it. Without `trusted`: to look at, not to run.

    Raises BundleError for a damaged bundle, and where none of the keys is among `trusted`.
    """
    with open_bundle(path) as file:
        manifest, signatures = walk(file, path, trusted, discard)
        return manifest, tuple(signatures)


def sign_bundle(path: Path, private_key: Ed25519PrivateKey) -> str:
    """Add a signature to a bundle, atomically. Signing again with the same key changes nothing.

    Returns:
        The id of the key.

    Raises:
        BundleError: the bundle is damaged, and never signed then, or cannot be written.
    """
    with open_bundle(path) as file:
        content = file.read()
    manifest, signatures = walk(BytesIO(content), path, None, discard)
    signed = manifest.to_json()
    rest = content[len(pack([(MANIFEST, signed), *signature_files(signatures)])) :]
    # Ed25519 has no chance in it: the same key gives the same signature again.
    public = private_key.public_key()
    identity = key_id(public)
    signatures[identity] = (to_pem(public), private_key.sign(signed))
    if len(signatures) > MAX_SIGNATURES:
        raise BundleError(f"{path}: expected room for one more signature, found {MAX_SIGNATURES}, as many as may be")
    write_bundle(path, manifest, rest, signatures)
    return identity


def write_bundle(path: Path, manifest: Manifest, rest: bytes, signatures: Signatures | None = None) -> None:
    """Write a bundle, atomically.

    Args:
        path: where to.
        manifest: written first.
        rest: the members that the manifest names, in order, and the end of the archive; the caller sees to that.
        signatures: over the manifest; None for an unsigned bundle.

    Raises:
        BundleError: it cannot be written.
    """
    try:
        write_atomically(path, pack([(MANIFEST, manifest.to_json()), *signature_files(signatures or {})]) + rest)
    except OSError as error:
        raise BundleError(f"{path}: cannot be written ({error.strerror})") from error


def open_bundle(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise StorageError(f"{path}: expected a bundle, but it cannot be read ({error.strerror})") from error


def walk(file: IO[bytes], path: Path, trusted: TrustedKeys | None, keep: Keep) -> tuple[Manifest, Signatures]:
    """Read every byte once and in order, and hand each member to `keep` once its place and size are known to be right.

    Only when this returns has the last member been checked.

    Args:
        file: the bundle, from its beginning.
        path: its name in errors.
        trusted: the keys of which one must have signed; None asks for no trusted signature, but for all the rest.
        keep: takes each member.

    Raises:
        BundleError: the bundle is not whole, or not trusted.
    """
    reader = Reader(file, path)
    signed = reader.read(MANIFEST, MAX_MANIFEST)
    signatures: Signatures = {}
    while (member := reader.peek()[0]).startswith(SIGNATURES):
        identity = member.removeprefix(SIGNATURES).removesuffix(".pem")
        if identity <= max(signatures, default="") or len(signatures) == MAX_SIGNATURES:
            raise BundleError(f"{path}: expected at most {MAX_SIGNATURES} signatures in the order of their key ids")
        pem = reader.read(f"{SIGNATURES}{identity}.pem", MAX_PEM)
        signatures[identity] = (pem, reader.read(f"{SIGNATURES}{identity}.sig", SIGNATURE_BYTES))
    check_signatures(signed, signatures, trusted, str(path))
    manifest = Manifest.from_json(signed, f"{path}: {MANIFEST}")
    for name, content in ((MANIFEST, signed), *signature_files(signatures)):
        keep(name, [content])
    for name in sorted(manifest.files):
        found, size = reader.peek()
        if found != name:
            raise BundleError(f"{path}: expected {name} as its next member, found {found}")
        keep(name, checked(reader.chunks(), size, manifest, name, str(path)))
    if not reader.at_end():
        raise BundleError(f"{path}: expected no members but those of its manifest, found {reader.peek()[0]}")
    return manifest, signatures


def checked(pieces: Iterable[bytes], size: int, manifest: Manifest, name: str, where: str) -> Iterator[bytes]:
    """Pass on the pieces of a file; raises BundleError at once for a wrong `size`, at the end for wrong contents."""
    pinned = manifest.files[name]
    if size != pinned.bytes:
        raise BundleError(f"{where}: {name}: expected {pinned.bytes} bytes, found {size}")
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != pinned.sha256:
        raise BundleError(f"{where}: {name}: expected SHA-256 {pinned.sha256}, found {digest.hexdigest()}")


def discard(_name: str, pieces: Iterable[bytes]) -> None:
    """Read to the end, so that the checks run, and keep nothing."""
    for _ in pieces:
        pass
