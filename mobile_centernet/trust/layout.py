"""Where everything lies in a repository, and which role signs what.

metadata/timestamp.json             the only file that is ever overwritten; it leads to all others
metadata/N.ROLE.json                written once
targets/bundles/SHA256.NAME.tar     a release, which `bundles` vouches for
targets/channels/CHANNEL/SHA256.statement.json    what the devices of a channel run, signed by the channel's role
"""

import re
from collections.abc import Mapping

ROOT, TARGETS, SNAPSHOT, TIMESTAMP = "root", "targets", "snapshot", "timestamp"
BUNDLES, CHAMPION, CANARY = "bundles", "champion", "canary"
CHANNELS = (CHAMPION, CANARY)
PATTERNS: Mapping[str, str] = {BUNDLES: "bundles/*", **{name: f"channels/{name}/*" for name in CHANNELS}}
"""What each delegated role may sign: no path matches two of them."""

LIFE_DAYS: Mapping[str, int] = {ROOT: 365, TARGETS: 365, BUNDLES: 180, CHAMPION: 180, CANARY: 180} | {
    SNAPSHOT: 14,
    TIMESTAMP: 4,  # a machine that is down over a long weekend must not stop a fleet
}
"""By role: days until what it signs expires."""

DEVICE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
METADATA_FOLDER, TARGETS_FOLDER = "metadata", "targets"
MAX_STATEMENT = 1 << 16
MAX_VERSION = 1 << 31
"""Of metadata and of statements: nobody gets there by counting, so what is beyond was signed to lock others out."""


def statement_path(channel: str) -> str:
    """The target path of a channel's statement."""
    return f"channels/{channel}/statement.json"


def bundle_path(model: str, version: str, sha256: str) -> str:
    """The target path of a release; another file gets another name."""
    return f"bundles/{model}-{version}-{sha256[:12]}.tar"


def stored_path(path: str, sha256: str) -> str:
    """Below TARGETS_FOLDER, where the target `path` lies: `consistent_snapshot` puts the digest before the name."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{sha256}.{name}"
