"""The signatures of a manifest: each a public key and its Ed25519 signature over the manifest's bytes.

The key travels with its signature, so that also a signature by a key that a device does not know must hold: no byte
of a bundle is left unchecked, and keys can be changed while some devices know only the old one.
"""

from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.keys import TrustedKeys, holds, key_id, parse_public_key, to_pem
from mobile_centernet.bundle.manifest import MANIFEST, SIGNATURES

MAX_SIGNATURES = 16
MAX_PEM = 200
SIGNATURE_BYTES = 64

Signatures = dict[str, tuple[bytes, bytes]]
"""By key id: the public key in PEM form and the signature, 64 bytes."""


def add_signature(signatures: Signatures, signed: bytes, key: Ed25519PrivateKey, where: str) -> str:
    """Sign `signed`; returns the key id. Ed25519 has no chance in it: the same key gives the same signature again."""
    public = key.public_key()
    signatures[key_id(public)] = (to_pem(public), key.sign(signed))
    if len(signatures) > MAX_SIGNATURES:
        raise BundleError(f"{where}: expected room for one more signature, found {MAX_SIGNATURES}, as many as may be")
    return key_id(public)


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
