"""Promotion with a trust repository: what is signed decides, and a registry that lies changes nothing on any device."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from mlflow import MlflowClient
from securesystemslib.signer import CryptoSigner

from mobile_centernet.files import file_digest
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.cli import registry as commands
from mobile_centernet.mlops.params import Params, load_params
from mobile_centernet.mlops.promotion.promote import DECISION, DONE, REJECTED, STAGED, promote, rollback
from mobile_centernet.mlops.registry.published import Channel, trust_repository
from mobile_centernet.mlops.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, RegistryError
from mobile_centernet.mlops.registry.uri import fetch
from mobile_centernet.trust.ceremony import Staged
from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.layout import CANARY
from mobile_centernet.trust.reports import PREFIX, DeviceReport
from mobile_centernet.trust.statement import Statement
from steps.register import register
from tests.helpers import registry_project as small
from tests.helpers.trust import Client, Fleet

NO_FLOOR = {"min_ap50": {"default": 0.0}}
UNATTENDED = ("bundles", "canary", "snapshot", "timestamp")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    Fleet(folder)
    return folder


@pytest.fixture
def fleet(made: Path, tmp_path: Path, registry_project: Path) -> Iterator[Fleet]:
    """The project, with an empty repository."""
    yield Fleet.copy(made, tmp_path / "fleet")


def params_of(fleet: Fleet, name: str, *roles: str, **promotion: Any) -> Params:
    """The pipeline's settings on a machine that has the keys of these roles (none named: all)."""
    keys = {role: places if role in roles or not roles else [] for role, places in fleet.places.items()}
    trust = {"repository": str(fleet.served), "root": str(fleet.root_file), "keys": keys}
    return small.write_params(name, trust, **NO_FLOOR | promotion)


def registered(fleet: Fleet, name: str, *students: tuple[tuple[float, ...], ...], **promotion: Any) -> Params:
    params = params_of(fleet, name, **promotion)
    for number, boxes in enumerate(students, start=1):
        small.export_model(boxes, f"{name} {number}")
        register(params)
    return params


def runs(fleet: Fleet, channel: str = "champion") -> Statement | None:
    """What every device of a channel runs."""
    statement = Client(fleet, "cached").statement(channel)
    assert statement == Client(fleet, f"fresh-{len(list((fleet.folder / 'devices').iterdir()))}").statement(channel)
    return statement


def version_of(statement: Statement | None) -> str | None:
    return statement and statement.version


def failed() -> list[str]:
    found: list[str] = json.loads(DECISION.read_text())["failed"]
    return found


def test_registered_promoted_rolled_back(fleet: Fleet) -> None:
    params = registered(fleet, "story", small.HALF)
    assert runs(fleet) is None  # listed is not promoted
    assert promote(params).code == DONE
    first = runs(fleet)
    assert first is not None
    assert (first.model, first.version, first.number, first.gate) == ("story", "1", 1, file_digest(DECISION))

    small.export_model(small.GOOD, "story 2")
    register(params)
    register(params)  # changes nothing
    assert promote(params, approved_by="Ann", share=0.25).code == DONE
    second = runs(fleet)
    assert second is not None
    assert (second.version, second.number, second.approver, second.share) == ("2", 2, "Ann", 0.25)
    registry = Registry("story")
    assert registry.aliases() == {CHALLENGER: 2, CHAMPION: 2, PREVIOUS: 1}
    assert promote(params).message.endswith("is the champion already")
    assert runs(fleet) == second
    assert promote(params, share=1.0).code == DONE
    wider = runs(fleet)
    assert wider is not None and (wider.manifest, wider.share, wider.number) == (second.manifest, 1.0, 3)

    assert rollback(params, "Bob").message == "story: version 1 is the champion again, 2 is withdrawn"
    back = runs(fleet)
    assert back is not None
    assert (back.version, back.number, back.withdrawn, back.approver) == ("1", 4, (second.manifest,), "Bob")
    assert (back.bundle, back.manifest) == (first.bundle, first.manifest)
    assert registry.aliases()[CHAMPION] == 1
    with pytest.raises(TrustError, match="expected an earlier release in the signed history, found none"):
        rollback(params, "Bob")
    assert promote(params).code == REJECTED and failed() == ["not withdrawn"]
    assert promote(params, approved_by="Bob").code == DONE
    again = runs(fleet)
    assert again is not None and (again.version, again.withdrawn) == ("2", ())


