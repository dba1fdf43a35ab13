"""What devices and the registry tell each other: tags of a model version.

edge.health.kiosk-07 = {"at": "2026-11-26T01:00:00Z", "bundle_sha256": "...", "channel": "canary", "signature": ...}
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.keys import parse_public_key

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

    @property
    def key(self) -> str:
        """The tag that holds the report."""
        return f"{PREFIX}{self.device}"

    def to_json(self, key: Ed25519PrivateKey) -> str:
        """The tag's value, signed by the device's key."""
        value = {name: text for name, text in asdict(self).items() if name != "device"}
        value["why"] = self.why[:LONGEST_WHY]
        return json.dumps({**value, "signature": key.sign(_signed(self.device, value)).hex()}, sort_keys=True)


def _signed(device: str, value: Mapping[str, object]) -> bytes:
    return f"{device} {json.dumps(value, sort_keys=True)}".encode()


def read_reports(
    tags: Mapping[str, str], enrolled: Mapping[str, Ed25519PublicKey]
) -> tuple[Sequence[DeviceReport], Sequence[str]]:
    """Find the devices' reports among a version's tags. A key counts once, whatever devices it speaks for.

    Args:
        tags: all tags of one model version, which anybody may have written.
        enrolled: the key of each device whose word counts.

    Returns:
        The reports, by device, and the keys of those that are unreadable or not signed by their device.
    """
    reports, unreadable = [], []
    heard: set[bytes] = set()
    for tag, text in sorted(tags.items()):
        if not tag.startswith(PREFIX):
            continue
        device = tag.removeprefix(PREFIX)
        try:
            value = json.loads(text)
            signature = bytes.fromhex(value.pop("signature"))
            report = DeviceReport(device=device, **value)
            key = enrolled[device]
            key.verify(signature, _signed(device, value))
            identity = key.public_bytes_raw()
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError, InvalidSignature):
            unreadable.append(tag)
            continue
        texts = (report.channel, report.bundle_sha256, report.profile, report.state, report.why, report.at)
        is_report = (
            all(isinstance(text, str) for text in texts)
            and type(report.number) is int
            and report.state in (HEALTHY, REVERTED, REFUSED)
            and DEVICE_NAME.fullmatch(device)
            and identity not in heard
        )
        heard.add(identity)
        reports.append(report) if is_report else unreadable.append(tag)
    return reports, unreadable


def read_enrolled(folder: Path) -> dict[str, Ed25519PublicKey]:
    """The public keys of a folder's files, NAME.pub for the device NAME. Raises BundleError for what is none."""
    try:
        return {path.stem: parse_public_key(path.read_bytes(), str(path)) for path in sorted(folder.glob("*.pub"))}
    except OSError as error:
        raise BundleError(f"{folder}: expected devices' public keys, NAME.pub, found none: {error}") from error
