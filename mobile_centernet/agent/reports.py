"""Reports on their way to the registry. They are never required: what is not taken is offered again, then forgotten."""

import logging
from collections import deque

from mobile_centernet.agent.config import Config
from mobile_centernet.agent.errors import TransferError
from mobile_centernet.agent.registry_client import RegistryClient
from mobile_centernet.agent.store import Installed
from mobile_centernet.bundle.protocol import DeviceReport

logger = logging.getLogger(__name__)

WAITING = 16
"""So many wait; older ones are forgotten."""


class Outbox:
    """Empty for ever where the settings want no reports."""

    def __init__(self, config: Config, registry: RegistryClient) -> None:
        self._config = config
        self._registry = registry
        self._waiting: deque[tuple[str, DeviceReport]] = deque(maxlen=WAITING)

    def put(self, installed: Installed, state: str, at: str, why: str = "") -> None:
        """Have a report of one release wait; the arguments are `DeviceReport`'s."""
        if self._config.registry.report:
            report = DeviceReport(
                device=self._config.device.name,
                alias=self._config.registry.alias,
                bundle_sha256=installed.digest,
                profile=self._config.device.profile,
                release=installed.release,
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
                self._registry.report(version, report.key, report.to_json())
            except TransferError as error:
                logger.info("report not taken: %s", error)
                return
            self._waiting.popleft()
