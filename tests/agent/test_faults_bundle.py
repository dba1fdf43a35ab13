"""Bundles that must not get onto a device, and good ones that do not fit it."""

import random
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from mobile_centernet.bundle.bundle import sign_bundle, write_bundle
from mobile_centernet.bundle.keys import TrustedKeys, key_id, read_private_key
from mobile_centernet.bundle.manifest import MANIFEST, Manifest, PinnedFile
from mobile_centernet.bundle.tar import END, pack
from tests.helpers.lab import Lab
from tests.helpers.offers import Bundle
from tests.helpers.outcomes import Releases, offered, recovers, refused, unpacked

Build = Callable[..., Manifest]


def test_a_bundle_without_a_signature(device: Lab, releases: Releases, build: Build, tmp_path: Path) -> None:
    build(tmp_path / "plain.tar", release=13)
    offered(device, tmp_path / "plain.tar")
    refused(device, releases, "expected a signature by a trusted key, found none at all")


def test_a_strangers_signature_until_the_stranger_is_trusted(
    device: Lab, releases: Releases, build: Build, material: Path, tmp_path: Path
) -> None:
    build(tmp_path / "other.tar", release=13, latency_ms={"default": 10_000.0})
    sign_bundle(tmp_path / "other.tar", read_private_key(material / "stranger"))
    offered(device, tmp_path / "other.tar")
    refused(device, releases, "expected a signature by a trusted key, found only")
    device.configure(paths={"trusted": [str(device.trusted), str(material / "stranger.pub")]})
    with device.application():
        device.polled()
    assert device.store.pointed() == Bundle(tmp_path / "other.tar", "13", 13).digest


def test_a_revoked_signature(device: Lab, releases: Releases, material: Path, tmp_path: Path) -> None:
    (tmp_path / "revoked.txt").write_text(*TrustedKeys.load([material / "first.pub"]).keys)
    agent = device.agent()
    agent.start()
    device.configure(paths={"revoked": str(tmp_path / "revoked.txt")})
    agent.config = device.agent().config
    agent._installer._config = agent.config
    agent.poll()
    assert agent.problem and "found only revoked" in agent.problem
    assert device.store.pointed() == releases[12].digest


def test_when_the_key_of_all_releases_is_revoked_nothing_runs(
    device: Lab, releases: Releases, material: Path, tmp_path: Path
) -> None:
    """What a thief may have signed does not run; a release signed by another key does."""
    (tmp_path / "revoked.txt").write_text(*TrustedKeys.load([material / "first.pub"]).keys)
    trusted = [str(material / "first.pub"), str(material / "second.pub")]
    device.configure(paths={"revoked": str(tmp_path / "revoked.txt"), "trusted": trusted})
    device.agent().start()
    assert device.store.pointed() is None
    path = tmp_path / "again.tar"
    path.write_bytes(releases[13].content)
    sign_bundle(path, read_private_key(material / "second"))
    offered(device, path)
    with device.application():
        device.polled()
    assert device.store.pointed() == Bundle(path, "13", 13).digest


def test_the_replay_of_an_older_release(device: Lab, releases: Releases) -> None:
    recovers(device, releases)
    device.offer(releases[12])
    with device.application():
        agent = device.polled()
    assert device.running() == releases[13].digest
    assert agent.problem == "bundle: expected a release after 13, found 12"


def test_an_older_release_is_refused_also_when_nothing_is_left_of_the_newer(
    device: Lab, releases: Releases, build: Build, material: Path, tmp_path: Path
) -> None:
    recovers(device, releases)
    shutil.rmtree(device.store.releases)
    device.offer(releases[12])
    with device.application():
        agent = device.polled()
    assert device.running() is None and agent.problem and "expected a release after 13, found 12" in agent.problem
    device.offer(releases[13])
    recovers(device, releases)


def test_another_release_of_the_same_number(
    device: Lab, releases: Releases, build: Build, material: Path, tmp_path: Path
) -> None:
    build(tmp_path / "twin.tar", release=12, latency_ms={"default": 9_999.0})
    sign_bundle(tmp_path / "twin.tar", read_private_key(material / "first"))
    offered(device, tmp_path / "twin.tar", 12)
    refused(device, releases, "expected a release after 12, found 12")


