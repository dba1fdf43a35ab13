"""What an agent does with what the registry offers. Real bundles, a real registry's answers over HTTP, a real disk."""

from mobile_centernet.agent.errors import TransferError
from mobile_centernet.agent.registry_client import RegistryClient
from mobile_centernet.agent.states import TRANSITIONS, State
from mobile_centernet.bundle.protocol import read_reports
from tests.helpers.lab import Lab
from tests.helpers.offers import Bundle

Releases = dict[int, Bundle]


def test_it_installs_the_first_release(lab: Lab, releases: Releases) -> None:
    lab.offer(releases[12])
    with lab.application():
        agent = lab.polled()
    assert agent.problem is None and lab.running() == releases[12].digest
    assert lab.saved.min_release == 12 and lab.saved.previous is None


def test_it_follows_the_alias_and_keeps_the_release_before(lab: Lab, releases: Releases) -> None:
    for number in (12, 13, 14):
        lab.install(releases[number])
    kept = {entry.name for entry in lab.store.releases.iterdir()}
    assert kept == {releases[13].digest, releases[14].digest}
    assert lab.saved.previous and lab.saved.previous.release == 13


class Records:
    """A registry that offers a bundle and keeps reports, or takes none."""

    def __init__(self, lab: Lab) -> None:
        self.taken: list[tuple[str, dict[str, str]]] = []
        self.is_away = False
        self._client = RegistryClient(f"http://127.0.0.1:{lab.server.server_port}", "street", 2.0)
        self.offered, self.headers = self._client.offered, self._client.headers

    def report(self, version: str, key: str, value: str) -> None:
        if self.is_away:
            raise TransferError("away")
        self.taken.append((version, {key: value}))

    def states(self) -> list[tuple[str, str]]:
        """Version and state of each report; every one must be readable."""
        found = []
        for version, tags in self.taken:
            (report,), unreadable = read_reports(tags)
            assert not unreadable and report.device == "kiosk-07" and report.profile == "kiosk"
            found.append((version, report.state))
        return found


def test_what_it_reports(lab: Lab, releases: Releases) -> None:
    lab.configure(registry={"report": True}, health={"start_s": 0.3})
    registry = Records(lab)
    lab.offer(releases[12])
    with lab.application():
        agent = lab.polled(registry=registry)
    lab.offer(releases[13])
    agent.poll()  # nothing beats
    lab.configure(registry={"report": True}, device={"precision": "int8"})
    lab.offer(releases[14])
    lab.polled(registry=registry)
    assert registry.states() == [("12", "healthy"), ("13", "reverted"), ("12", "healthy"), ("14", "refused")]
    (_, tags), *_ = registry.taken
    assert read_reports(tags)[0][0].bundle_sha256 == releases[12].digest


def test_reports_are_kept_for_a_registry_that_is_away_and_never_waited_for(lab: Lab, releases: Releases) -> None:
    lab.configure(registry={"report": True})
    registry = Records(lab)
    registry.is_away = True
    lab.offer(releases[12])
    with lab.application():
        agent = lab.polled(registry=registry)
    assert lab.running() == releases[12].digest and registry.taken == []
    registry.is_away = False
    agent.poll()
    assert registry.states() == [("12", "healthy")]


def test_without_being_asked_it_reports_nothing(lab: Lab, releases: Releases) -> None:
    registry = Records(lab)
    lab.offer(releases[12])
    with lab.application():
        lab.polled(registry=registry)
    assert lab.running() == releases[12].digest and registry.taken == []


def test_it_needs_no_registry_to_go_on(lab: Lab, releases: Releases) -> None:
    """Switched on without a network: the committed release is verified and runs."""
    lab.install(releases[12])
    lab.configure(registry={"url": "http://127.0.0.1:9"})
    lab.store.current.unlink()
    lab.polled()
    assert lab.running() == releases[12].digest


def test_every_state_is_left_and_every_one_can_be_reached() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State) == set(TRANSITIONS.values()) | {State.STARTING}
