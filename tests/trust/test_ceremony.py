"""Beginning a repository, changing and revoking keys, signing in several places: on a fleet that polls meanwhile."""

import json
import shutil
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import pytest
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata

from mobile_centernet.trust import layout
from mobile_centernet.trust.ceremony import Staged, change_key, init, recover
from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.keys import KeyRing, public_key
from mobile_centernet.trust.repository import Repository, Signed
from tests.helpers.trust import Client, CutOffError, Fleet


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: a repository with one release on each channel."""
    folder = tmp_path_factory.mktemp("fleet")
    fleet = Fleet(folder)
    fleet.publish(b"first", "1")
    fleet.publish(b"second", "2", "canary")
    return folder


@pytest.fixture
def fleet(made: Path, tmp_path: Path) -> Fleet:
    return Fleet.copy(made, tmp_path / "fleet")


def with_new_key(fleet: Fleet, role: str) -> tuple[str, Mapping[str, Sequence[str]]]:
    """A new key's place, and all places with it."""
    place = fleet.key(f"{role}-new")
    return place, {**fleet.places, role: [*fleet.places[role], place]}


def old_id(fleet: Fleet, role: str) -> str:
    return public_key(fleet.places[role][0]).keyid


@pytest.mark.parametrize("role", layout.LIFE_DAYS)
def test_a_rotated_key_leaves_no_moment_in_which_a_device_refuses(fleet: Fleet, role: str) -> None:
    new, places = with_new_key(fleet, role)
    cached = Client(fleet, "cached")
    before = cached.statement()
    polls = count()

    def poll(_name: str) -> None:
        assert cached.statement() == Client(fleet, f"fresh-{next(polls)}").statement() == before

    fleet.store.before_write = poll
    repository = fleet.repository(places=places)
    assert change_key(repository, role, [old_id(fleet, role)[:12]], [public_key(new)]) is None
    poll("after the last write")
    assert next(polls) >= 4

    old_keys, new_keys = fleet.repository(), fleet.repository(places={**places, role: places[role][1:]})
    if role in ("timestamp", "snapshot"):
        with pytest.raises(TrustError, match=f"{role}: expected 1 more"):
            fleet.register(b"third", "3", old_keys)
    fleet.register(b"third", "3", new_keys)
    assert cached.statement() == before


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "champion"])
def test_a_change_of_keys_that_is_cut_off_at_any_write_harms_no_device_and_can_be_finished(
    fleet: Fleet, role: str
) -> None:
    new, places = with_new_key(fleet, role)
    repository = fleet.repository(places=places)
    for cut in count():
        trial = Fleet.copy(fleet.folder, fleet.folder.parent / f"cut-{cut}")
        trial.store.before_write = CutOffError.after(cut)
        repository = Repository(trial.store, trial.root_file, trial.folder / "cache" / "all", KeyRing(places))
        cached = Client(trial, "cached")
        before = cached.statement()
        try:
            change_key(repository, role, [old_id(fleet, role)], [public_key(new)])
            break
        except CutOffError:
            assert cached.statement() == Client(trial, "fresh").statement() == before
        trial.store.before_write = lambda _name: None
        repository.refresh()
        assert cached.statement() == Client(trial, "last").statement() == before
    assert cut >= 4


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_a_revocation_that_is_cut_off_is_finished_by_the_next_refresh(fleet: Fleet, role: str) -> None:
    new, places = with_new_key(fleet, role)
    repository = fleet.repository(places=places)
    fleet.store.before_write = CutOffError.after(2)  # a snapshot and the root are written
    with pytest.raises(CutOffError):
        change_key(repository, role, [old_id(fleet, role)], [public_key(new)], revoke=True)
    fleet.store.before_write = lambda _name: None
    with pytest.raises(RepositoryError):
        Client(fleet).statement()
    assert "snapshot" in repository.refresh() or role == "timestamp"
    statement = Client(fleet).statement()
    assert statement is not None and statement.version == "1"


