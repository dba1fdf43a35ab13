"""Ed25519 keys: making them, reading them with care, which of them a device trusts, and what they have signed.

A bundle's signatures each are a public key and its signature over the manifest's bytes. The key travels with its
signature, so that also a signature by a key that a device does not know must hold: no byte of a bundle is left
unchecked, and keys can be changed while some devices know only the old one.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.manifest import MANIFEST, SIGNATURES

MAX_SIGNATURES = 16
MAX_PEM = 200
SIGNATURE_BYTES = 64

Signatures = dict[str, tuple[bytes, bytes]]
"""By key id: the public key in PEM form and the signature, 64 bytes."""

_KEY_ID = re.compile(r"[0-9a-f]{64}")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def key_id(key: Ed25519PublicKey) -> str:
    """The SHA-256 of the key's DER form; `openssl pkey -pubin -in KEY.pub -outform DER | sha256sum` says the same."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def to_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def holds(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def generate_keys(path: Path) -> str:
    """Write a new private key to `path` (mode 0600) and its public half beside it as `path`.pub; returns the key id.

    Raises BundleError when one of them exists, because a lost signing key cannot be had again, or cannot be written.
    """
    public_path = path.with_name(f"{path.name}.pub")
    for existing in (path, public_path):
        if os.path.lexists(existing):
            raise _exists(existing)
    private = Ed25519PrivateKey.generate()
    _write_new(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write_new(public_path, to_pem(private.public_key()), 0o644)
    return key_id(private.public_key())


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Raises BundleError when it is missing, readable by others than its owner, or no unencrypted Ed25519 key."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise BundleError(f"{path}: expected a private key, found no plain file")
            if mode & _OTHERS:
                raise BundleError(
                    f"{path}: expected a private key that only its owner can read (mode 0600), "
                    f"found mode {stat.S_IMODE(mode):04o}"
                )
            content = file.read()
    except OSError as error:
        raise BundleError(f"{path}: expected a private key, but it cannot be read ({error.strerror})") from error
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BundleError(f"{path}: expected an unencrypted Ed25519 private key in PEM form: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path}: expected an Ed25519 private key, found one of another kind")
    return key


def parse_public_key(pem: bytes, name: str) -> Ed25519PublicKey:
    """Raises BundleError, calling the key `name`."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BundleError(f"{name}: expected an Ed25519 public key in PEM form, found something else") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{name}: expected an Ed25519 public key, found one of another kind")
    return key


@dataclass(frozen=True)
class TrustedKeys:
    """The keys whose signature a device takes, by key id, and the key ids it takes no longer."""

    keys: Mapping[str, Ed25519PublicKey]
    revoked: frozenset[str] = frozenset()

    @classmethod
    def load(cls, paths: Iterable[Path], revoked: Path | None = None) -> "TrustedKeys":
        """Read public keys; a folder stands for its `*.pub`. `revoked` is a text file, a key id a line, # comments.

        A revoked key may stay among the trusted ones: being revoked wins. Raises BundleError where a file cannot be
        read or there is no key at all.
        """
        files = [file for path in paths for file in (sorted(path.glob("*.pub")) if path.is_dir() else [path])]
        if not files:
            raise BundleError("expected at least one trusted public key (*.pub), found none")
        keys = {}
        for file in files:
            try:
                content = file.read_bytes()
            except OSError as error:
                raise BundleError(f"{file}: expected a public key, but it cannot be read ({error.strerror})") from error
            if b"PRIVATE KEY" in content:
                raise BundleError(f"{file}: expected a public key, found a private one, which belongs on no device")
            key = parse_public_key(content, str(file))
            keys[key_id(key)] = key
        if revoked is None:
            return cls(keys)
        try:
            lines = revoked.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(
                f"{revoked}: expected a list of revoked key ids, but it cannot be read: {error}"
            ) from error
        ids = [text for line in lines if (text := line.partition("#")[0].strip())]
        for found in ids:
            if not _KEY_ID.fullmatch(found):
                raise BundleError(f"{revoked}: expected key ids of 64 hexadecimal digits, one a line, found {found!r}")
        return cls(keys, frozenset(ids))


def check_signatures(signed: bytes, signatures: Signatures, trusted: TrustedKeys | None, where: str) -> None:
    """Raises BundleError unless all signatures hold and one is by a trusted, unrevoked key (None: by any or none)."""
    for identity, (pem, signature) in signatures.items():
        key = parse_public_key(pem, f"{where}: {SIGNATURES}{identity}.pem")
        if key_id(key) != identity or to_pem(key) != pem:
            raise BundleError(
                f"{where}: {SIGNATURES}{identity}.pem: expected the key of that id, found another or more"
            )
        if not holds(key, signature, signed):
            raise BundleError(f"{where}: the signature by key {identity} does not fit {MANIFEST}")
    if trusted is None:
        return
    if not signatures:
        raise BundleError(f"{where}: expected a signature by a trusted key, found none at all")
    known = [identity for identity in signatures if identity in trusted.keys]
    if not known:
        raise BundleError(f"{where}: expected a signature by a trusted key, found only {', '.join(signatures)}")
    if trusted.revoked.issuperset(known):
        raise BundleError(f"{where}: expected a signature by an unrevoked key, found only revoked {', '.join(known)}")


def signature_files(signatures: Signatures) -> Iterator[tuple[str, bytes]]:
    """Names and contents, in the order in which a bundle holds them."""
    for identity, (pem, signature) in sorted(signatures.items()):
        yield f"{SIGNATURES}{identity}.pem", pem
        yield f"{SIGNATURES}{identity}.sig", signature


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be written ({error.strerror})") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _exists(path: Path) -> BundleError:
    return BundleError(f"{path}: expected no such file yet: keys are never overwritten")
