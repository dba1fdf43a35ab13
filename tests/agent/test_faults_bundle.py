"""Bundles that must not get onto a device, and good ones that do not fit it."""

import random
import tarfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from mobile_centernet.bundle.bundle import extract, write_bundle
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.manifest import MANIFEST, Manifest, PinnedFile
from mobile_centernet.bundle.tar import END, pack
from mobile_centernet.trust.ceremony import change_key
from mobile_centernet.trust.keys import public_key
from mobile_centernet.trust.layout import BUNDLES as BUNDLES_ROLE
from mobile_centernet.trust.layout import CHAMPION
from tests.helpers.file_server import status
from tests.helpers.lab import Lab
from tests.helpers.offers import BUNDLES
from tests.helpers.outcomes import Releases, offered, recovers, refused, unpacked
from tests.helpers.trust import MODEL, Fleet

Build = Callable[..., Manifest]


def test_what_is_signed_once_more_is_no_other_release(device: Lab, releases: Releases) -> None:
    """Whoever signs it how often, also in a new statement, a release is its manifest: no trial, no swap."""
    device.install(releases[13])
    previous = device.saved.previous
    for number in range(4):
        repository = device.fleet.repository()
        state = repository.state()
        if number % 2:
            bundle = repository.bundle(state, MODEL, "13")
            assert bundle
            device.fleet.promote(bundle)
        else:
            metadata = repository.successor(state, CHAMPION)
            repository.keys.sign(CHAMPION, metadata, state.targets)
            repository.commit(state, {CHAMPION: metadata}, {})
        device.serve()
        with device.application():
            agent = device.polled()
        assert agent.problem is None and agent._events["swapping: done"] == 0
    assert device.running() == releases[13].digest and device.saved.previous == previous
    assert device.saved.number == 5


def test_a_bundle_of_another_manifest_than_the_statements(device: Lab, releases: Releases) -> None:
    device.fleet.publish(releases[13].content, "90", manifest=releases[14].digest)
    device.serve()
    refused(device, releases, f"expected the manifest {releases[14].digest}, found {releases[13].digest}")


def test_a_bundle_of_another_version_than_the_statements(device: Lab, releases: Releases) -> None:
    offered(device, releases[13].path, "99")
    refused(device, releases, "bundle: expected version 99, found 13")


def test_a_bundle_that_is_named_and_not_listed(device: Lab, releases: Releases) -> None:
    """As after the key of `bundles` was revoked: it is not taken; what runs goes on, and says so."""
    running = device.offer(releases[12])
    agent = device.polled()
    assert agent.problem is None
    unlist(device.fleet)
    device.serve()
    agent.poll()
    assert agent.problem == f"{running.bundle}: expected a bundle that `bundles` lists, found none"
    assert device.running() == releases[12].digest and agent.failures == 0
    device.fleet.repository().publish_bundle(releases[12].content, MODEL, "12", releases[12].digest)
    device.serve()
    agent.poll()
    assert agent.problem is None


def unlist(fleet: Fleet) -> None:
    """The key of `bundles` is revoked, and what it listed is believed no more."""
    repository = fleet.repository()
    (old,) = repository.state().targets.get_delegated_role(BUNDLES_ROLE).keyids
    fleet.places[BUNDLES_ROLE] = [*fleet.places[BUNDLES_ROLE], fleet.key("bundles-2")]
    repository = fleet.repository()
    change_key(repository, BUNDLES_ROLE, [old], [public_key(fleet.places[BUNDLES_ROLE][-1])], revoke=True)
    state = repository.state()
    bundles = repository.successor(state, BUNDLES_ROLE)
    bundles.signed.targets.clear()
    repository.keys.sign(BUNDLES_ROLE, bundles, state.targets)
    repository.commit(state, {BUNDLES_ROLE: bundles}, {})