def test_what_was_signed_before_a_revocation_is_not_signed_again(fleet: Fleet, tmp_path: Path) -> None:
    """A thief of timestamp's key puts the last state of the time before back into the store."""
    shutil.copytree(fleet.served, tmp_path / "old")
    new, places = with_new_key(fleet, "timestamp")
    repository = fleet.repository(places=places)
    change_key(repository, "timestamp", [old_id(fleet, "timestamp")], [public_key(new)], revoke=True)
    shutil.copy(tmp_path / "old/metadata/timestamp.json", fleet.served / "metadata/timestamp.json")
    with pytest.raises(TrustError, match="signed by 0/1 keys"):
        repository.refresh()


def test_revoking_the_bundles_key_unlists_what_no_channel_names(fleet: Fleet) -> None:
    fleet.register(b"evil", "666")
    new, places = with_new_key(fleet, "bundles")
    repository = fleet.repository(places=places)
    change_key(repository, "bundles", [old_id(fleet, "bundles")], [public_key(new)], revoke=True)
    listed = repository.state().roles["bundles"].signed.targets
    assert sorted(name.split("-")[1] for name in listed) == ["1", "2"]
    with pytest.raises(TrustError, match="bundles: expected 1 more of the signatures"):
        fleet.register(b"third", "3")
    assert Client(fleet).statement() is not None


def test_a_role_keeps_the_keys_that_it_needs(fleet: Fleet) -> None:
    for role in ("champion", "root"):
        with pytest.raises(TrustError, match=f"{role}: expected . keys at least, found"):
            change_key(fleet.repository(), role, [old_id(fleet, role)], [])
    with pytest.raises(TrustError, match=r"champion: expected one of its keys .*, found 'f00'"):
        change_key(fleet.repository(), "champion", ["f00"], [])


def test_a_key_has_one_role_whatever_its_id(fleet: Fleet) -> None:
    timestamp = public_key(fleet.places["timestamp"][0])
    alias = type(timestamp)("another-id", timestamp.keytype, timestamp.scheme, timestamp.keyval)
    before = fleet.files()
    for role in ("champion", "timestamp", "root"):
        with pytest.raises(TrustError, match="expected a key of its own, found one that stands for"):
            change_key(fleet.repository(), role, [], [alias])
    assert fleet.files() == before
    keys = {role: [public_key(place) for place in places] for role, places in fleet.places.items()}
    keys["root"][1] = type(alias)("second", keys["root"][0].keytype, keys["root"][0].scheme, keys["root"][0].keyval)
    other = Fleet.__new__(Fleet)
    other.adopt(fleet.folder.parent / "other")
    with pytest.raises(TrustError, match="root: expected a key of its own"):
        init(other.repository(), other.root_file, keys, {})
    assert not other.root_file.exists()


def test_a_root_that_half_have_signed_travels_and_is_never_published(fleet: Fleet) -> None:
    new = fleet.key("root-4")
    first = {**fleet.places, "root": fleet.places["root"][:1]}
    second = {"root": fleet.places["root"][1:2]}
    before = fleet.files()
    staged = change_key(fleet.repository(places=first), "root", [old_id(fleet, "root")], [public_key(new)])
    assert staged is not None and fleet.files() == before
    with pytest.raises(TrustError, match="root: expected 1 more of the signatures"):
        staged.publish(fleet.repository())
    assert fleet.files() == before

    travelled = Staged.parse(staged.encode())
    elsewhere = fleet.repository(places=second)
    assert "root: expected 1 more" in travelled.sign(elsewhere)  # the new root's own keys are 2, 3 and 4
    travelled = Staged.parse(travelled.encode())
    assert travelled.sign(fleet.repository(places={"root": [new]})) == ""
    assert fleet.files() == before
    with pytest.raises(TrustError, match="snapshot: expected 1 more"):
        travelled.publish(elsewhere)
    assert fleet.files() == before
    travelled.publish(fleet.repository("snapshot", "timestamp"))
    assert fleet.repository().state().root.version == 2
    assert Client(fleet).statement() is not None
    with pytest.raises(TrustError, match="root: expected version 3, found 2"):
        travelled.publish(fleet.repository())


