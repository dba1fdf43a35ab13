"""A file behind http(s), read from any byte on by Range requests."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from urllib3.exceptions import HTTPError

from mobile_centernet.data.download.remote import CHUNK, Reading, RemoteVersion, TransientError
from mobile_centernet.errors import DataError

REDIRECTS = 10
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that a later attempt may find gone."""
CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18}|\*)$", re.ASCII)
LENGTH = re.compile(r"\d{1,18}$", re.ASCII)
"""Bytes; a longer number is no length of a file."""


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

    def version(self) -> RemoteVersion:
        """GET of one byte instead of HEAD: addresses that are signed for GET refuse HEAD."""
        with self._get({"Range": "bytes=0-0"}) as response:
            return _version(response)

    @contextmanager
    def read(self, start: int, seen: RemoteVersion) -> Iterator[Reading]:
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
            begin = 0
            if response.status_code == requests.codes.partial_content:
                begin, given = start, CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
                if given is None or given[1] is None or int(given[1]) != start:
                    raise TransientError("another range than the one asked for", start_over=True)
            if begin and version.differs(seen):
                raise TransientError("another version of the file", start_over=True)

            def chunks() -> Iterator[bytes]:
                """The bytes as they are on the server's disk: some send .tar.gz with `Content-Encoding: gzip`."""
                try:
                    # Not `stream`, which waits for whole chunks, however slowly they come.
                    yield from iter(lambda: response.raw.read1(CHUNK, decode_content=False), b"")
                except HTTPError as error:
                    raise TransientError(_cause(error)) from error

            yield Reading(begin, version, chunks())

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
            raise DataError(f"{self._shown}: TLS certificate verification failed: {_cause(error)}") from error
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise TransientError(_cause(error)) from error
        except requests.RequestException as error:  # an impossible address, or a redirect to one
            raise DataError(f"{self._shown}: expected a file over http, found {type(error).__name__}") from error
        code, found = response.status_code, f"{response.status_code} {response.reason or ''}".strip()
        accepted = {requests.codes.ok, requests.codes.partial_content}
        if "Range" in headers:
            accepted.add(requests.codes.requested_range_not_satisfiable)
        with response:
            if code in PASSING:
                raise TransientError(found, response.raw)
            if code in (401, 403, 407):
                hint = "the credentials in ~/.netrc or the environment are missing, wrong or expired"
                raise DataError(f"{self._shown}: expected access, found {found}; {hint}")
            if code not in accepted:
                raise DataError(f"{self._shown}: expected a file, found {found}")
            yield response


def _version(response: requests.Response) -> RemoteVersion:
    headers = response.headers
    match = CONTENT_RANGE.match(headers.get("Content-Range", ""))
    total = (
        match[2] if match else headers.get("Content-Length", "") if response.status_code == requests.codes.ok else ""
    )
    size = int(total) if LENGTH.match(total) else None
    return RemoteVersion(size, headers.get("ETag", ""), headers.get("Last-Modified", ""))


def _cause(error: BaseException) -> str:
    """The innermost reason: what lies around it may print the address with a token in it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
