"""Reports on their way to the registry. They are never required: what is not taken is offered again, then forgotten.

Each is signed by the device's own key, which is made at its first start and leaves it never; whoever counts reports
knows the public half (`device.pub`) of each device that was enrolled.
"""

import json
import logging
import os
from collections import deque

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mobile_centernet.agent import disk
from mobile_centernet.agent.config import Config
from mobile_centernet.agent.errors import TransferError
from mobile_centernet.agent.http import Hear, credentials, read_within, request
from mobile_centernet.agent.outside import MAX_TEXT
from mobile_centernet.agent.store import AgentStore, Installed
from mobile_centernet.bundle.protocol import DeviceReport

logger = logging.getLogger(__name__)

API = "/api/2.0/mlflow/model-versions/set-tag"
WAITING = 16
"""So many wait; older ones are forgotten."""


class Outbox:
    """Empty for ever where the settings want no reports."""

    def __init__(self, config: Config, store: AgentStore, hear: Hear) -> None:
        self._config = config
        self._hear = hear
        self._key = store.root / "device.key"
        self._waiting: deque[tuple[str, DeviceReport]] = deque(maxlen=WAITING)

    def put(self, installed: Installed, state: str, at: str, why: str = "") -> None:
        """Have a report of one release wait; the arguments are `DeviceReport`'s."""
        if self._config.report.url:
            report = DeviceReport(
                device=self._config.device.name,
                channel=self._config.trust.channel,
                bundle_sha256=installed.bundle,
                profile=self._config.device.profile,
                number=installed.number,
                state=state,
                why=why,
                at=at,
            )
            self._waiting.append((installed.version, report))

    def send(self) -> None:
        """Offer everything once, oldest first, up to the first that is not taken."""
        while self._waiting:
            version, report = self._waiting[0]
            try:
                self._deliver(version, report)
            except (OSError, TransferError, ValueError) as error:
                logger.info("report not taken: %s", error)
                return
            self._waiting.popleft()

    def _deliver(self, version: str, report: DeviceReport) -> None:
        """Set a tag of a version in MLflow."""
        base, timeout_s = self._config.report.url.rstrip("/"), self._config.trust.timeout_s
        value = report.to_json(self._private_key())
        tag = {"name": self._config.trust.model, "version": version, "key": report.key, "value": value}
        headers = {**credentials(base, environment=True), "Content-Type": "application/json"}
        body = json.dumps(tag).encode()
        with request("POST", f"{base}{API}", headers, timeout_s, self._hear, body) as answer:
            read_within(answer, MAX_TEXT, timeout_s, base)
            if answer.status != 200:
                raise TransferError(f"{base}: expected the report to be taken, found status {answer.status}")

    def _private_key(self) -> Ed25519PrivateKey:
        """The device's key, made where there is none yet. ValueError where the file is damaged."""
        if not self._key.exists():
            private = Ed25519PrivateKey.generate()
            secret = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            temporary = self._key.with_name(".device.key.tmp")
            disk.unlink(temporary)
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
            disk.write_file(temporary, secret)
            disk.write_file(self._key.with_suffix(".pub"), public)
            disk.rename(temporary, self._key)
            disk.sync_folder(self._key.parent)
        return Ed25519PrivateKey.from_private_bytes(self._key.read_bytes())
