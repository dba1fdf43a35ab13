"""One file behind an address: http(s) with Range requests, everything else (s3, gs, file, ...) through fsspec.

Credentials never stand in an address: they come from ~/.netrc, from environment variables that the address names
(`?token=$DATA_TOKEN`), from a variable with a bearer token, or from where s3fs and gcsfs look for them.
"""

import os
import re
import string
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import IO, Protocol
from urllib.parse import parse_qsl, urlsplit

import fsspec
import requests
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from mobile_centernet.errors import DataError, UserError

CHUNK = 1 << 20
REDIRECTS = 10
SECRET_KEYS = frozenset({
    "access_token", "api_key", "apikey", "password", "sig", "signature", "token",
    "x-amz-security-token", "x-amz-signature", "x-goog-signature",
})  # fmt: skip
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that a later attempt may find gone."""
LIBRARIES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
NO_ACCESS = (
    "botocore.exceptions.NoCredentialsError",
    "botocore.exceptions.PartialCredentialsError",
    "botocore.exceptions.CredentialRetrievalError",
    "google.auth.exceptions.DefaultCredentialsError",
    "google.auth.exceptions.RefreshError",
)
CLOUD_ERRORS = ("botocore.exceptions.BotoCoreError", "google.auth.exceptions.GoogleAuthError")
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


@dataclass(frozen=True)
class Archive:
    """One file to fetch. `sha256` is lower case hexadecimal; `token_env` names a variable that holds a bearer token.

    `$NAME` in the address stands for an environment variable, so that errors and logs, which print the address as it
    is given here, never show what it holds. Raises UserError where the address itself holds credentials.
    """

    url: str
    sha256: str
    token_env: str | None = None

    def __post_init__(self) -> None:
        check_address(self.url)


@dataclass(frozen=True)
class Version:
    """What a server says about a file without sending it. `size` is in bytes; empty text: it does not say."""

    size: int | None = None
    etag: str = ""
    modified: str = ""

    @property
    def validator(self) -> str:
        """What If-Range takes: a strong ETag, otherwise the date of the last change (RFC 9110, 13.1.5)."""
        return self.modified if not self.etag or self.etag.startswith("W/") else self.etag

    def differs(self, other: "Version") -> bool:
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
    """An answer under way: `chunks` begin at byte `start`, which is 0 where the server would not go on."""

    start: int
    version: Version
    chunks: Iterator[bytes]


class Remote(Protocol):
    """One file at an address."""

    def look(self) -> Version:
        """Ask for the file's version only. Raises DataError, or TransientError where asking again may help."""

    def read(self, start: int, seen: Version) -> AbstractContextManager[Reading]:
        """Read from byte `start` on, if the file still is the version `seen`; raises what `look` raises."""


def check_address(url: str) -> None:
    """Raise UserError where `url` is no address or holds credentials; the message does not repeat them."""
    parts = urlsplit(url)
    if not parts.scheme or "://" not in url:
        raise UserError(f"{url}: expected an address such as https://host/archive.zip or s3://bucket/archive.tar")
    is_http = parts.scheme in ("http", "https")
    if parts.password is not None or (is_http and parts.username is not None):
        shown = f"{parts.scheme}://...@{parts.hostname}{parts.path}"
        raise UserError(f"{shown}: expected an address without user and password (they belong into ~/.netrc)")
    for key, value in parse_qsl(parts.query):
        if key.lower() in SECRET_KEYS and not value.startswith("$"):
            shown = f"{parts.scheme}://{parts.hostname}{parts.path}?{key}=..."
            raise UserError(f"{shown}: expected {key} from the environment ({key}=$NAME), found its value")


def open_remote(archive: Archive, timeout: tuple[float, float]) -> Remote:
    """The file at an archive's address. `timeout`: seconds to connect, and seconds without a byte.

    Raises UserError where a variable is not set, or a protocol is unknown or not installed.
    """
    try:
        url = string.Template(archive.url).substitute(os.environ)
    except KeyError as error:
        raise UserError(f"{archive.url}: expected the environment variable {error.args[0]}, which is not set") from None
    except ValueError:
        raise UserError(f"{archive.url}: expected $NAME, or $$ for a dollar sign") from None
    token = None
    if archive.token_env is not None:
        token = os.environ.get(archive.token_env)
        if not token:
            raise UserError(f"{archive.url}: expected a token in the variable {archive.token_env}, which is not set")
    if urlsplit(url).scheme in ("http", "https"):
        return HttpFile(url, archive.url, token, timeout)
    return FsspecFile(url, archive.url)


