"""What fetching is about: an archive at an address, what a server says about it, and how it is read.

Credentials never stand in an address: they come from ~/.netrc, from environment variables that the address names
(`?token=$DATA_TOKEN`), from a variable with a bearer token, or from where s3fs and gcsfs look for them.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from urllib3.response import BaseHTTPResponse

from mobile_centernet.errors import UserError

CHUNK = 1 << 20
SECRET_KEY = re.compile(r"auth|cred|key|pass|pwd|secret|session|sig|token", re.IGNORECASE)
"""In the name of an address's parameter: its value is a secret."""


@dataclass(frozen=True)
class Archive:
    """One file to fetch.

    `sha256` is lower case hexadecimal; `token_env` names a variable that holds a bearer token; `size` is in bytes, and
    what sends more is not read any further.

    `$NAME` in the address stands for an environment variable, so that errors and logs, which print the address as it
    is given here, never show what it holds. Raises UserError where the address itself holds credentials.
    """

    url: str
    sha256: str
    token_env: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        check_address(self.url)


@dataclass(frozen=True)
class RemoteVersion:
    """What a server says about a file without sending it. `size` is in bytes; empty text: it does not say."""

    size: int | None = None
    etag: str = ""
    modified: str = ""

    @property
    def validator(self) -> str:
        """What If-Range takes: a strong ETag, otherwise the date of the last change (RFC 9110, 13.1.5)."""
        return self.modified if not self.etag or self.etag.startswith("W/") else self.etag

    def differs(self, other: "RemoteVersion") -> bool:
        """Whether two answers name different sizes or ETags, or, where one has no ETag, different dates."""
        tags = (self.etag, other.etag) if self.etag and other.etag else (self.modified, other.modified)
        return any(mine and theirs and mine != theirs for mine, theirs in ((self.size, other.size), tags))


class TransientError(Exception):
    """An attempt failed in a way that may pass. `start_over`: what is here cannot be continued."""

    def __init__(self, reason: str, response: BaseHTTPResponse | None = None, *, start_over: bool = False) -> None:
        super().__init__(reason)
        self.response = response
        self.start_over = start_over


@dataclass(frozen=True)
class Reading:
    """An answer under way: `chunks` begin at byte `start`, which is 0 where the server did not resume."""

    start: int
    version: RemoteVersion
    chunks: Iterator[bytes]


class Remote(Protocol):
    """One file at an address."""

    def version(self) -> RemoteVersion:
        """Ask for the file's version only. Raises DataError, or TransientError where asking again may help."""

    def read(self, start: int, seen: RemoteVersion) -> AbstractContextManager[Reading]:
        """Read from byte `start` on, if the file still is the version `seen`; raises what `version` raises."""


def check_address(url: str) -> None:
    """Raise UserError where `url` is no address or holds credentials; the message does not repeat them."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UserError(f"expected an address such as https://host/archive.zip, found none ({error})") from None
    if not parts.scheme or "://" not in url:
        raise UserError(f"{url}: expected an address such as https://host/archive.zip or s3://bucket/archive.tar")
    is_http = parts.scheme in ("http", "https")
    if parts.password is not None or (is_http and parts.username is not None):
        shown = f"{parts.scheme}://...@{parts.hostname}{parts.path}"
        raise UserError(f"{shown}: expected an address without user and password (they belong into ~/.netrc)")
    for key, value in parse_qsl(f"{parts.query}&{parts.fragment}"):
        if SECRET_KEY.search(key) and not value.startswith("$"):
            shown = f"{parts.scheme}://{parts.hostname}{parts.path}?{key}=..."
            raise UserError(f"{shown}: expected {key} from the environment ({key}=$NAME), found its value")
