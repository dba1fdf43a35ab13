"""Keys: making them, and finding those that are at hand: files, variables, and signers such as a cloud's KMS or an HSM.

A place of a private key is a file (`*.key`, PEM), `env:NAME` (a variable that holds the PEM), or the URI of a signer of
securesystemslib (`awskms:...`, `gcpkms:...`, `azurekms:...`, `hsm:...`, `hv:...`, `gnupg:...`).
"""

import getpass
import logging
import os
import re
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
VARIABLE, FILE = "env", "file2"
KEY_SUFFIX, PUBLIC_SUFFIX = ".key", ".pub"

logger = logging.getLogger(__name__)


def require_native_cryptography() -> None:
    """Raises TrustError where signatures would be verified in pure Python: slowly, and those of a KMS not at all."""
    if securesystemslib_keys.CRYPTO_IMPORT_ERROR:
        raise TrustError(
            "cryptography: expected version 43 or newer beside securesystemslib, found an older one or none"
        )


def generate_key(path: Path, passphrase: str | None = None) -> Key:
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
    private = Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    files = [(path, secret, 0o600), (path.with_suffix(PUBLIC_SUFFIX), public, 0o644)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_checkout = any((folder / ".git").exists() for folder in path.absolute().parents)
        if is_checkout and subprocess.run(["git", "check-ignore", "-q", path.name], cwd=path.parent).returncode:
            raise TrustError(f"{path}: expected a place that git ignores, found one whose keys `git add` takes")
        if there := [target for target, _, _ in files if os.path.lexists(target)]:
            raise TrustError(f"{there[0]}: expected no such file yet: keys are never overwritten")
        for target, content, mode in files:
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise TrustError(f"{path}: cannot be written ({error.filename or path}: {error.strerror})") from error
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
        if (private := private_key(place)) is not None:
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
            if _is_elsewhere(place):
                yield from _remote_signers(place, wanted)
            elif (private := private_key(place)) is not None:
                public = SSlibKey.from_crypto(private.public_key())
                yield from (CryptoSigner(private, key) for key in wanted if same_key(key, public))  # type: ignore[arg-type]

    def sign(self, role: str, metadata: Metadata[Root], *delegators: Root | Targets) -> None:
        """Add the signatures of all keys at hand that one of the delegators names for `role`.

        Raises:
            TrustError: a key cannot be read.
        """
        named = [each.get_key(keyid) for each in delegators for keyid in each.get_delegated_role(role).keyids]
        for signer in self.signers(role, {key.keyid: key for key in named}.values()):
            metadata.sign(signer, append=True)


def private_key(place: str) -> PrivateKeyTypes | None:
    """The private key in a file or a variable; None where there is none.

    Raises:
        TrustError: it cannot be read, others may read it, or it is none.
    """
    scheme, colon, name = place.partition(":")
    if _is_elsewhere(place):
        return None
    if colon and scheme == VARIABLE:
        content = os.environ.get(name, "").encode()
    else:
        try:
            with Path(name if colon and scheme == FILE else place).expanduser().open("rb") as file:
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
        if re.match(r"[a-z0-9]{2,}:", place) and scheme not in (VARIABLE, FILE):
            known = ", ".join([VARIABLE, *SIGNER_FOR_URI_SCHEME])
            raise TrustError(f"{place}: expected a file, or a signer's URI of a scheme of {known}, found neither")
        logger.debug("%s: no key there", place)
        return None
    try:
        try:
            key = load_pem_private_key(content, password=None)
        except TypeError:  # it is encrypted
            key = load_pem_private_key(content, _secret(f"Passphrase of {place}").encode())
        CryptoSigner(key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TrustError(
            f"{place}: expected an Ed25519, ECDSA or RSA key in PEM form, and its passphrase: {error}"
        ) from error
    return key


def _is_elsewhere(place: str) -> bool:
    """Whether the key is where a signer of securesystemslib reaches it, and no PEM."""
    scheme, colon, _ = place.partition(":")
    return bool(colon) and scheme in SIGNER_FOR_URI_SCHEME and scheme != FILE


def _secret(what: str) -> str:
    """A passphrase or a PIN. Raises TrustError where nobody can be asked."""
    secret = os.environ.get(PASSPHRASE) or (sys.stdin.isatty() and getpass.getpass(f"{what}: "))
    if not secret:
        raise TrustError(f"{what}: expected it in {PASSPHRASE}, found none")
    return secret


def _remote_signers(place: str, keys: Sequence[Key]) -> Iterator[Signer]:
    """A signer whose key is elsewhere says by a signature which of `keys` it has."""
    probe = b"mobile-centernet"
    for key in keys:
        try:
            signer = Signer.from_priv_key_uri(place, key, lambda what: _secret(f"{what} of {place}"))
            key.verify_signature(signer.sign(probe), probe)
        except Exception as error:  # noqa: BLE001 every KMS has its own kinds: no driver, no network, no rights, no PIN
            logger.warning("%s: cannot sign with key %.12s (%s: %s)", place, key.keyid, type(error).__name__, error)
        else:
            yield signer
