"""What the channel's signed statement says: the client of The Update Framework, behind this agent's own requests.

A poll without change asks for timestamp.json alone, compares its bytes with those that were verified, and writes
nothing. Everything else is python-tuf's: rollback, freeze, mix-and-match, endless data, revoked and missing keys.
"""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256

from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from mobile_centernet.agent.config import TrustSettings
from mobile_centernet.agent.errors import NothingOfferedError, TransferError
from mobile_centernet.agent.http import Hear, credentials, read_within, request
from mobile_centernet.agent.store import AgentStore
from mobile_centernet.bundle.errors import StorageError
from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.keys import require_native_cryptography
from mobile_centernet.trust.layout import (
    MAX_STATEMENT,
    METADATA_FOLDER,
    TARGETS,
    TARGETS_FOLDER,
    TIMESTAMP,
    statement_path,
    stored_path,
)
from mobile_centernet.trust.statement import Statement

EARLIEST = datetime(2026, 11, 1, tzinfo=timezone.utc).timestamp()
"""No release of this agent is older, so a clock before it is wrong."""

FULL_EVERY_S = 24 * 3600.0
"""So often everything is asked for, though timestamp.json is the same: a new root may be there."""

_ROOT_FILE = re.compile(r"\d+\.root\.json")
_NOT_THERE = (400, 403, 404, 410, 500)  # what servers say of a file that is not there; MLflow before S3 says 500


@dataclass(frozen=True)
class Offer:
    """A verified statement.

    digest: SHA-256 of the statement
    unlisted: why its bundle is not to be taken, though the statement names it; None where `bundles` lists it
    """

    statement: Statement
    digest: str
    unlisted: str | None


class TrustClient:
    """Of one device. Every method raises TransferError, TrustError or StorageError, in one sentence, in time."""

    def __init__(self, settings: TrustSettings, store: AgentStore, hear: Hear) -> None:
        require_native_cryptography()
        self._settings = settings
        self._folder = store.trust
        self._hear = hear
        self._base = settings.url.rstrip("/")
        self._known: Offer | None = None
        self._listed_by: tuple[str, bytes] | None = None  # a statement, and the delegations that listed its bundle
        self._timestamp = b""
        self._expires = 0.0
        self._full_again = 0.0

    def offered(self, seen: float) -> Offer:
        """What the channel names now. Raises NothingOfferedError where nothing was ever signed.

        Args:
            seen: the latest time that this device knows has passed, in seconds since 1970.
        """
        now = max(time.time(), seen, EARLIEST)
        if self._known and time.monotonic() < self._full_again and now < self._expires:
            newest = self.fetch(f"{METADATA_FOLDER}/{TIMESTAMP}.json", UpdaterConfig().timestamp_max_length)
            if newest == self._timestamp:
                return self._known
        self._known = None
        try:
            offer = self._refreshed(now)
            self._timestamp = (self._folder / f"{TIMESTAMP}.json").read_bytes()
            expires = Metadata[Timestamp].from_bytes(self._timestamp).signed.expires.timestamp()
        except OSError as error:
            raise StorageError(f"{self._folder}: cannot be read or changed ({error.strerror})") from error
        except (DownloadError, RepositoryError, ValueError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise TransferError(f"{self._base}: metadata refused: {said:.300}") from error
        self._known, self._expires, self._full_again = offer, expires, time.monotonic() + FULL_EVERY_S
        return offer

    def url(self, path: str, digest: str) -> str:
        """Where a target lies."""
        return f"{self._base}/{TARGETS_FOLDER}/{stored_path(path, digest)}"

    def headers(self) -> dict[str, str]:
        """Of every request."""
        return credentials(self._base, environment=False)

    def fetch(self, name: str, limit: int) -> bytes:
        """A file of the repository, of at most so many bytes."""
        return self._get(f"{self._base}/{name}", limit)

    def _refreshed(self, now: float) -> Offer:
        self._folder.mkdir(parents=True, exist_ok=True)
        root = self._settings.root.read_bytes()
        fetcher = RequestFetcher(self._get)
        updater = Updater(str(self._folder), f"{self._base}/{METADATA_FOLDER}", fetcher=fetcher, bootstrap=root)
        # A clock at 1970 must not make everything that was ever signed valid again.
        updater._trusted_set.reference_time = datetime.fromtimestamp(now, timezone.utc)
        updater.refresh()
        path = statement_path(self._settings.channel)
        target = updater.get_targetinfo(path)
        if target is None:
            raise NothingOfferedError(f"{self._base}: {self._settings.channel} names no release")
        if not target.length <= MAX_STATEMENT:
            raise TrustError(f"{self._base}: {path}: expected at most {MAX_STATEMENT} bytes, found {target.length}")
        digest = target.hashes.get("sha256", "")
        content = self.fetch(f"{TARGETS_FOLDER}/{stored_path(path, digest)}", target.length)
        target.verify_length_and_hashes(content)
        statement = Statement.parse(content)

        # The list of bundles is long: it is asked for when the statement or who may list bundles has changed.
        delegations = sha256((self._folder / f"{TARGETS}.json").read_bytes()).digest()
        if self._listed_by == (digest, delegations):
            return Offer(statement, digest, None)
        listed = updater.get_targetinfo(statement.bundle)
        if listed is not None and (listed.length, listed.hashes.get("sha256")) == (statement.bytes, statement.sha256):
            self._listed_by = (digest, delegations)
            return Offer(statement, digest, None)
        found = "none" if listed is None else "another of that name"
        self._listed_by = None
        return Offer(statement, digest, f"{statement.bundle}: expected a bundle that `bundles` lists, found {found}")

    def _get(self, url: str, limit: int) -> bytes:
        timeout_s = self._settings.timeout_s
        with request("GET", url, self.headers(), timeout_s, self._hear) as answer:
            is_root = _ROOT_FILE.fullmatch(url.rpartition("/")[2])
            if is_root and answer.status in _NOT_THERE:
                raise DownloadHTTPError(f"{url}: there is none", 404)
            if answer.status in (401, 403):
                raise TransferError(f"{url}: access denied (HTTP {answer.status}): check ~/.netrc")
            if answer.status != 200:
                raise TransferError(f"{url}: expected a file of the repository, found status {answer.status}")
            content = read_within(answer, limit, timeout_s, url)
        if is_root and not content.lstrip().startswith(b"{"):  # a page that says so with status 200
            raise DownloadHTTPError(f"{url}: there is none", 404)
        return content


class RequestFetcher(FetcherInterface):
    """python-tuf's downloads, made by `get`, whose errors pass through as they are."""

    def __init__(self, get: Callable[[str, int], bytes]) -> None:
        self._get = get

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise NotImplementedError(f"{url}: metadata is fetched by download_bytes, bundles by `http.download`")

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """As the base class's, but within the agent's time-out, without redirects and temporary files."""
        return self._get(url, max_length)