def test_another_threshold_for_the_champion_s_files_reaches_devices_as_a_version_of_its_own(fleet: Fleet) -> None:
    """The same export: equal scores, so that it is promoted, and a rollback brings the old threshold back."""
    small.export_model(small.GOOD, "threshold")
    for least in (0.3, 0.6):
        params = params_of(fleet, "threshold", bundle={"thresholds": {"default": 0.2, "vehicle": least}})
        register(params)
        assert promote(params).code == DONE
    repository = trust_repository(params)
    assert repository is not None
    channel = Channel.read(repository, "threshold", CHAMPION)
    first, second = channel.release(1), channel.release(2)
    assert first is not None and second is not None and version_of(runs(fleet)) == "2"
    assert (first[1].thresholds["vehicle"], second[1].thresholds) == (0.3, {"vehicle": 0.6, "pedestrian": 0.2})
    assert first[1].files["model.fp32.onnx"] == second[1].files["model.fp32.onnx"]
    assert json.loads(DECISION.read_text())["facts"]["same_weights"] is True
    assert rollback(params, "Ann").code == DONE and version_of(runs(fleet)) == "1"


def test_lineage_comes_from_the_checkout_and_never_from_tags(fleet: Fleet) -> None:
    small.export_model(small.GOOD, "lineage 1")
    register(small.write_params("lineage", **NO_FLOOR))  # unsigned still
    registry = Registry("lineage")
    honest = dict(registry.version(1).tags)
    registry.tag(1, map50="0.999", git_commit="0" * 40, measured_on="ivslab test, real", manifest_sha256="1" * 64)
    params = params_of(fleet, "lineage")
    register(params)
    repository = trust_repository(params)
    assert repository is not None
    found = Channel.read(repository, "lineage", CHAMPION).release(1)
    assert found is not None
    lineage = found[1].lineage
    assert (lineage["map50"], lineage["git_commit"]) == (honest["map50"], honest["git_commit"])
    assert lineage["measured_on"] == honest["measured_on"] and "manifest_sha256" not in lineage


# --- a registry that lies -------------------------------------------------------------------------------------------


def test_an_alias_moved_to_a_rejected_version_changes_nothing_and_is_not_laundered(fleet: Fleet) -> None:
    params = registered(fleet, "moved", small.GOOD)
    promote(params)
    small.export_model(small.BLIND, "moved 2")
    register(params)
    registry = Registry("moved")
    assert promote(params).code == REJECTED
    before = runs(fleet)
    registry.set_alias(CHAMPION, 2)
    assert runs(fleet) == before
    listed = CliRunner().invoke(commands, ["list"])
    assert "alias champion names version 2, but signed is version 1, and devices go by that" in listed.output
    events = small.audit_events()
    assert promote(params).code == REJECTED  # the champion is 1, whatever the alias says
    assert small.audit_events() == [*events, "rejected"]
    assert "promoted_at" not in registry.version(2).tags and runs(fleet) == before
    assert promote(params, which="1").message.endswith("version 1 is the champion already")
    assert registry.aliases()[CHAMPION] == 1
    assert "alias champion" not in CliRunner().invoke(commands, ["list"]).output