@pytest.mark.parametrize("has_another", [True, False])
def test_a_release_that_is_withdrawn_runs_no_longer(device: Lab, releases: Releases, has_another: bool) -> None:
    """The one before takes over at once, though the next is not proven yet; without one there is none."""
    if has_another:
        device.install(releases[13])
    running = releases[13 if has_another else 12]
    device.offer(releases[14], withdrawn=(running.digest,))
    device.server.faulty = BUNDLES
    device.server.faults.append(status(500))
    with device.application():
        agent = device.polled()
        assert device.running() == (releases[12].digest if has_another else None)
        assert agent.problem and "status 500" in agent.problem
        agent.poll()
        if not has_another:
            agent.poll()
    assert device.running() == releases[14].digest, agent.problem


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "night-street"}, "expected a release of street, found night-street"),
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
    build(tmp_path / "odd.tar", version="90", **changes)
    offered(device, tmp_path / "odd.tar", "90")
    refused(device, releases, sentence)


def test_a_precision_that_is_not_in_the_bundle(device: Lab, releases: Releases) -> None:
    device.configure(device={"precision": "fp16"})
    refused(device, releases, "expected a variant fp16, found fp32")


def test_golden_detections_that_another_model_made(
    device: Lab, releases: Releases, material: Path, tmp_path: Path
) -> None:
    """Whole, and still not what this device finds: the self-test says so."""
    files = unpacked(releases[13])
    manifest = Manifest.from_json(files[MANIFEST])
    files["golden/fp32.json"] = unpacked(releases[14])["golden/fp32.json"]
    inside = {name: files[name] for name in manifest.files}
    pinned = {name: PinnedFile(sha256(content).hexdigest(), len(content)) for name, content in inside.items()}
    odd = replace(manifest, files=pinned, version="90")
    write_bundle(tmp_path / "odd.tar", odd, inside)
    offered(device, tmp_path / "odd.tar", "90")
    refused(device, releases, "fp32: golden/000.png: expected a detection of class")


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", "golden/../../x", ".hidden"])
def test_a_manifest_that_names_a_place_outside(device: Lab, releases: Releases, tmp_path: Path, name: str) -> None:
    """Even the signers cannot write outside a release's folder."""
    files = unpacked(releases[13])
    text = files.pop(MANIFEST).decode().replace("MODEL_CARD.md", name).encode()
    content = pack([(MANIFEST, text), *sorted(files.items())]) + END
    device.fleet.publish(content, "90", manifest=sha256(text).hexdigest())
    device.serve()
    before = {path for path in device.folder.rglob("*") if device.root not in path.parents}
    refused(device, releases, "manifest.json: files: expected plain relative names")
    assert before == {path for path in device.folder.rglob("*") if device.root not in path.parents}


def test_a_link_in_the_bundle(device: Lab, releases: Releases) -> None:
    content = releases[13].content
    header = content.rindex(b"model.fp32.onnx\0")
    link = tarfile.TarInfo("model.fp32.onnx")
    link.type, link.linkname = tarfile.SYMTYPE, "../../../etc/passwd"
    content = content[:header] + link.tobuf(tarfile.USTAR_FORMAT) + END
    device.fleet.publish(content, "90", manifest=releases[13].digest)
    device.serve()
    refused(device, releases, "found a symbolic link to '../../../etc/passwd'")


def test_flipped_bytes_that_every_key_vouches_for(device: Lab, releases: Releases) -> None:
    """What `bundles` lists and the channel names is still one possible tar of its manifest, or nothing."""
    _flipped(device, releases, seed=5, times=8)


@pytest.mark.slow
def test_a_thousand_flipped_bytes_that_a_disk_or_a_server_vouches_for(device: Lab, releases: Releases) -> None:
    content, rng = releases[13].content, random.Random(6)
    partial, folder = device.folder / "flipped.tar", device.folder / releases[13].digest
    for _ in range(1000):
        partial.write_bytes(flip(content, rng))
        with pytest.raises(BundleError):
            extract(partial, folder, releases[13].digest)
        assert not folder.exists()


def flip(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def _flipped(device: Lab, releases: Releases, seed: int, times: int) -> None:
    rng = random.Random(seed)
    agent = device.agent()
    agent.start()
    with device.application():
        for number in range(times):
            device.fleet.publish(flip(releases[13].content, rng), f"90.{number}", manifest=releases[13].digest)
            device.serve()
            agent.forget_refusals()
            agent.poll()
            assert agent.problem and device.store.pointed() == releases[12].digest
    device.offer(releases[13])
    agent.forget_refusals()
    recovers(device, releases)
