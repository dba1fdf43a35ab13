"""Publishing to a repository: what devices get, and what never reaches one."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from mobile_centernet.trust import layout
from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.keys import KeyRing
from mobile_centernet.trust.repository import KEPT_BUNDLES
from mobile_centernet.trust.store import FolderStore
from tests.helpers.trust import MODEL, Client, CutOffError, Fleet, publish

UNATTENDED = ("bundles", "snapshot", "timestamp", "canary")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: a repository with one release."""
    folder = tmp_path_factory.mktemp("fleet")
    Fleet(folder).publish(b"first", "1")
    return folder


@pytest.fixture
def fleet(made: Path, tmp_path: Path) -> Fleet:
    return Fleet.copy(made, tmp_path / "fleet")


def metadata(fleet: Fleet, name: str) -> Metadata:
    return Metadata.from_file(str(fleet.served / "metadata" / name))


def test_a_device_runs_what_the_last_statement_names(fleet: Fleet) -> None:
    device = Client(fleet)
    first = device.statement()
    assert first is not None and (first.number, first.version) == (1, "1")
    second = fleet.publish(b"second", "2")
    assert device.statement() == second == Client(fleet, "new").statement()
    assert second.number == 2
    assert device.statement("canary") is None


def test_the_signed_history_leads_back_from_the_head(fleet: Fleet) -> None:
    for version in ("2", "3"):
        fleet.publish(version.encode(), version)
    repository = fleet.repository()
    found = [statement.version for statement, _ in repository.statements(repository.state(), "champion")]
    assert found == ["3", "2", "1"]


def test_a_bundle_that_is_listed_is_not_what_devices_run(fleet: Fleet) -> None:
    fleet.register(b"second", "2", fleet.repository("bundles", "snapshot", "timestamp"))
    statement = Client(fleet).statement()
    assert statement is not None and statement.version == "1"


def test_a_version_gets_one_bundle(fleet: Fleet) -> None:
    repository = fleet.repository()
    before = fleet.files()
    assert fleet.register(b"first", "1", repository).path.startswith("bundles/street-1-")
    with pytest.raises(TrustError, match="expected a version that has no bundle yet"):
        fleet.register(b"other", "1", repository)
    assert fleet.files() == before


def test_a_statement_names_a_listed_bundle_and_follows_the_one_before(fleet: Fleet) -> None:
    repository = fleet.repository()
    head = Client(fleet).statement()
    assert head is not None
    before = fleet.files()
    with pytest.raises(TrustError, match="expected statement 2, found 1"):
        publish(repository, head)
    digest = sha256(b"never listed").hexdigest()
    other = replace(head, sha256=digest, bundle=layout.bundle_path(MODEL, "1", digest))
    with pytest.raises(TrustError, match="expected a bundle that the repository lists"):
        publish(repository, other)
    with pytest.raises(TrustError, match="expected a bundle that the repository lists"):
        publish(repository, replace(head, bytes=head.bytes + 1))
    assert fleet.files() == before


def test_unattended_keys_cannot_change_the_champion(fleet: Fleet) -> None:
    """What a stolen training machine holds, with the bundle that it vouches for itself."""
    thief = fleet.repository(*UNATTENDED)
    evil = fleet.register(b"evil", "666", thief)
    before = fleet.files()
    with pytest.raises(TrustError, match="champion: expected 1 more of the signatures"):
        fleet.promote(evil, repository=thief)
    assert fleet.files() == before
    fleet.promote(evil, "canary", repository=thief)
    champion, canary = Client(fleet).statement(), Client(fleet).statement("canary")
    assert champion is not None and canary is not None
    assert (champion.version, canary.version) == ("1", "666")


@pytest.mark.parametrize(("role", "key"), [("champion", "canary"), ("snapshot", "timestamp"), ("timestamp", "bundles")])
def test_another_roles_key_is_refused_before_the_first_write(fleet: Fleet, role: str, key: str) -> None:
    places = {**fleet.places, role: fleet.places[key]}
    before = fleet.files()
    with pytest.raises(TrustError, match=f"{role}: expected 1 more of the signatures"):
        fleet.promote(fleet.register(b"first", "1"), repository=fleet.repository(places=places))
    assert fleet.files() == before


PUBLISHES: dict[str, Callable[[Fleet], object]] = {
    "register": lambda fleet: fleet.register(b"second", "2"),
    "promote": lambda fleet: fleet.promote(fleet.register(b"first", "1"), share=0.5),
    "refresh": lambda fleet: fleet.repository().refresh(),
}


@pytest.mark.parametrize("name", PUBLISHES)
def test_a_publish_that_is_cut_off_at_any_write_harms_no_device(fleet: Fleet, name: str) -> None:
    for cut in count():  # each round is cut off one write later, and finds what the last one left
        cached = Client(fleet, f"cached-{cut}")
        before = cached.statement()
        fleet.store.before_write = CutOffError.after(cut)
        try:
            PUBLISHES[name](fleet)
            break
        except CutOffError:
            assert cached.statement() == Client(fleet, f"fresh-{cut}").statement() == before
    assert cached.statement() == Client(fleet, "last").statement() != (before if name == "promote" else None)
    assert cut == {"register": 4, "promote": 4, "refresh": 1}[name]


