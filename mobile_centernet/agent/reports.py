"""What devices tell the registry about a release: one tag of the model version a device, the newest wins.

edge.health.kiosk-07 = {"alias": "challenger", "at": "2026-11-26T01:00:00Z", "bundle_sha256": "...", ...}
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from mobile_centernet.agent.config import DEVICE_NAME

PREFIX = "edge.health."
HEALTHY, REVERTED, REFUSED = "healthy", "reverted", "refused"
STATES = (HEALTHY, REVERTED, REFUSED)
LONGEST_WHY = 500
"""Characters; MLflow takes 5,000 for the whole tag."""


@dataclass(frozen=True)
class Report:
    """What became of the bundle of SHA-256 `bundle_sha256` on a device.

    state: healthy  lived through its health window and was committed
           reverted ran, was unhealthy, and the device went back
           refused  never ran: signature, age, engine, self-test or latency
    why:   one sentence where it is not healthy. at: the device's clock in UTC, which may be wrong.
    """

    device: str
    alias: str
    bundle_sha256: str
    profile: str
    release: int
    state: str
    why: str
    at: str

    @property
    def key(self) -> str:
        return f"{PREFIX}{self.device}"

    def to_value(self) -> str:
        value = {name: text for name, text in asdict(self).items() if name != "device"}
        return json.dumps({**value, "why": self.why[:LONGEST_WHY]}, sort_keys=True)


def read_reports(tags: Mapping[str, str]) -> tuple[Sequence[Report], Sequence[str]]:
    """The reports among a version's tags, by device, and the keys of those that cannot be read: they count for none."""
    reports, unreadable = [], []
    for key, value in sorted(tags.items()):
        if key.startswith(PREFIX):
            report = _report(key.removeprefix(PREFIX), value)
            reports.append(report) if report else unreadable.append(key)
    return reports, unreadable


def _report(device: str, value: str) -> Report | None:
    try:
        found = Report(device=device, **json.loads(value))
    except (TypeError, ValueError, RecursionError):
        return None
    texts = (found.alias, found.bundle_sha256, found.profile, found.state, found.why, found.at)
    is_report = all(isinstance(text, str) for text in texts) and type(found.release) is int
    return found if is_report and found.state in STATES and DEVICE_NAME.fullmatch(device) else None
