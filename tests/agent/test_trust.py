"""What devices take for signed: every way to say it otherwise, changes of keys, and clocks that lie."""

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import securesystemslib.signer._key as securesystemslib_keys
from tuf.api.metadata import Metadata, Timestamp
from tuf.ngclient import Updater

from mobile_centernet.agent import trust_client
from mobile_centernet.agent.agent import Agent
from mobile_centernet.agent.errors import StoppedError
from mobile_centernet.trust.ceremony import change_key
from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.keys import public_key
from mobile_centernet.trust.layout import CHAMPION
from tests.helpers.file_server import Request
from tests.helpers.lab import Lab
from tests.helpers.outcomes import Releases, recovers, stays

TIMESTAMP_FILE = "/metadata/timestamp.json"
Attack = Callable[[Lab, Releases], None]


def old_state(device: Lab, releases: Releases) -> None:
    """What was served before is served again, whole."""
    before = dict(device.server.files)
    device.install(releases[14])
    device.server.files.clear()
    device.server.files.update(before)


def swapped_statement(device: Lab, releases: Releases) -> None:
    (path,) = [name for name in device.server.files if name.endswith("statement.json") and newest(device) in name]
    text = device.server.files[path].replace(b'"number": 2', b'"number": 3')
    device.server.files[path] = text


def newest(device: Lab) -> str:
    state = device.fleet.repository().state()
    return str(state.roles[CHAMPION].signed.targets["channels/champion/statement.json"].hashes["sha256"])


def other_bundle(device: Lab, releases: Releases) -> None:
    """Of the same length."""
    for path in [name for name in device.server.files if "-13-" in name]:
        device.server.files[path] = releases[13].content[:-1] + b"x"


def old_role_under_the_new_number(device: Lab, releases: Releases) -> None:
    roles = sorted(name for name in device.server.files if name.endswith("champion.json"))
    device.server.files[roles[-1]] = device.server.files[roles[-2]]


def thrown_in_signatures(device: Lab, releases: Releases) -> None:
    """A hundred by nobody: beyond what a timestamp may be long."""
    document = json.loads(device.server.files[TIMESTAMP_FILE])
    document["signatures"] += [{"keyid": f"{number:064x}", "sig": "0" * 128} for number in range(100)]
    device.server.files[TIMESTAMP_FILE] = json.dumps(document).encode()


def unsigned_timestamp(device: Lab, releases: Releases) -> None:
    document = json.loads(device.server.files[TIMESTAMP_FILE])
    document["signed"]["version"] += 1
    device.server.files[TIMESTAMP_FILE] = json.dumps(document).encode()


def signed_by_canary(device: Lab, releases: Releases) -> None:
    """The canary's key signs for champion, and everything online is in the same hands."""
    repository = device.fleet.repository()
    state = repository.state()
    metadata = repository.successor(state, CHAMPION)
    forged = device.fleet.repository(places={CHAMPION: device.fleet.places["canary"]})
    delegator = state.targets
    delegator.add_key(public_key(device.fleet.places["canary"][0]), CHAMPION)
    forged.keys.sign(CHAMPION, metadata, delegator)
    (path,) = [name for name in sorted(device.server.files) if name.endswith(".champion.json")][-1:]
    device.server.files[path] = metadata.to_bytes()


@pytest.mark.parametrize(
    "attack",
    [
        old_state,
        swapped_statement,
        other_bundle,
        old_role_under_the_new_number,
        thrown_in_signatures,
        unsigned_timestamp,
        signed_by_canary,
    ],
    ids=lambda attack: attack.__name__,
)
def test_an_attack_changes_nothing(device: Lab, releases: Releases, attack: Attack) -> None:
    """On a device that knows the newest state and on one that only has root.json, where that can be told."""
    attack(device, releases)
    before = device.store.pointed()
    with device.application():
        agent = device.polled()
    assert device.running() == before and agent.problem and agent.failures == 1
    device.serve()
    with device.application():
        assert device.polled().problem is None


def test_a_device_that_lost_its_metadata_takes_no_older_statement(device: Lab, releases: Releases) -> None:
    """Its own number, which is kept apart from python-tuf's files, still stands."""
    before = dict(device.server.files)
    recovers(device, releases)
    device.install(releases[14])
    shutil.rmtree(device.store.trust)
    device.server.files.clear()
    device.server.files.update(before)
    with device.application():
        agent = device.polled()
    assert agent.problem == "statement: expected one after number 3, found 2"
    assert device.running() == releases[14].digest


def test_a_mere_registration_and_the_whole_training_machine_move_no_device(device: Lab, releases: Releases) -> None:
    """Keys of bundles, snapshot, timestamp and canary, as unattended retraining holds them."""
    recovers(device, releases)
    held = device.fleet.repository("bundles", "snapshot", "timestamp", "canary")
    listed = device.fleet.register(releases[14].content, "14", held, releases[14].digest)
    device.fleet.promote(listed, "canary", held)
    with pytest.raises(TrustError):
        device.fleet.promote(listed, "champion", held)
    device.serve()
    with device.application():
        device.polled()
    assert device.running() == releases[13].digest


