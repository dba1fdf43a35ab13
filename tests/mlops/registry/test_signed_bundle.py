"""The signed bundle of a version: attached by register, asked for by promotion, renewed by a rollback."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from mobile_centernet.bundle.build import build_bundle
from mobile_centernet.bundle.bundle import inspect_bundle, sign_bundle, verify_bundle
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.keys import TrustedKeys, generate_keys, read_private_key, to_pem
from mobile_centernet.bundle.protocol import DeviceReport
from mobile_centernet.files import file_digest
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params, load_params
from mobile_centernet.mlops.promotion.promote import DECISION, DONE, REJECTED, promote, rollback
from mobile_centernet.mlops.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, RegistryError
from mobile_centernet.mlops.registry.signed_bundle import KEY_VARIABLE, download, sign_again
from mobile_centernet.trust.layout import CANARY
from steps.register import register
from tests.helpers import registry_project as small

pytestmark = pytest.mark.usefixtures("registry_project")
NO_FLOOR = {"min_ap50": {"default": 0.0}}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "stranger"):
        generate_keys(folder / name)
    return folder


@pytest.fixture
def signing(keys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(KEY_VARIABLE, str(keys / "ours"))
    return keys


def params_of(name: str, keys: Path, **promotion: Any) -> Params:
    signed = {"require_signed": True, "trusted_keys": [str(keys / "ours.pub")]}
    return small.write_params(name, **NO_FLOOR | signed | promotion)


def registered(name: str, keys: Path, *students: tuple[tuple[float, ...], ...], **promotion: Any) -> Params:
    params = params_of(name, keys, **promotion)
    for number, boxes in enumerate(students, start=1):
        small.export_model(boxes, f"{name} {number}")
        register(params)
    return params


def failed() -> list[str]:
    found: list[str] = json.loads(DECISION.read_text())["failed"]
    return found


def why() -> str:
    checks = json.loads(DECISION.read_text())["checks"]
    (said,) = [str(check["value"]) for check in checks if check["name"] == "signed bundle"]
    return said


def test_register_attaches_a_bundle_of_the_exported_files_once(signing: Path, tmp_path: Path) -> None:
    params = registered("attached", signing, small.GOOD, small.HALF)
    register(params)
    registry = Registry("attached")
    first, second = registry.versions()
    path = download(registry, second, tmp_path)
    manifest = verify_bundle(path, TrustedKeys.load([signing / "ours.pub"]))
    assert (manifest.name, manifest.version, manifest.release) == ("attached", "2", 2)
    assert manifest.files["model.fp32.onnx"].sha256 == second.tags["onnx_sha256"]
    assert len(manifest.pictures) == 4 and manifest.lineage["export_sha256"] == second.tags["export_sha256"]
    assert second.tags["bundle_sha256"] == file_digest(path)
    assert int(second.tags["bundle_bytes"]) == path.stat().st_size
    assert (second.tags["bundle_path"], second.tags["bundle_release"]) == ("bundle/attached-2.tar", "2")
    assert first.tags["bundle_release"] == "1"


def test_a_version_registered_without_a_key_gets_its_bundle_later(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = registered("later", keys, small.GOOD)
    registry = Registry("later")
    assert not any(key.startswith("bundle") for key in registry.version(1).tags)
    assert promote(params).code == REJECTED
    assert failed() == ["signed bundle"] and "expected a signed bundle, found none attached" in why()
    monkeypatch.setenv(KEY_VARIABLE, str(keys / "ours"))
    register(params)
    assert len(registry.versions()) == 1
    assert promote(params).code == DONE


def test_a_key_that_others_can_read_signs_nothing(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open").write_bytes((keys / "ours").read_bytes())
    (tmp_path / "open").chmod(0o644)
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "open"))
    with pytest.raises(BundleError, match="only its owner can read"):
        registered("open key", keys, small.GOOD)
    assert not paths.REGISTRATION.exists()


def replace_bundle(registry: Registry, number: int, path: Path) -> None:
    """As who has the registry's password could: another file, and tags that fit it."""
    registry.attach(registry.version(number), path.parent, "bundle")
    digest = {"bundle_sha256": file_digest(path), "bundle_bytes": str(path.stat().st_size)}
    registry.tag(number, **digest, bundle_path=f"bundle/{path.name}", bundle_release="9")