def test_the_same_release_with_one_more_signature_is_taken(
    device: Lab, releases: Releases, material: Path, tmp_path: Path
) -> None:
    path = tmp_path / "again.tar"
    path.write_bytes(releases[12].content)
    sign_bundle(path, read_private_key(material / "second"))
    offered(device, path, 12)
    with device.application():
        agent = device.polled()
    assert agent.problem is None and device.store.pointed() == Bundle(path, "12", 12).digest


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "night-street"}, "expected a release of street, found one of night-street"),
        ({"latency_ms": {"default": 1e-6}}, "latency: expected at most 1e-06 ms a picture on profile kiosk, found "),
        ({"latency_ms": {"default": 1e6, "kiosk": 1e-6}}, "latency: expected at most 1e-06 ms"),
    ],
)
def test_a_good_bundle_that_does_not_fit(
    device: Lab,
    releases: Releases,
    build: Build,
    material: Path,
    tmp_path: Path,
    changes: dict[str, object],
    sentence: str,
) -> None:
    build(tmp_path / "odd.tar", release=13, **changes)
    sign_bundle(tmp_path / "odd.tar", read_private_key(material / "first"))
    offered(device, tmp_path / "odd.tar")
    refused(device, releases, sentence)


def test_a_precision_that_is_not_in_the_bundle(device: Lab, releases: Releases) -> None:
    device.configure(device={"precision": "fp16"})
    refused(device, releases, "expected a variant fp16, found fp32")


def test_golden_detections_that_another_model_made(
    device: Lab, releases: Releases, material: Path, tmp_path: Path
) -> None:
    """Signed and whole, and still not what this device finds: the self-test says so."""
    files = unpacked(releases[13])
    manifest = Manifest.from_json(files[MANIFEST])
    files["golden/fp32.json"] = unpacked(releases[14])["golden/fp32.json"]
    inside = {name: files[name] for name in manifest.files}
    pinned = {name: PinnedFile(sha256(content).hexdigest(), len(content)) for name, content in inside.items()}
    write_bundle(tmp_path / "odd.tar", replace(manifest, files=pinned), pack(sorted(inside.items())) + END)
    sign_bundle(tmp_path / "odd.tar", read_private_key(material / "first"))
    offered(device, tmp_path / "odd.tar")
    refused(device, releases, "fp32: golden/000.png: expected a detection of class")


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", "golden/../../x", ".hidden"])
def test_a_signed_manifest_that_names_a_place_outside(
    device: Lab, releases: Releases, material: Path, tmp_path: Path, name: str
) -> None:
    """Even the signer cannot write outside a release's folder."""
    files = unpacked(releases[13])
    text = files[MANIFEST].decode().replace("MODEL_CARD.md", name).encode()
    key = read_private_key(material / "first")
    identity = key_id(key.public_key())
    signatures = [(f"signatures/{identity}.pem", (material / "first.pub").read_bytes())]
    signatures.append((f"signatures/{identity}.sig", key.sign(text)))
    rest = sorted((member, content) for member, content in files.items() if not member.startswith(("man", "sig")))
    (tmp_path / "odd.tar").write_bytes(pack([(MANIFEST, text), *signatures, *rest]) + END)
    offered(device, tmp_path / "odd.tar")
    before = {path for path in device.folder.rglob("*") if device.root not in path.parents}
    refused(device, releases, "manifest.json: files: expected plain relative names")
    assert before == {path for path in device.folder.rglob("*") if device.root not in path.parents}


def test_a_link_in_the_bundle(device: Lab, releases: Releases, tmp_path: Path) -> None:
    content = releases[13].content
    header = content.rindex(b"model.fp32.onnx\0")
    link = tarfile.TarInfo("model.fp32.onnx")
    link.type, link.linkname = tarfile.SYMTYPE, "../../../etc/passwd"
    (tmp_path / "odd.tar").write_bytes(content[:header] + link.tobuf(tarfile.USTAR_FORMAT) + END)
    offered(device, tmp_path / "odd.tar")
    refused(device, releases, "found a symbolic link to '../../../etc/passwd'")


def test_flipped_bytes_that_the_registry_vouches_for(device: Lab, releases: Releases, tmp_path: Path) -> None:
    """Somebody who can write to the registry offers changed bundles under their own, right, SHA-256."""
    rng = random.Random(5)
    content = releases[13].content
    agent = device.agent()
    agent.start()
    for _ in range(60):
        place = rng.randrange(len(content))
        (tmp_path / "odd.tar").write_bytes(
            content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
        )
        offered(device, tmp_path / "odd.tar")
        agent.poll()
        assert agent.problem and device.store.pointed() == releases[12].digest
    assert len(device.saved.refused) == 32, "the oldest are forgotten"
    device.offer(releases[13])
    recovers(device, releases)
