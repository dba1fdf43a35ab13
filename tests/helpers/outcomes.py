"""What a poll of a device on release 12, which is offered 13, may come to."""

import tarfile
from pathlib import Path

from mobile_centernet.agent.agent import Agent
from tests.helpers.lab import Lab
from tests.helpers.offers import BUNDLES, Bundle

Releases = dict[int, Bundle]


def stays(lab: Lab, releases: Releases, sentence: str, **injected: object) -> Agent:
    """One poll changes nothing but the problem, which is one sentence."""
    with lab.application():
        agent = lab.polled(**injected)
    assert lab.running() == releases[12].digest
    assert agent.problem and sentence in agent.problem and "\n" not in agent.problem
    return agent


def recovers(lab: Lab, releases: Releases, **injected: object) -> None:
    """When the fault is gone, the next poll takes the release."""
    with lab.application():
        agent = lab.polled(**injected)
    assert lab.running() == releases[13].digest, agent.problem


def offered(device: Lab, path: Path, version: str = "13", **fields: object) -> None:
    device.offer(Bundle(path, version), **fields)


def refused(lab: Lab, releases: Releases, sentence: str, **injected: object) -> None:
    """It stays, fetches it no second time, and leaves nothing of it behind."""
    agent = stays(lab, releases, sentence, **injected)
    fetched = len([row for row in lab.server.log if row[0].startswith(BUNDLES)])
    agent.poll()
    assert agent.problem and agent.problem.startswith("refused before: ")
    assert fetched == len([row for row in lab.server.log if row[0].startswith(BUNDLES)])
    assert lab.store.pointed() == releases[12].digest


def unpacked(bundle: Bundle) -> dict[str, bytes]:
    with tarfile.open(bundle.path) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]