def forged(name: str, keys: Path, folder: Path, *, key: str = "ours", version: str = "2", **changes: Any) -> Path:
    """A bundle that somebody built from the files in data/export."""
    folder.mkdir()
    path = folder / f"{name}-9.tar"
    picture = folder.parent / "picture.png"
    if not picture.exists():
        Image.new("RGB", (64, 64)).save(picture)
    build_bundle(
        path,
        [changes.pop("model", paths.ONNX_FP32)],
        **{"name": name, "version": version, "release": 9, "pictures": [picture]} | changes,
        thresholds={"default": 0.3},
        latency_ms={"default": 100},
    )
    sign_bundle(path, read_private_key(keys / key))
    return path


def test_promotion_refuses_what_is_not_signed_or_is_not_this_version_s(signing: Path, tmp_path: Path) -> None:
    name = "refused"
    params = registered(name, signing, small.HALF, small.GOOD)
    registry = Registry(name)
    registry.set_alias(CHAMPION, 1)

    def refused(path: Path, sentence: str) -> None:
        replace_bundle(registry, 2, path)
        assert promote(params).code == REJECTED
        assert failed() == ["signed bundle"] and sentence in why()
        assert registry.aliases()[CHAMPION] == 1

    refused(forged(name, signing, tmp_path / "a", key="stranger"), "expected a signature by a trusted key")
    refused(forged(name, signing, tmp_path / "b", version="1"), f"expected the bundle of {name} version 2")
    refused(forged("another", signing, tmp_path / "c"), f"expected the bundle of {name} version 2")
    small.write_model(tmp_path / "model.fp32.onnx", small.BLIND, "not the one that was scored")
    other = forged(name, signing, tmp_path / "d", model=tmp_path / "model.fp32.onnx")
    refused(other, "another model.fp32.onnx than the registered one")
    good = forged(name, signing, tmp_path / "e")
    content = bytearray(good.read_bytes())
    content[len(content) // 2] ^= 1
    good.write_bytes(content)
    refused(good, "expected SHA-256")
    registry.tag(2, bundle_sha256="0" * 64)
    assert promote(params).code == REJECTED and "expected the bundle of SHA-256 000" in why()
    registry.tag(2, bundle_path="../../secrets")
    assert promote(params).code == REJECTED and "failed" in why()
    refused(forged(name, signing, tmp_path / "f", release=1), "release 1")  # the champion's

    revoked = tmp_path / "revoked"
    good = forged(name, signing, tmp_path / "g")
    revoked.write_text(inspect_bundle(good)[1][0])
    replace_bundle(registry, 2, good)
    assert promote(params_of(name, signing, revoked_keys=str(revoked))).code == REJECTED
    assert "found only revoked" in why()
    assert promote(params_of(name, signing)).code == DONE


def test_a_rollback_gives_the_old_version_a_new_release(
    signing: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    params = registered("renewed", signing, small.HALF)
    assert promote(params).code == DONE
    small.export_model(small.GOOD, "renewed 2")
    register(params)
    assert promote(params).code == DONE
    registry = Registry("renewed")

    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(RegistryError, match=r"devices run release 2 and refuse version 1, release 1: a rollback needs"):
        rollback(params, "Ann")
    assert registry.aliases()[CHAMPION] == 2 and "withdrawn" not in registry.version(2).tags

    monkeypatch.setenv(KEY_VARIABLE, str(signing / "ours"))
    assert rollback(params, "Ann").code == DONE
    version = registry.version(1)
    assert registry.aliases() == {CHALLENGER: 2, CHAMPION: 1, PREVIOUS: 1}
    manifest = verify_bundle(download(registry, version, tmp_path), TrustedKeys.load([signing / "ours.pub"]))
    assert (manifest.version, manifest.release, version.tags["bundle_release"]) == ("1", 3, "3")
    assert manifest.files["model.fp32.onnx"].sha256 == version.tags["onnx_sha256"]


def test_a_bundle_that_was_exchanged_in_the_registry_is_never_signed_again(signing: Path, tmp_path: Path) -> None:
    params = registered("exchanged", signing, small.HALF, small.GOOD)
    registry = Registry("exchanged")
    small.write_model(paths.ONNX_FP32, small.BLIND, "an attacker's")
    replace_bundle(registry, 1, forged("exchanged", signing, tmp_path / "a", key="stranger", version="1"))
    registry.set_alias(PREVIOUS, 1)
    registry.set_alias(CHAMPION, 2)
    registry.tag(1, bundle_release="1")
    with pytest.raises(BundleError, match="expected a signature by a trusted key"):
        rollback(params, "Ann")
    assert registry.aliases()[CHAMPION] == 2 and "withdrawn" not in registry.version(2).tags


@pytest.mark.parametrize("kill_at", [1, 2, 3])  # after the upload; after the old digest is gone; after the new tags
def test_a_release_killed_at_any_point_is_completed_by_a_second_run(kill_at: int, signing: Path) -> None:
    name = f"release-{kill_at}"
    params = registered(name, signing, small.HALF)
    assert small.ended(small.start(small.release_and_die, kill_at, str(signing / "ours"))) == -9
    registry = Registry(name)
    if kill_at == 2:
        assert "bundle_sha256" not in registry.version(1).tags  # devices stay on what they run
        register(params)
    else:
        sign_again(registry, registry.version(1), params, signing / "ours")
    assert promote(params).code == DONE


# --- devices that tried it ------------------------------------------------------------------------------------------


KEYS = {device: Ed25519PrivateKey.generate() for device in "abce"}


def report(
    device: str, digest: str, state: str = "healthy", channel: str = CANARY, key: Ed25519PrivateKey | None = None
) -> dict[str, str]:
    found = DeviceReport(device, channel, digest, "orin", 1, state, "", "2026-11-26T01:00:00Z")
    return {found.key: found.to_json(key or KEYS[device])}


def test_promotion_waits_for_healthy_canaries(signing: Path, tmp_path: Path) -> None:
    for device, key in KEYS.items():
        (tmp_path / f"{device}.pub").write_bytes(to_pem(key.public_key()))
    canaries = {"healthy": 2, "most_against": 0, "devices": str(tmp_path)}
    params = registered("canaries", signing, small.GOOD, canaries=canaries)
    registry = Registry("canaries")
    digest = registry.version(1).tags["bundle_sha256"]
    for tags, said in (
        ({}, "0 healthy"),
        (report("a", digest), "1 healthy"),
        (report("b", "0" * 64), "1 healthy"),  # about an earlier bundle
        (report("c", digest, channel=CHAMPION), "1 healthy"),  # no canary
        (report("d", digest, key=KEYS["a"]), "1 healthy, edge.health.d unreadable"),  # never enrolled
        (report("b", digest, "reverted"), "1 healthy, b reverted, edge.health.d unreadable"),
        (report("e", digest), "2 healthy, b reverted, edge.health.d unreadable"),
    ):
        registry.tag(1, **tags)
        assert promote(params).code == REJECTED
        checks = json.loads(DECISION.read_text())["checks"]
        assert [check["value"] for check in checks if not check["passed"]] == [said]
        assert failed() == ["canary devices"]
    registry.tag(1, **report("b", digest))
    assert promote(load_params(paths.PARAMS)).code == DONE