def test_a_publisher_that_was_overtaken_writes_nothing_that_counts(fleet: Fleet) -> None:
    """Two machines without a common lock: the second one publishes between the first one's reading and its commit."""
    slow, fast = fleet.repository(), fleet.repository("bundles", "snapshot", "timestamp")
    fast.store = FolderStore(fleet.served)

    def overtake(name: str) -> None:
        if name.endswith("timestamp.json"):
            fleet.store.before_write = lambda _name: None
            unlocked(fast, lambda: fleet.register(b"fast", "2", fast))

    fleet.store.before_write = overtake
    with pytest.raises(TrustError, match="somebody else has published meanwhile"):
        fleet.register(b"slow", "3", slow)
    listed = fleet.repository().state().roles["bundles"].signed.targets
    assert {name.split("-")[1] for name in listed} == {"1", "2"}
    fleet.register(b"slow", "3", slow)
    assert Client(fleet).statement() == Client(fleet, "new").statement()


def unlocked(repository: object, work: Callable[[], object]) -> None:
    """As on a file system where locks do not reach the other machine."""
    (Path(repository.store.where) / ".lock").unlink()  # type: ignore[attr-defined]
    work()


def test_refresh_renews_all_that_is_at_hand_and_half_over(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fleet.repository().refresh() == ["timestamp"]
    short = {role: days / 3 for role, days in layout.LIFE_DAYS.items()}
    long = dict(layout.LIFE_DAYS)
    for role in ("bundles", "champion", "snapshot", "targets"):
        monkeypatch.setitem(layout.LIFE_DAYS, role, short[role])  # type: ignore[arg-type]
    old = Fleet(fleet.folder.parent / "old")
    for role, days in long.items():
        monkeypatch.setitem(layout.LIFE_DAYS, role, days)  # type: ignore[arg-type]
    held = old.repository("bundles", "snapshot", "timestamp")
    assert held.refresh() == ["bundles", "snapshot", "timestamp"]
    assert old.repository().refresh() == ["targets", "champion", "snapshot", "timestamp"]
    assert old.repository().refresh() == ["timestamp"]


def test_an_expired_repository_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("timestamp", "snapshot"):
        monkeypatch.setitem(layout.LIFE_DAYS, role, 0.00001)  # type: ignore[arg-type]
    with pytest.raises(TrustError, match="expired"):
        Fleet(tmp_path / "fleet")
    monkeypatch.undo()
    fleet = Fleet.__new__(Fleet)
    fleet.adopt(tmp_path / "fleet")
    for _ in range(2):  # this machine has never seen it whole: it may be any state of the past
        with pytest.raises(TrustError, match=r"expired.* this machine has seen none: .*--expired"):
            fleet.repository().refresh()
    assert fleet.repository().refresh(expired=True) == ["snapshot", "timestamp"]
    assert Client(fleet).statement() is None


def test_a_clock_that_went_back_signs_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fleet.files()
    monkeypatch.setitem(layout.LIFE_DAYS, "timestamp", -10_000)  # type: ignore[arg-type]
    with pytest.raises(TrustError, match=r"timestamp: expected an expiry after .* the clock of this machine is wrong"):
        fleet.repository().refresh()
    assert fleet.files() == before


def test_a_state_that_this_machine_has_seen_is_not_taken_back(fleet: Fleet, tmp_path: Path) -> None:
    """Whoever may write the store replays it; a publisher must not sign it anew."""
    shutil.copytree(fleet.served, tmp_path / "old")
    fleet.publish(b"second", "2")
    shutil.copytree(tmp_path / "old", fleet.served, dirs_exist_ok=True)
    with pytest.raises(TrustError, match="expected metadata that a device takes, found: New timestamp version"):
        fleet.repository().refresh()


def test_the_list_of_bundles_stays_short_and_keeps_what_a_rollback_needs(fleet: Fleet) -> None:
    repository = fleet.repository()
    state = repository.state()
    bundles = repository.successor(state, "bundles")
    for number in range(KEPT_BUNDLES + 3):  # as if they had been registered before
        file = next(iter(state.roles["bundles"].signed.targets.values())).to_dict()
        target = type(next(iter(bundles.signed.targets.values()))).from_dict(
            {
                **file,
                "custom": {"number": 10 + number, "model": MODEL, "version": str(100 + number), "manifest": "0" * 64},
            },
            f"bundles/street-{100 + number}-000000000000.tar",
        )
        bundles.signed.targets[target.path] = target
    repository.keys.sign("bundles", bundles, state.targets)
    repository.commit(state, {"bundles": bundles}, {})
    fleet.register(b"newest", "999", repository)
    listed = repository.state().roles["bundles"].signed.targets
    assert len(listed) == KEPT_BUNDLES + 1
    assert any(name.startswith("bundles/street-1-") for name in listed)  # the champion, the oldest of all
    assert not any(name.startswith("bundles/street-100-") for name in listed)


def test_every_machine_needs_only_its_own_keys(fleet: Fleet) -> None:
    bundle = fleet.register(b"second", "2", fleet.repository("bundles", "snapshot", "timestamp"))
    statement = fleet.promote(bundle, repository=fleet.repository("champion", "snapshot", "timestamp"))
    assert Client(fleet).statement() == statement


def test_a_missing_key_names_the_places_that_were_searched(fleet: Fleet) -> None:
    ring = KeyRing({"snapshot": ["env:NO_SUCH_KEY"], "timestamp": [str(fleet.folder / "none.key")]})
    repository = fleet.repository()
    repository.keys = ring
    with pytest.raises(TrustError, match=r"timestamp: .* no such key is at hand \(places: .*none.key\)"):
        repository.refresh()