class _Bearer(requests.auth.AuthBase):
    """Takes precedence over netrc; requests drops the header where a redirect leads to another host."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class HttpFile:
    """A file behind http(s). `shown` is the address that messages may print."""

    def __init__(self, url: str, shown: str, token: str | None, timeout: tuple[float, float]) -> None:
        self._url, self._shown, self._timeout = url, shown, timeout
        self._auth = _Bearer(token) if token else None
        self._session = requests.Session()
        self._session.max_redirects = REDIRECTS

    def look(self) -> Version:
        """GET of one byte instead of HEAD: addresses that are signed for GET refuse HEAD."""
        with self._get({"Range": "bytes=0-0"}) as response:
            return _version(response)

    @contextmanager
    def read(self, start: int, seen: Version) -> Iterator[Reading]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and seen.validator:
            headers["If-Range"] = seen.validator
        with self._get(headers) as response:
            version = _version(response)
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                if version.size != start:
                    raise TransientError("a range that the server does not have (416)", start_over=True)
                yield Reading(start, version, iter(()))  # complete, only its length had not been known
                return
            if response.status_code == requests.codes.partial_content and not _continues(response, start):
                raise TransientError("another range than the one asked for", start_over=True)
            begin = start if response.status_code == requests.codes.partial_content else 0
            if begin and version.differs(seen):
                raise TransientError("another version of the file", start_over=True)
            yield Reading(begin, version, _body(response.raw))

    @contextmanager
    def _get(self, headers: dict[str, str]) -> Iterator[requests.Response]:
        headers = {"Accept-Encoding": "identity", **headers}
        try:
            response = self._session.get(
                self._url, headers=headers, auth=self._auth, stream=True, timeout=self._timeout
            )
        except requests.TooManyRedirects as error:
            raise DataError(f"{self._shown}: expected a file, found more than {REDIRECTS} redirects") from error
        except requests.exceptions.SSLError as error:
            raise DataError(f"{self._shown}: expected a certificate that holds, found: {_cause(error)}") from error
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise TransientError(_cause(error)) from error
        except requests.RequestException as error:  # an impossible address, or a redirect to one
            raise DataError(f"{self._shown}: expected a file over http, found {type(error).__name__}") from error
        with response:
            self._check(response, asked_range="Range" in headers)
            yield response

    def _check(self, response: requests.Response, *, asked_range: bool) -> None:
        code = response.status_code
        found = f"{code} {response.reason or ''}".strip()
        if code in (requests.codes.ok, requests.codes.partial_content):
            return
        if code == requests.codes.requested_range_not_satisfiable and asked_range:
            return
        if code in PASSING:
            raise TransientError(found, response.raw)
        if code in (401, 403, 407):
            hint = "the credentials in ~/.netrc or the environment are missing, wrong or expired"
            raise DataError(f"{self._shown}: expected access, found {found}; {hint}")
        raise DataError(f"{self._shown}: expected a file, found {found}")


class FsspecFile:
    """A file behind any protocol that fsspec knows."""

    def __init__(self, url: str, shown: str) -> None:
        self._shown = shown
        protocol = urlsplit(url).scheme
        try:
            self._files, self._path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            wanted = f"pip install {LIBRARIES[protocol]}" if protocol in LIBRARIES else str(error)
            raise UserError(f"{shown}: expected the library for {protocol}://, which is not there: {wanted}") from error
        except ValueError as error:
            raise UserError(f"{shown}: expected a protocol that fsspec knows, found {protocol}://") from error

    def look(self) -> Version:
        with self._named_errors():
            info = self._files.info(self._path)
        etag = next((str(info[key]) for key in ("ETag", "etag", "md5Hash") if info.get(key)), "")
        modified = next((str(info[key]) for key in ("LastModified", "updated", "mtime") if info.get(key)), "")
        return Version(info.get("size"), etag, modified)

    @contextmanager
    def read(self, start: int, seen: Version) -> Iterator[Reading]:
        version = self.look()
        start = 0 if version.differs(seen) else start
        with self._named_errors():
            file = self._files.open(self._path, "rb")
        with file:
            yield Reading(start, version, self._chunks(file, start))

    def _chunks(self, file: IO[bytes], start: int) -> Iterator[bytes]:
        with self._named_errors():
            file.seek(start)
            yield from iter(lambda: file.read(CHUNK), b"")

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise DataError(f"{self._shown}: expected a file, found none") from error
        except _raised_by("builtins.PermissionError", *NO_ACCESS) as error:
            hint = "the credentials in the environment are missing, wrong or expired"
            raise DataError(f"{self._shown}: expected access, found {type(error).__name__}; {hint}") from error
        except OSError as error:
            raise TransientError(error.strerror or type(error).__name__) from error
        except _raised_by(*CLOUD_ERRORS) as error:
            raise TransientError(type(error).__name__) from error


def _raised_by(*names: str) -> tuple[type[Exception], ...]:
    """Exceptions of the cloud libraries, of those that are in use at all: neither is a dependency."""
    pairs = [name.rsplit(".", 1) for name in names]
    return tuple(getattr(sys.modules[module], name) for module, name in pairs if module in sys.modules)


def _version(response: requests.Response) -> Version:
    headers = response.headers
    match = CONTENT_RANGE.match(headers.get("Content-Range", ""))
    total = (
        match[2] if match else headers.get("Content-Length", "") if response.status_code == requests.codes.ok else ""
    )
    size = int(total) if total.isdecimal() else None
    return Version(size, headers.get("ETag", ""), headers.get("Last-Modified", ""))


def _continues(response: requests.Response, start: int) -> bool:
    match = CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    return match is not None and match[1] is not None and int(match[1]) == start


def _body(raw: BaseHTTPResponse) -> Iterator[bytes]:
    """The bytes as they are on the server's disk: some send .tar.gz with `Content-Encoding: gzip`."""
    try:
        yield from raw.stream(CHUNK, decode_content=False)
    except HTTPError as error:
        raise TransientError(_cause(error)) from error


def _cause(error: BaseException) -> str:
    """The innermost reason: what lies around it may print the address with a token in it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