def test_a_rollback_goes_by_the_signed_history_whatever_previous_and_tags_say(fleet: Fleet) -> None:
    params = registered(fleet, "history", small.HALF)
    promote(params)
    registry = Registry("history")
    for number, boxes in ((2, small.BLIND), (3, small.GOOD)):
        small.export_model(boxes, f"history {number}")
        register(params)
        assert promote(params).code == (REJECTED if number == 2 else DONE)
    registry.set_alias(PREVIOUS, 2)
    registry.set_alias(CHAMPION, 2)
    for number in (1, 2, 3):
        registry.tag(number, bundle_release="0", withdrawn="", promoted_at="now", bundle_sha256="0" * 64)
    assert rollback(params, "Ann").code == DONE
    assert version_of(runs(fleet)) == "1"


def test_a_registry_that_fails_after_a_rollback_does_not_have_it_repeated(fleet: Fleet) -> None:
    """Somebody deleted the version there: devices go back all the same, and the operator is told that it is done."""
    params = registered(fleet, "deleted", small.HALF)
    promote(params)
    small.export_model(small.GOOD, "deleted 2")
    register(params)
    promote(params)
    registry = Registry("deleted")
    registry._client.delete_model_version("deleted", "1")
    outcome = rollback(params, "Ann")
    assert outcome.code == DONE and "it is done, only the registry was not told of it" in outcome.message
    assert version_of(runs(fleet)) == "1"


@pytest.mark.parametrize("number", ["0", "9" * 18, "9" * 5000])
def test_numbers_in_tags_neither_freeze_nor_break_anything(fleet: Fleet, number: str) -> None:
    name = f"forward-{len(number)}"
    params = registered(fleet, name, small.HALF)
    promote(params)
    Registry(name).tag(1, bundle_release=number, bundle_bytes=number)
    small.export_model(small.GOOD, f"{name} 2")
    register(params)
    assert promote(params).code == DONE
    found = runs(fleet)
    assert found is not None and (found.version, found.number) == ("2", 2)


def test_files_exchanged_in_the_registry_are_not_scored_for_those_that_were_registered(fleet: Fleet) -> None:
    """Tag and files are replaced together: the signed pin still says which they were; a worse champion helps nobody."""
    params = registered(fleet, "exchanged", small.GOOD)
    promote(params)
    registry = Registry("exchanged")
    small.export_model(small.HALF, "exchanged 2")
    register(params)
    before = runs(fleet)
    registry.tag(1, manifest_sha256=registry.version(2).tags["manifest_sha256"])
    promote(params)
    assert failed() == ["better than the champion", "lower bound of the difference, fp32"]
    registry.tag(2, manifest_sha256="0" * 64)
    assert promote(params).code == REJECTED
    assert runs(fleet) == before


def test_files_exchanged_in_the_registry_are_not_downloaded_either(fleet: Fleet, tmp_path: Path) -> None:
    """Not even with their tag, nor by `models:/`: what is signed pins them."""
    registered(fleet, "pinned", small.GOOD, small.HALF)
    registry = Registry("pinned")
    assert fetch("models:/pinned/1", tmp_path / "honest").is_file()
    registry.tag(1, manifest_sha256=registry.version(2).tags["manifest_sha256"])
    assert fetch("models:/pinned/1", tmp_path / "a lying tag").is_file()
    source, other = (Path(url2pathname(urlparse(source_of("pinned", number)).path)) for number in (1, 2))
    shutil.copytree(other, source, dirs_exist_ok=True)
    for command in (["show", "1"], ["diff", "1", "2"], ["download", "1", "--out", str(tmp_path / "out")]):
        with pytest.raises(RegistryError, match="expected the registered file, sha256 "):
            CliRunner().invoke(commands, command, catch_exceptions=False)
    with pytest.raises(RegistryError, match="expected the registered file, sha256 "):
        fetch("models:/pinned/1", tmp_path / "exchanged")
    assert not (tmp_path / "out").exists()


def source_of(name: str, number: int) -> str:
    """Where the registry keeps a version's files."""
    return str(MlflowClient().get_model_version_download_uri(name, str(number)))


def test_a_challenger_that_is_not_listed_is_rejected(fleet: Fleet) -> None:
    small.export_model(small.GOOD, "unlisted 1")
    register(small.write_params("unlisted", **NO_FLOOR))
    params = params_of(fleet, "unlisted")
    assert promote(params).code == REJECTED and failed() == ["listed bundle"]
    register(params)
    assert promote(params).code == DONE


