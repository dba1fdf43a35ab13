"""Keys: safe files, no overwriting, no reading of careless ones; whom a device trusts."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.keys import TrustedKeys, generate_keys, holds, read_private_key


def private(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_generated_keys_are_a_pair_and_only_the_owner_reads_the_private_one(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        identity = generate_keys(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    private_key = read_private_key(tmp_path / "key")
    ((public_id, public_key),) = TrustedKeys.load([tmp_path / "key.pub"]).keys.items()
    assert holds(public_key, private_key.sign(b"release"), b"release")
    assert not holds(public_key, private_key.sign(b"release"), b"Release")
    assert public_id == identity and len(identity) == 64


@pytest.mark.parametrize("existing", ["key", "key.pub"])
def test_no_key_is_overwritten(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("precious")
    with pytest.raises(BundleError, match=rf"{existing}: expected no such file yet"):
        generate_keys(tmp_path / "key")
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "precious"


def test_a_dangling_link_is_no_place_for_a_key(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="expected no such file yet"):
        generate_keys(tmp_path / "key")
    assert not (tmp_path / "elsewhere").exists()


def test_keys_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be written"):
        generate_keys(tmp_path / "missing" / "key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601, 0o777])
def test_a_private_key_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    generate_keys(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(BundleError, match=rf"key: expected a private key that only its owner .* found mode {mode:04o}"):
        read_private_key(tmp_path / "key")


def test_what_is_no_private_key_is_refused(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content, expected in [
        (b"", "expected an unencrypted Ed25519 private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "expected an unencrypted Ed25519"),
        (locked, "expected an unencrypted Ed25519 private key"),
        (curve, "expected an Ed25519 private key, found one of another kind"),
    ]:
        with pytest.raises(BundleError, match=expected):
            read_private_key(private(tmp_path / "odd", content))
    with pytest.raises(BundleError, match="missing: expected a private key, but it cannot be read"):
        read_private_key(tmp_path / "missing")
    with pytest.raises(BundleError, match="cannot be read"):
        read_private_key(tmp_path)


def test_what_is_no_public_key_is_refused(tmp_path: Path) -> None:
    generate_keys(tmp_path / "key")
    with pytest.raises(BundleError, match="found a private one, which belongs on no device"):
        TrustedKeys.load([tmp_path / "key"])
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "ec.pub").write_bytes(curve.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(BundleError, match="found one of another kind"):
        TrustedKeys.load([tmp_path / "ec.pub"])
    (tmp_path / "notes.pub").write_text("remember the milk")
    with pytest.raises(BundleError, match=r"notes\.pub: expected an Ed25519 public key in PEM form"):
        TrustedKeys.load([tmp_path / "notes.pub"])


def test_a_folder_of_trusted_keys(tmp_path: Path) -> None:
    identities = {generate_keys(tmp_path / name) for name in ("a", "b")}
    trusted = TrustedKeys.load([tmp_path])
    assert set(trusted.keys) == identities and not trusted.revoked
    only = TrustedKeys.load([tmp_path / "a.pub", tmp_path / "a.pub"])
    assert len(only.keys) == 1


def test_trusting_nobody_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected at least one trusted public key"):
        TrustedKeys.load([tmp_path])
    with pytest.raises(BundleError, match="cannot be read"):
        TrustedKeys.load([tmp_path / "missing.pub"])


def test_the_list_of_revoked_keys(tmp_path: Path) -> None:
    identity = generate_keys(tmp_path / "a")
    revoked = tmp_path / "revoked.txt"
    revoked.write_text(f"# lost with the laptop in May\n\n{identity}  # alice\n")
    assert TrustedKeys.load([tmp_path], revoked).revoked == {identity}
    for broken in (identity[:-1], identity.upper(), "alice", f"{identity} {identity}"):
        revoked.write_text(f"{identity}\n{broken}\n")
        with pytest.raises(BundleError, match="expected key ids of 64 hexadecimal digits"):
            TrustedKeys.load([tmp_path], revoked)
    with pytest.raises(BundleError, match=r"missing.txt: expected a list of revoked key ids"):
        TrustedKeys.load([tmp_path], tmp_path / "missing.txt")


def test_openssl_tells_the_same_key_id(tmp_path: Path) -> None:
    identity = generate_keys(tmp_path / "a")
    command = "openssl pkey -pubin -in a.pub -outform DER | sha256sum"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == identity
