"""Keys: making them, and finding those that are at hand: files, variables, and signers such as a cloud's KMS or an HSM.

A place of a private key is a file (`*.key`, PEM), `env:NAME` (a variable that holds the PEM), or the URI of a signer of
securesystemslib (`awskms:...`, `gcpkms:...`, `azurekms:...`, `hsm:...`, `hv:...`, `gnupg:...`).
"""

import getpass
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import securesystemslib.signer._key as securesystemslib_keys
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Key, Signer, SSlibKey
from tuf.api.metadata import Metadata, Root, Targets

from mobile_centernet.trust.errors import TrustError

PASSPHRASE = "MOBILE_CENTERNET_KEY_PASSPHRASE"  # noqa: S105 the name of the variable
VARIABLE = "env"
KEY_SUFFIX, PUBLIC_SUFFIX = ".key", ".pub"

logger = logging.getLogger(__name__)


def require_native_cryptography() -> None:
    """Raises TrustError where signatures would be verified in pure Python: slowly, and those of a KMS not at all."""
    if securesystemslib_keys.CRYPTO_IMPORT_ERROR:
        raise TrustError(
            "cryptography: expected version 43 or newer beside securesystemslib, found an older one or none"
        )


def generate_key(path: Path, passphrase: str | None = None) -> SSlibKey:
    """Write a new private Ed25519 key to `path` (mode 0600) and its public half beside it (`*.pub`).

    Args:
        path: ends in `.key`, so that .gitignore and .dockerignore know it. Nothing may be there.
        passphrase: encrypts the file.

    Returns:
        The public key.

    Raises:
        TrustError: there is a file already, git would commit it, or the disk refuses.
    """
    if path.suffix != KEY_SUFFIX:
        raise TrustError(f"{path}: expected a file *{KEY_SUFFIX} for a private key, which git and Docker ignore")
    if any((folder / ".git").exists() for folder in path.absolute().parents):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            ignored = subprocess.run(["git", "check-ignore", "-q", path.name], cwd=path.parent).returncode == 0
        except OSError as error:
            raise TrustError(f"{path}: expected git, to ask whether it ignores the key: {error.strerror}") from error
        if not ignored:
            raise TrustError(f"{path}: expected a place that git ignores, found one whose keys `git add` would take")
    private = Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    files = [(path, secret, 0o600), (path.with_suffix(PUBLIC_SUFFIX), public, 0o644)]
    if there := [target for target, _, _ in files if os.path.lexists(target)]:
        raise TrustError(f"{there[0]}: expected no such file yet: keys are never overwritten")
    for target, content, mode in files:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise TrustError(f"{target}: cannot be written ({error.strerror})") from error
    return SSlibKey.from_crypto(private.public_key())


def public_key(place: str) -> Key:
    """The public half of a key: of a `*.pub` file, or of a private key in a file or a variable.

    Raises:
        TrustError: there is none, or it cannot be read.
    """
    path = Path(place)
    try:
        if path.suffix == PUBLIC_SUFFIX:
            return SSlibKey.from_crypto(load_pem_public_key(path.read_bytes()))
        if (private := _private_key(place)) is not None:
            return SSlibKey.from_crypto(private.public_key())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise TrustError(f"{place}: expected a public key in PEM form, found none ({error})") from error
    raise TrustError(f"{place}: expected a key, found none; of a KMS or an HSM give the public half, a *.pub file")


def same_key(one: Key, other: Key) -> bool:
    """By value: key ids are free to choose, and the same key under two ids must not count twice."""
    return bool(one.keytype == other.keytype and one.keyval == other.keyval)


@dataclass(frozen=True)
class KeyRing:
    """Where this machine looks for private keys, by role. Places where there is none are passed over."""

    places: Mapping[str, Sequence[str]]

    def signers(self, role: str, keys: Iterable[Key]) -> Iterator[Signer]:
        """Those of `keys` that are at hand. Raises TrustError for a key file that others may read, or that is none."""
        wanted = list(keys)
        for place in self.places.get(role, ()):
            scheme = place.partition(":")[0]
            if scheme in SIGNER_FOR_URI_SCHEME and scheme != VARIABLE:
                yield from _remote_signers(place, wanted)
            elif (private := _private_key(place)) is not None:
                try:
                    public = SSlibKey.from_crypto(private.public_key())
                except ValueError as error:
                    raise TrustError(f"{place}: expected an Ed25519, ECDSA or RSA key, found another kind") from error
                yield from (CryptoSigner(private, key) for key in wanted if same_key(key, public))  # type: ignore[arg-type]

    def sign(self, role: str, metadata: Metadata[Root], *delegators: Root | Targets) -> None:
        """Add the signatures of all keys at hand that one of the delegators names for `role`.

        Raises:
            TrustError: a signer fails.
        """
        keys: list[Key] = []
        for delegator in delegators:
            for found in map(delegator.get_key, delegator.get_delegated_role(role).keyids):
                if not any(same_key(found, key) and found.keyid == key.keyid for key in keys):
                    keys.append(found)
        for signer in self.signers(role, keys):
            metadata.sign(signer, append=True)


def _private_key(place: str) -> PrivateKeyTypes | None:
    """The private key in a file or a variable; None where there is none."""
    scheme, colon, name = place.partition(":")
    if colon and scheme == VARIABLE:
        content = os.environ.get(name, "").encode()
    elif colon and scheme in SIGNER_FOR_URI_SCHEME:
        return None
    else:
        try:
            with Path(place).expanduser().open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                if mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise TrustError(
                        f"{place}: expected a private key that only its owner can read (mode 0600), "
                        f"found mode {stat.S_IMODE(mode):04o}"
                    )
                content = file.read()
        except FileNotFoundError:
            content = b""
        except OSError as error:
            raise TrustError(f"{place}: expected a private key, but it cannot be read ({error.strerror})") from error
    if not content:
        logger.debug("%s: no key there", place)
        return None
    try:
        try:
            return load_pem_private_key(content, password=None)
        except TypeError:  # it is encrypted
            secret = os.environ.get(PASSPHRASE) or (sys.stdin.isatty() and getpass.getpass(f"Passphrase of {place}: "))
            if not secret:
                raise TrustError(f"{place}: expected its passphrase in {PASSPHRASE}, found none") from None
            return load_pem_private_key(content, secret.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustError(f"{place}: expected a private key in PEM form and its passphrase: {error}") from error


def _remote_signers(place: str, keys: Sequence[Key]) -> Iterator[Signer]:
    """A signer whose key is elsewhere says by a signature which of `keys` it has."""
    probe = b"mobile-centernet"
    for key in keys:
        try:
            signer = Signer.from_priv_key_uri(place, key)
            key.verify_signature(signer.sign(probe), probe)
        except Exception as error:  # noqa: BLE001 every KMS has its own kinds: no driver, no network, no rights, no PIN
            logger.warning("%s: cannot sign with key %.12s (%s: %s)", place, key.keyid, type(error).__name__, error)
        else:
            yield signer