def test_a_statement_is_signed_elsewhere_and_nothing_else_with_it(fleet: Fleet) -> None:
    repository = fleet.repository("bundles", "snapshot", "timestamp")
    bundle = fleet.register(b"third", "3", repository)
    state = repository.state()
    statement = repository.next_statement(state, "champion", bundle)
    staged = Staged("champion", repository.stage_statement(state, statement), statement)
    with pytest.raises(TrustError, match="champion: expected 1 more"):
        staged.publish(repository)

    laptop = fleet.repository("champion")
    other = Staged.parse(staged.encode().replace(b"champion", b"canary", 1))
    with pytest.raises(TrustError, match="expected metadata that names this statement alone"):
        other.sign(laptop)
    document = json.loads(staged.encode())
    document["metadata"]["signed"]["targets"]["bundles/evil.tar"] = {"length": 1, "hashes": {"sha256": "0" * 64}}
    with pytest.raises(TrustError, match="expected metadata that names this statement alone"):
        Staged.parse(json.dumps(document).encode()).sign(laptop)
    for damaged in (b"", b"{}", b"[" * 10_000, staged.encode().replace(b'"length"', b'"size"')):
        with pytest.raises(TrustError):
            Staged.parse(damaged).sign(laptop)

    travelled = Staged.parse(staged.encode())
    assert travelled.sign(laptop) == ""
    Staged.parse(travelled.encode()).publish(repository)
    assert Client(fleet).statement() == statement


def driven_up(fleet: Fleet, role: str) -> None:
    """What a thief of the role's keys, of snapshot's and of timestamp's publishes."""
    repository = fleet.repository()
    state = repository.state()
    signed: dict[str, Signed] = {}
    for name in dict.fromkeys(("snapshot", "timestamp") if role == "timestamp" else (role, "snapshot", "timestamp")):
        changed = Metadata(state.roles[name].signed)
        changed.signed.version = 1 << 62 if name == role else changed.signed.version + 1
        if name == "snapshot" and role not in ("snapshot", "timestamp"):
            changed.signed.meta[f"{role}.json"].version = 1 << 62
            changed.signed.meta[f"{role}.json"].hashes = changed.signed.meta[f"{role}.json"].length = None
        if name == "timestamp":
            changed.signed.snapshot_meta.version = signed["snapshot"].signed.version
            changed.signed.snapshot_meta.hashes = changed.signed.snapshot_meta.length = None
        repository.keys.sign(name, changed, state.delegator(name))
        signed[name] = changed
        place = "timestamp.json" if name == "timestamp" else f"{changed.signed.version}.{name}.json"
        (fleet.served / "metadata" / place).write_bytes(changed.to_bytes())


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "champion"])
def test_versions_that_a_thief_drove_up_are_recovered_from(fleet: Fleet, role: str) -> None:
    driven_up(fleet, role)
    cached = Client(fleet, "cached")
    before = cached.statement()
    repository = fleet.repository()
    with pytest.raises(TrustError, match=f"{role}: expected versions that count publishes, found {1 << 62}"):
        repository.refresh()
    new = {name: fleet.key(f"{name}-new") for name in ("snapshot", "timestamp")}
    fleet.places = {**fleet.places, **{name: [place] for name, place in new.items()}}
    repository = fleet.repository()
    recover(repository, {name: public_key(place) for name, place in new.items()})
    assert cached.statement() == Client(fleet, "fresh").statement() == before
    versions = {name: found.signed.version for name, found in repository.state().roles.items()}
    assert max(versions.values()) < 20
    third = fleet.publish(b"third", "3")
    assert cached.statement() == third
