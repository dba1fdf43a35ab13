"""What an agent does with what its channel names. Real bundles, a real repository over HTTP, a real disk."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from mobile_centernet.agent.states import TRANSITIONS, State
from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.keys import generate_key
from mobile_centernet.trust.reports import PREFIX, DeviceReport, read_enrolled, read_reports
from tests.helpers.file_server import FileServer, Request, file_server
from tests.helpers.lab import Lab
from tests.helpers.offers import BUNDLES, TIMESTAMP_FILE, Bundle
from tests.helpers.trust import MODEL

Releases = dict[int, Bundle]


def test_it_installs_the_first_release(lab: Lab, releases: Releases) -> None:
    lab.offer(releases[12])
    with lab.application():
        agent = lab.polled()
    assert agent.problem is None and lab.running() == releases[12].digest
    assert lab.saved.number == 1 and lab.saved.previous is None


def test_it_follows_the_channel_and_keeps_the_release_before(lab: Lab, releases: Releases) -> None:
    for number in (12, 13, 14):
        lab.install(releases[number])
    kept = {entry.name for entry in lab.store.releases.iterdir()}
    assert kept == {releases[13].digest, releases[14].digest}
    assert lab.saved.previous and lab.saved.previous.version == "13"


def test_a_rollback_is_a_later_statement_and_fetches_nothing_that_is_here(device: Lab, releases: Releases) -> None:
    device.install(releases[13])
    before = len(device.server.log)
    device.install(releases[12])
    assert device.running() == releases[12].digest and device.saved.number == 4
    assert not [path for path, *_ in device.server.log[before:] if path.startswith(BUNDLES)]


def test_the_same_release_named_again_changes_nothing_but_the_number(device: Lab, releases: Releases) -> None:
    device.offer(releases[12])
    with device.application():
        agent = device.polled()
    assert agent.problem is None and device.saved.number == 3 and device.saved.previous is None
    assert agent._events["swapping: done"] == 0


def test_a_poll_without_change_asks_for_the_timestamp_and_writes_nothing(device: Lab, releases: Releases) -> None:
    device.install(releases[13])
    agent = device.polled()
    before = len(device.server.log)
    kept = {path: path.lstat().st_mtime_ns for path in device.root.rglob("*") if not path.name.startswith("status")}
    agent.poll()
    assert [path for path, *_ in device.server.log[before:]] == [TIMESTAMP_FILE]
    assert kept == {path: path.lstat().st_mtime_ns for path in kept}


def test_the_list_of_bundles_is_not_fetched_for_a_mere_registration(device: Lab, releases: Releases) -> None:
    device.install(releases[13])
    agent = device.polled()
    before = len(device.server.log)
    device.fleet.repository().publish_bundle(b"another", MODEL, "99", "a" * 64)
    device.serve()
    agent.poll()
    asked = [path for path, *_ in device.server.log[before:]]
    assert agent.problem is None and asked and not [path for path in asked if path.endswith(".bundles.json")]


def test_a_share_of_the_devices(lab: Lab, releases: Releases) -> None:
    """Each device decides by its name and the release; who has it keeps it when the share grows."""
    lab.install(releases[12])
    takes = {}
    for share in (0.001, 0.5, 0.999):
        lab.offer(releases[13], share=share)
        for name in map(str, range(12)):
            lab.configure(device={"name": name})
            agent = lab.agent()
            agent.start()
            agent._checking()
            takes[share, name] = agent._candidate is not None
    few, half, most = ([name for name in map(str, range(12)) if takes[share, name]] for share in (0.001, 0.5, 0.999))
    assert set(few) <= set(half) <= set(most) and not few and 0 < len(half) < 12 and len(most) == 12


def test_a_release_for_other_devices(device: Lab, releases: Releases) -> None:
    device.offer(releases[13], devices=("orin",))
    with device.application():
        agent = device.polled()
        assert device.running() == releases[12].digest and agent.problem is None
        device.offer(releases[13], devices=("orin", "kiosk"))
        agent.poll()
    assert device.running() == releases[13].digest


def test_a_canary_follows_another_channel(device: Lab, releases: Releases) -> None:
    device.offer(releases[14], "canary")
    device.configure(trust={"channel": "canary"})
    device.store.root.rename(device.folder / "other")
    with device.application():
        device.polled()
    assert device.running() == releases[14].digest


# Reports.


class Records:
    """An MLflow server that keeps tags, or takes none."""

    def __init__(self, lab: Lab, server: FileServer) -> None:
        self.lab = lab
        self.taken: list[tuple[str, dict[str, str]]] = []
        self.is_away = False
        self.address = f"http://127.0.0.1:{server.server_port}"

    def take(self, request: Request) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        if not self.is_away:
            assert request.path == "/api/2.0/mlflow/model-versions/set-tag" and body["name"] == MODEL
            self.taken.append((body["version"], {body["key"]: body["value"]}))
        request.status(503 if self.is_away else 200)

    def states(self) -> list[tuple[str, str]]:
        """Version and state of each report; every one must be readable, and signed by the device."""
        found = []
        enrolled = {"kiosk-07": read_enrolled(self.lab.root)["device"]}
        for version, tags in self.taken:
            (report,), unreadable = read_reports(tags, enrolled)
            assert not unreadable and report.device == "kiosk-07" and report.profile == "kiosk"
            found.append((version, report.state))
        return found


@pytest.fixture
def records(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    with file_server() as server:
        found = Records(lab, server)
        monkeypatch.setattr(Request, "do_POST", lambda request: found.take(request), raising=False)
        lab.configure(report={"url": found.address})
        yield found


def test_what_it_reports(lab: Lab, releases: Releases, records: Records) -> None:
    lab.configure(report={"url": records.address}, health={"start_s": 0.3, "gap_s": 0.2})
    lab.offer(releases[12])
    with lab.application():
        lab.polled()
    lab.configure(report={"url": records.address}, device={"precision": "int8"})
    lab.offer(releases[14])
    lab.polled()
    assert records.states() == [("12", "healthy"), ("12", "healthy"), ("14", "refused")]
    (_, tags), *_ = records.taken
    enrolled = {"kiosk-07": read_enrolled(lab.root)["device"]}
    assert read_reports(tags, enrolled)[0][0].bundle_sha256 == releases[12].file_digest
    assert (lab.root / "device.key").stat().st_mode & 0o777 == 0o600


def test_reports_are_kept_for_a_registry_that_is_away_and_never_waited_for(
    lab: Lab, releases: Releases, records: Records
) -> None:
    records.is_away = True
    lab.offer(releases[12])
    with lab.application():
        agent = lab.polled()
    assert lab.running() == releases[12].digest and records.taken == [] and agent.problem is None
    records.is_away = False
    agent.poll()
    assert records.states() == [("12", "healthy")]


def test_without_being_asked_it_reports_nothing(lab: Lab, releases: Releases, records: Records) -> None:
    lab.configure()
    lab.offer(releases[12])
    with lab.application():
        lab.polled()
    assert lab.running() == releases[12].digest and records.taken == [] and not (lab.root / "device.key").exists()


def signed(key: CryptoSigner, device: str) -> dict[str, str]:
    report = DeviceReport(device, "canary", "0" * 64, "orin", 1, "healthy", "", "2026-11-26T01:00:00Z")
    return {f"{PREFIX}{device}": report.to_json(key)}


FORGERIES: dict[str, Callable[[CryptoSigner], dict[str, str]]] = {
    "by nobody": lambda _: {f"edge.health.{name}": '{"state": "healthy"}' for name in "abc"},
    "by a stranger": lambda _: signed(CryptoSigner.generate_ed25519(), "a"),
    "by a device that was never enrolled": lambda key: signed(key, "z"),
    "by one device for another": lambda key: {"edge.health.b": signed(key, "a")["edge.health.a"]},
    "changed": lambda key: {"edge.health.a": signed(key, "a")["edge.health.a"].replace("orin", "tx2")},
    "nested": lambda _: {"edge.health.a": "[" * 5000},
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_forged_reports_count_for_nothing(kind: str) -> None:
    key = CryptoSigner.generate_ed25519()
    enrolled = {"a": key.public_key, "b": CryptoSigner.generate_ed25519().public_key}
    tags = FORGERIES[kind](key)
    reports, unreadable = read_reports(tags, enrolled)
    assert not reports and set(unreadable) == set(tags)


def test_one_key_under_two_names_counts_once() -> None:
    key = CryptoSigner.generate_ed25519()
    reports, unreadable = read_reports(
        {**signed(key, "a"), **signed(key, "b")}, {"a": key.public_key, "b": key.public_key}
    )
    assert [report.device for report in reports] == ["a"] and unreadable == ["edge.health.b"]


def test_what_lies_among_the_keys_of_devices_and_is_none(tmp_path: Path) -> None:
    """What an editor leaves is passed over; a key in another form is named."""
    generate_key(tmp_path / "a.key")
    (tmp_path / ".#b.pub").write_text("an editor's")
    assert list(read_enrolled(tmp_path)) == ["a"]
    (tmp_path / "id_rsa.pub").write_text("ssh-rsa AAAA me@host\n")
    with pytest.raises(TrustError, match=r"id_rsa\.pub: expected a public key in PEM form, found none"):
        read_enrolled(tmp_path)


def test_it_needs_no_repository_to_go_on(lab: Lab, releases: Releases) -> None:
    """Switched on without a network: the committed release is verified and runs."""
    lab.install(releases[12])
    lab.configure(trust={"url": "http://127.0.0.1:9"})
    lab.store.current.unlink()
    lab.polled()
    assert lab.running() == releases[12].digest


def test_every_state_is_left_and_every_one_can_be_reached() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State) == set(TRANSITIONS.values()) | {State.STARTING}
