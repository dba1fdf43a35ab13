"""What devices and the registry tell each other: tags of a model version.

edge.health.kiosk-07 = {"alias": "challenger", "at": "2026-11-26T01:00:00Z", "bundle_sha256": "...", ...}
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

# They lead to a version's bundle, and are written when the bundle is stored.
BUNDLE_SHA256, BUNDLE_BYTES, BUNDLE_RELEASE, BUNDLE_PATH = (
    "bundle_sha256",
    "bundle_bytes",
    "bundle_release",
    "bundle_path",
)

PREFIX = "edge.health."
"""With a device's name the tag of its newest report on a version."""

HEALTHY, REVERTED, REFUSED = "healthy", "reverted", "refused"
DEVICE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
LONGEST_WHY = 500
"""Characters; MLflow takes 5,000 for the whole tag."""


@dataclass(frozen=True)
class DeviceReport:
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
        """The tag that holds the report."""
        return f"{PREFIX}{self.device}"

    def to_json(self) -> str:
        """The tag's value."""
        value = {name: text for name, text in asdict(self).items() if name != "device"}
        return json.dumps({**value, "why": self.why[:LONGEST_WHY]}, sort_keys=True)


def read_reports(tags: Mapping[str, str]) -> tuple[Sequence[DeviceReport], Sequence[str]]:
    """Find the devices' reports among a version's tags.

    Args:
        tags: all tags of one model version.

    Returns:
        The reports, by device, and the keys of those that cannot be read: they count for none.
    """
    reports, unreadable = [], []
    for key, value in sorted(tags.items()):
        if not key.startswith(PREFIX):
            continue
        try:
            report = DeviceReport(device=key.removeprefix(PREFIX), **json.loads(value))
        except (TypeError, ValueError, RecursionError):
            unreadable.append(key)
            continue
        texts = (report.alias, report.bundle_sha256, report.profile, report.state, report.why, report.at)
        is_report = (
            all(isinstance(text, str) for text in texts)
            and type(report.release) is int
            and report.state in (HEALTHY, REVERTED, REFUSED)
            and DEVICE_NAME.fullmatch(report.device)
        )
        reports.append(report) if is_report else unreadable.append(key)
    return reports, unreadable