# Keys.


@pytest.mark.parametrize("role", ["champion", "bundles", "targets", "snapshot", "timestamp", "root"])
@pytest.mark.parametrize("revoke", [False, True], ids=["rotated", "revoked"])
def test_a_key_is_changed_under_running_devices(device: Lab, releases: Releases, role: str, revoke: bool) -> None:
    """One that has seen everything and polls meanwhile, and one from the shelf; then the new key's release is taken."""
    recovers(device, releases)
    agent = device.polled()
    fleet = device.fleet
    repository = fleet.repository()
    state = repository.state()
    keyids = state.delegator(role).get_delegated_role(role).keyids
    old = next(keyid for keyid in keyids if keyid == public_key(fleet.places[role][0]).keyid)
    new = fleet.key(f"{role}-new")
    fleet.places[role] = [*fleet.places[role], new]
    assert change_key(fleet.repository(), role, [old], [public_key(new)], revoke=revoke) is None
    fleet.places[role] = fleet.places[role][1:]
    device.serve()
    agent.poll()
    assert agent.problem is None and device.running() == releases[13].digest
    device.offer(releases[14])
    with device.application():
        agent.poll()
        assert agent.problem is None and device.running() == releases[14].digest
    device.root.rename(device.folder / "used")
    with device.application():
        device.polled()
    assert device.running() == releases[14].digest


# Clocks.


def test_a_clock_at_1970_keeps_what_runs_and_takes_what_is_new(
    device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    recovers(device, releases)


def test_a_clock_in_2096_takes_nothing_and_says_why(
    device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 4e9)
    stays(device, releases, "is expired")
    assert device.saved.seen < 4e9
    monkeypatch.undo()
    recovers(device, releases)


def test_a_frozen_repository_is_told_when_its_timestamp_expires(
    device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovers(device, releases)
    agent = device.polled()
    expires = Metadata[Timestamp].from_bytes(device.server.files[TIMESTAMP_FILE]).signed.expires.timestamp()
    monkeypatch.setattr(time, "time", lambda: expires - 1)
    agent.poll()
    assert agent.problem is None
    monkeypatch.setattr(time, "time", lambda: expires + 1)
    agent.poll()
    assert agent.problem and "timestamp.json is expired" in agent.problem
    assert device.running() == releases[13].digest


def test_at_1970_what_has_expired_since_the_last_statement_is_not_valid_again(
    lab: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The floor of the clock: the time of the last statement that was taken."""
    lab.install(releases[12])
    agent = lab.agent()
    agent.start()
    expires = Metadata[Timestamp].from_bytes(lab.server.files[TIMESTAMP_FILE]).signed.expires.timestamp()
    later = lab.saved.__class__(**{**vars(lab.saved), "seen": expires + 1})
    lab.store.save(later)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    agent = lab.polled()
    assert agent.problem and "timestamp.json is expired" in agent.problem


def test_the_clock_that_python_tuf_goes_by_is_where_we_set_it(lab: Lab, tmp_path: Path) -> None:
    """A private attribute of a library: this fails when it goes."""
    updater = Updater(str(tmp_path), "http://x", bootstrap=lab.fleet.root_file.read_bytes())
    assert updater._trusted_set.reference_time.timestamp() == pytest.approx(time.time(), abs=60)


def test_cryptography_that_is_too_old_is_said_at_the_start(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(securesystemslib_keys, "CRYPTO_IMPORT_ERROR", "cryptography is too old")
    with pytest.raises(TrustError, match="cryptography: expected version 43 or newer"):
        lab.agent()


# Long jobs.


@pytest.mark.parametrize("faulty", ["timestamp.json", "/targets/bundles/"])
@pytest.mark.parametrize("stop_it", [True, False], ids=["stop", "rollback"])
def test_a_server_that_says_nothing_does_not_make_the_agent_deaf(
    device: Lab, releases: Releases, faulty: str, stop_it: bool
) -> None:
    device.configure(trust={"timeout_s": 60.0})
    stop, over = threading.Event(), threading.Event()
    asked_at: list[float] = []

    def say_nothing(_: Request) -> None:
        asked_at.append(time.monotonic())
        (stop.set if stop_it else device.store.request.touch)()
        over.wait(60)

    device.server.faulty = faulty
    device.server.faults.append(say_nothing)
    agent: Agent = device.agent(stop=stop if stop_it else None)
    agent.start()
    if stop_it:
        with pytest.raises(StoppedError):
            agent.poll()
    else:
        agent.poll()
        assert agent.failures == 0 and agent.problem is None and agent.is_asked_to_roll_back()
    assert time.monotonic() - asked_at[0] < 5
    over.set()


def test_no_release_of_ours_is_older_than_the_earliest_clock() -> None:
    assert time.time() > trust_client.EARLIEST
