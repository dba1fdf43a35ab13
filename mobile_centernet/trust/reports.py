"""What devices tell the registry, in tags of a model version that anybody may have written.

edge.health.kiosk-07 = {"at": "2026-11-26T01:00:00Z", "bundle_sha256": "...", "channel": "canary", "signature": ...}
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signature, Signer

from mobile_centernet.outside import parse_object, typed
from mobile_centernet.trust.keys import public_key

PREFIX = "edge.health."
"""With a device's name the tag of its newest report on a version."""

HEALTHY, REVERTED, REFUSED = "healthy", "reverted", "refused"
LONGEST_WHY = 500
"""Characters; MLflow takes 5,000 for the whole tag."""


@dataclass(frozen=True)
class DeviceReport:
    """What became of the bundle of SHA-256 `bundle_sha256` on a device.

    state: healthy  lived through its health window and was committed
           reverted ran, was unhealthy, and the device went back
           refused  never ran: not what the statement names, engine, self-test or latency
    number: of the statement that named it
    why:   one sentence where it is not healthy. at: the device's clock in UTC, which may be wrong.
    """

    device: str
    channel: str
    bundle_sha256: str
    profile: str
    number: int
    state: str
    why: str
    at: str

    def to_json(self, signer: Signer) -> str:
        """The tag's value, signed by the device's key."""
        value = {**asdict(self), "why": self.why[:LONGEST_WHY]}
        signature = signer.sign(json.dumps(value, sort_keys=True).encode()).signature
        return json.dumps({**value, "signature": signature}, sort_keys=True)


def read_reports(tags: Mapping[str, str], enrolled: Mapping[str, Key]) -> tuple[Sequence[DeviceReport], Sequence[str]]:
    """Find the devices' reports among a version's tags. A key counts once, whatever devices it speaks for.

    Args:
        tags: all tags of one model version, which anybody may have written.
        enrolled: the key of each device whose word counts.

    Returns:
        The reports, by device, and the keys of those that are unreadable or not signed by their device.
    """
    reports, unreadable = [], []
    heard: list[object] = []
    for tag, text in sorted(tags.items()):
        if not tag.startswith(PREFIX):
            continue
        try:
            value = parse_object(text)
            signature = value.pop("signature")
            report: DeviceReport = typed(value, DeviceReport)
            key = enrolled[tag.removeprefix(PREFIX)]
            key.verify_signature(Signature(key.keyid, signature), json.dumps(value, sort_keys=True).encode())
            if report.device != tag.removeprefix(PREFIX) or report.state not in (HEALTHY, REVERTED, REFUSED):
                raise ValueError("another device's, or of no state")
            if key.keyval in heard:
                raise ValueError("a key that has spoken already")
        except (KeyError, TypeError, ValueError, UnverifiedSignatureError, VerificationError):
            unreadable.append(tag)
            continue
        heard.append(key.keyval)
        reports.append(report)
    return reports, unreadable


def read_enrolled(folder: Path) -> dict[str, Key]:
    """The public keys of a folder's files, NAME.pub for the device NAME. Raises TrustError for what is none."""
    return {path.stem: public_key(str(path)) for path in sorted(folder.glob("[!.]*.pub"))}
