"""Keys: files that only their owner reads, encrypted ones, variables, places that are none, and signers elsewhere."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Key, SecretsHandler, Signature, Signer

from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.keys import PASSPHRASE, KeyRing, generate_key, private_key, public_key
from tests.helpers.trust import Fleet


def pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def written(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def signed(place: str, key: Key) -> bool:
    """Whether the place's key signs for `key`; what it signs must hold."""
    signers = list(KeyRing({"champion": [place]}).signers("champion", [key]))
    for signer in signers:
        key.verify_signature(signer.sign(b"release"), b"release")
    return bool(signers)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_generated_key_is_a_pair_of_which_only_the_owner_reads_one(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        key = generate_key(tmp_path / "a.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
    assert public_key(str(tmp_path / "a.pub")) == public_key(str(tmp_path / "a.key")) == key
    assert signed(str(tmp_path / "a.key"), key)
    assert not signed(str(tmp_path / "a.key"), generate_key(tmp_path / "b.key"))


@pytest.mark.parametrize("existing", ["a.key", "a.pub"])
def test_no_key_is_overwritten_also_not_through_a_dangling_link(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TrustError, match=rf"{existing}: expected no such file yet"):
        generate_key(tmp_path / "a.key")
    assert [path.name for path in tmp_path.iterdir()] == [existing]


def test_keys_that_cannot_be_written_or_have_another_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrustError, match=r"file/a\.key: cannot be written"):
        generate_key(tmp_path / "file" / "a.key")
    with pytest.raises(TrustError, match=r"a\.pem: expected a file \*\.key"):
        generate_key(tmp_path / "a.pem")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
@pytest.mark.parametrize("scheme", ["", "file2:"])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int, scheme: str) -> None:
    """However its place is written: securesystemslib's own file scheme does not look."""
    key = generate_key(tmp_path / "a.key")
    (tmp_path / "a.key").chmod(mode)
    with pytest.raises(TrustError, match=f"only its owner can read .mode 0600., found mode {mode:04o}"):
        signed(f"{scheme}{tmp_path / 'a.key'}", key)
    (tmp_path / "a.key").chmod(0o600)
    assert signed(f"{scheme}{tmp_path / 'a.key'}", key)


def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = str(tmp_path / "a.key")
    key = generate_key(tmp_path / "a.key", "hush")
    monkeypatch.delenv(PASSPHRASE, raising=False)
    with pytest.raises(TrustError, match=f"expected it in {PASSPHRASE}, found none"):
        signed(place, key)
    monkeypatch.setenv(PASSPHRASE, "wrong")
    with pytest.raises(TrustError, match="and its passphrase") as refused:
        signed(place, key)
    assert "wrong" not in str(refused.value)
    monkeypatch.setenv(PASSPHRASE, "hush")
    assert signed(place, key) and b"ENCRYPTED" in (tmp_path / "a.key").read_bytes()


def test_a_key_in_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = generate_key(tmp_path / "a.key")
    assert not signed("env:PROMOTER", key)
    monkeypatch.setenv("PROMOTER", (tmp_path / "a.key").read_text())
    assert signed("env:PROMOTER", key) and public_key("env:PROMOTER") == key
    monkeypatch.setenv("PROMOTER", "nonsense-hush")
    with pytest.raises(TrustError, match="env:PROMOTER: expected an Ed25519, ECDSA or RSA key") as refused:
        signed("env:PROMOTER", key)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"x", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key(tmp_path: Path, content: bytes) -> None:
    place = written(tmp_path / "a.key", content)
    if not content:
        assert private_key(place) is None
        return
    with pytest.raises(TrustError, match=r"a\.key: expected an Ed25519, ECDSA or RSA key"):
        private_key(place)
    with pytest.raises(TrustError, match=r"a\.pub: expected a public key in PEM form"):
        public_key(written(tmp_path / "a.pub", content))


def test_a_folder_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match=r"expected a private key, but it cannot be read|found mode"):
        private_key(str(tmp_path))


def test_kinds_of_keys(tmp_path: Path) -> None:
    place = written(tmp_path / "ec.key", pem(ec.generate_private_key(ec.SECP256R1())))
    assert signed(place, public_key(place))
    place = written(tmp_path / "x.key", pem(X25519PrivateKey.generate()))
    with pytest.raises(TrustError, match="expected an Ed25519, ECDSA or RSA key"):
        private_key(place)


@pytest.mark.parametrize("place", ["awskm:alias/x", "vault:champion", "file:champion.key"])
def test_a_place_of_a_scheme_that_nobody_knows_is_told(place: str, tmp_path: Path) -> None:
    key = generate_key(tmp_path / "a.key")
    with pytest.raises(TrustError, match=f"{place}: expected a file, or a signer's URI of a scheme of env, file2, "):
        signed(place, key)


class Token(Signer):
    """An HSM that asks for its PIN."""

    def __init__(self, held: CryptoSigner) -> None:
        self._held = held

    @property
    def public_key(self) -> Key:
        return self._held.public_key

    @classmethod
    def from_priv_key_uri(cls, uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None) -> "Token":
        assert secrets_handler
        if secrets_handler("pin") != "1234":
            raise OSError("CKR_PIN_INCORRECT")
        return cls(HELD)

    def sign(self, payload: bytes) -> Signature:
        return self._held.sign(payload)


HELD = CryptoSigner.generate_ed25519()


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    schemes: Mapping[str, Any] = SIGNER_FOR_URI_SCHEME
    monkeypatch.setitem(schemes, "hsm", Token)  # type: ignore[arg-type]
    return "hsm:2?label=champion"


def test_a_token_is_asked_with_its_pin_and_says_by_a_signature_which_key_it_has(
    token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(PASSPHRASE, "1234")
    assert signed(token, HELD.public_key)
    assert not signed(token, generate_key(tmp_path / "a.key"))
    monkeypatch.setenv(PASSPHRASE, "0000")
    assert not signed(token, HELD.public_key)
    assert "cannot sign with key" in caplog.text and "0000" not in caplog.text
    with pytest.raises(TrustError, match=r"of a KMS or an HSM give the public half, a \*\.pub file"):
        public_key(token)


def test_a_signer_that_does_not_answer_is_a_missing_signature(tmp_path: Path, token: str) -> None:
    """What is published names the keys and the places that were asked."""
    fleet = Fleet(tmp_path / "fleet")
    bundle = fleet.register(b"first", "1")
    places = {**fleet.places, "champion": [token, "env:NOWHERE"]}
    with pytest.raises(TrustError, match=r"champion: expected 1 more .* \(places: hsm:2\?label=.*, env:NOWHERE\)"):
        fleet.promote(bundle, repository=fleet.repository(places=places))
