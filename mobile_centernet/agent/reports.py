"""Reports on their way to the registry. They are never required: what is not taken is offered again, then forgotten.

Each is signed by the device's own key, which is made at its first start and leaves it never; whoever counts reports
knows the public half (`device.pub`) of each device that was enrolled.
"""

import json
import logging
from collections import deque

from securesystemslib.signer import CryptoSigner

from mobile_centernet.agent import disk
from mobile_centernet.agent.config import Config
from mobile_centernet.agent.errors import TransferError
from mobile_centernet.agent.http import Hear, credentials, read_within, request
from mobile_centernet.agent.store import AgentStore, Installed
from mobile_centernet.outside import MAX_TEXT
from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.keys import PUBLIC_SUFFIX, generate_key, private_key
from mobile_centernet.trust.reports import PREFIX, DeviceReport

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
        """Offer everything once, oldest first, up to the first that is not taken, as a tag of a version in MLflow."""
        base, timeout_s = self._config.report.url.rstrip("/"), self._config.trust.timeout_s
        while self._waiting:
            version, report = self._waiting[0]
            try:
                tag = {"name": self._config.trust.model, "version": version, "key": f"{PREFIX}{report.device}"}
                body = json.dumps({**tag, "value": report.to_json(self._signer())}).encode()
                headers = {**credentials(base, environment=True), "Content-Type": "application/json"}
                with request("POST", f"{base}{API}", headers, timeout_s, self._hear, body) as answer:
                    read_within(answer, MAX_TEXT, timeout_s, base)
                    if answer.status != 200:
                        raise TransferError(f"{base}: expected the report to be taken, found status {answer.status}")
            except (OSError, TransferError, TrustError) as error:
                logger.info("report not taken: %s", error)
                return
            self._waiting.popleft()

    def _signer(self) -> CryptoSigner:
        """The device's key, made where there is none yet. Raises TrustError."""
        if not self._key.exists():
            new = self._key.with_name(f"new.{self._key.name}")
            halves = [(each.with_suffix(PUBLIC_SUFFIX), each) for each in (new, self._key)]
            for path in halves[0]:
                disk.unlink(path)
            generate_key(new)
            for made, place in zip(*halves, strict=True):
                disk.rename(made, place)
            disk.sync_folder(self._key.parent)
        private = private_key(str(self._key))
        if private is None:
            raise TrustError(f"{self._key}: expected this device's key, found an empty file")
        return CryptoSigner(private)