def test_unattended_retraining_signs_for_canaries_and_cannot_promote(fleet: Fleet) -> None:
    params = registered(fleet, "night", small.HALF, approval=True, canaries={"healthy": 3, "most_against": 0})
    params = params_of(fleet, "night", *UNATTENDED, approval=True, canaries={"healthy": 3, "most_against": 0})
    assert promote(params, canary=True).code == DONE
    assert (version_of(runs(fleet, "canary")), runs(fleet)) == ("1", None)
    assert promote(params, canary=True).message.endswith("is the canary already")
    assert promote(params).code == REJECTED and failed() == ["approval", "canary devices"]
    params = params_of(fleet, "night", *UNATTENDED)
    with pytest.raises(TrustError, match="champion: expected 1 more of the signatures"):
        promote(params)
    assert runs(fleet) is None and CHAMPION not in Registry("night").aliases()

    staged = Staged.parse(STAGED.read_bytes())  # what it leaves is signed elsewhere
    assert staged.sign(fleet.repository("champion")) == ""
    staged.publish(fleet.repository("snapshot", "timestamp"))
    assert version_of(runs(fleet)) == "1"
    assert promote(params).message.endswith("is the champion already")
    assert Registry("night").aliases()[CHAMPION] == 1


def test_a_statement_waits_for_the_person_who_must_agree(fleet: Fleet) -> None:
    params = registered(fleet, "person", small.GOOD, approval=True)
    outcome = promote(params)
    assert (outcome.code, failed()) == (REJECTED, ["approval"])
    assert f"mobile-centernet trust sign {STAGED} --approve-by NAME" in outcome.message
    staged = Staged.parse(STAGED.read_bytes())
    assert staged.metadata.signatures == {} and staged.statement is not None and staged.statement.version == "1"
    assert runs(fleet) is None
    assert promote(params, approved_by="Ann").code == DONE and not STAGED.exists()


def test_a_rollback_needs_no_registry_to_reach_devices(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    params = registered(fleet, "silent", small.HALF)
    promote(params)
    small.export_model(small.GOOD, "silent 2")
    register(params)
    promote(params)
    monkeypatch.setattr(Registry, "version", lambda *_: (_ for _ in ()).throw(RegistryError("no answer")))
    outcome = rollback(params, "Ann")
    assert outcome.code == DONE and "only the registry was not told of it: no answer" in outcome.message
    assert version_of(runs(fleet)) == "1"


def test_without_a_repository_it_goes_on_unsigned_and_says_so(
    registry_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    params = small.write_params("unsigned", **NO_FLOOR)
    small.export_model(small.GOOD, "unsigned")
    register(params)
    assert promote(params).code == DONE
    assert caplog.text.count("unsigned: trust.repository names none") == 2


KEYS = {device: CryptoSigner.generate_ed25519() for device in "abce"}


def report(
    device: str, digest: str, state: str = "healthy", channel: str = CANARY, key: CryptoSigner | None = None
) -> dict[str, str]:
    found = DeviceReport(device, channel, digest, "orin", 1, state, "", "2026-11-26T01:00:00Z")
    return {f"{PREFIX}{device}": found.to_json(key or KEYS[device])}


def pem(key: CryptoSigner) -> bytes:
    public = load_pem_private_key(key.private_bytes, None).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_promotion_waits_for_healthy_canaries(fleet: Fleet, tmp_path: Path) -> None:
    for device, key in KEYS.items():
        (tmp_path / f"{device}.pub").write_bytes(pem(key))
    canaries = {"healthy": 2, "most_against": 0, "devices": str(tmp_path)}
    params = registered(fleet, "canaries", small.GOOD, canaries=canaries)
    assert promote(params, canary=True).code == DONE
    statement = runs(fleet, CANARY)
    assert statement is not None
    digest, registry = statement.sha256, Registry("canaries")
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
