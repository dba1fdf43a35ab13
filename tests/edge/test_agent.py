"""What an agent does with what the registry offers. Real bundles, a real registry's answers over HTTP, a real disk."""

from tests.edge.lab import Lab
from tests.edge.offers import Bundle

Releases = dict[int, Bundle]


def test_it_installs_the_first_release(lab: Lab, releases: Releases) -> None:
    lab.offer(releases[12])
    with lab.application():
        agent = lab.polled()
    assert agent.problem is None and lab.running() == releases[12].digest
    assert lab.memory.floor == 12 and lab.memory.previous is None


def test_it_follows_the_alias_and_keeps_the_release_before(lab: Lab, releases: Releases) -> None:
    for number in (12, 13, 14):
        lab.install(releases[number])
    kept = {entry.name for entry in lab.store.releases.iterdir()}
    assert kept == {releases[13].digest, releases[14].digest}
    assert lab.memory.previous and lab.memory.previous.release == 13
