"""HTTP for a device: requests whose answers begin in time, whatever the server does, and downloads that continue.

A download is of known size and SHA-256, in as many attempts as the network needs. Redirects are not followed.
"""

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mobile_centernet.agent.errors import TransferError
from mobile_centernet.bundle.errors import StorageError
from mobile_centernet.files import file_digest

LEAST_RATE = 1024
"""Bytes per second, over the time-out, that a download must bring; a slower one is left for later, not lost."""

_HEADERS = {"User-Agent": "mobile-centernet-edge", "Accept-Encoding": "identity"}
_CHUNK = 1 << 16
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True)
class Offer:
    """A release that the registry names. Nothing of it is trusted: the bundle's signature decides.

    digest and bytes are those of the bundle's file; release is its number as the registry says it.
    """

    version: str
    digest: str
    bytes: int
    release: int
    url: str


@contextmanager
def request(
    method: str, url: str, headers: Mapping[str, str], timeout_s: float, body: bytes | None = None
) -> Iterator[http.client.HTTPResponse]:
    """Send one request and yield its answer.

    Args:
        method: such as "GET".
        url: http:// or https://.
        headers: besides those of every request.
        timeout_s: seconds until the answer's head must be here, and the longest wait for each piece of its body.
        body: what to send.

    Raises:
        TransferError: no answer in time.
    """
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc}{parts.path}"
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)

    def cut() -> None:
        if connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, cut)  # a socket's own time-out begins again with every byte
    timer.daemon = True
    timer.start()
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, {**_HEADERS, **headers})
        response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise TransferError(f"{where}: expected an answer within {timeout_s:g} s, found {said}") from error
    finally:
        timer.cancel()
    try:
        yield response
    finally:
        connection.close()


def read_within(response: http.client.HTTPResponse, limit: int, timeout_s: float, where: str) -> bytes:
    """The whole body of at most `limit` bytes, within `timeout_s`. Raises TransferError."""
    deadline = time.monotonic() + timeout_s
    pieces: list[bytes] = []
    size = 0
    while piece := _read_piece(response, _CHUNK, where):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise TransferError(f"{where}: expected at most {limit} bytes, found more")
        if time.monotonic() > deadline:
            raise TransferError(f"{where}: expected a whole answer within {timeout_s:g} s, found {size} bytes by then")
    return b"".join(pieces)


def download(offer: Offer, partial: Path, headers: Mapping[str, str], timeout_s: float) -> None:
    """Bring `partial` to the offer's size and digest, continuing from what it holds already.

    A server that ignores Range is read from the beginning. What was fetched stays for the next attempt, unless its
    digest is wrong.

    Raises:
        TransferError: it may be tried again.
        StorageError: the disk refuses.
    """
    try:
        have = partial.stat().st_size if partial.exists() else 0
        if have > offer.bytes:
            partial.unlink()
            have = 0
        if have < offer.bytes:
            _fetch_rest(offer, partial, have, headers, timeout_s)
        found = file_digest(partial)
        if found != offer.digest:
            partial.unlink()
            where = offer.url.partition("?")[0]
            raise TransferError(f"{where}: expected SHA-256 {offer.digest}, found {found}; begins anew")
    except OSError as error:
        raise StorageError(f"{partial}: cannot be written ({error.strerror})") from error


def _fetch_rest(offer: Offer, partial: Path, have: int, headers: Mapping[str, str], timeout_s: float) -> None:
    """Add what is missing after the first `have` bytes. Raises TransferError for an answer that is not of this file."""
    where = offer.url.partition("?")[0]
    wanted = {**headers, "Range": f"bytes={have}-"} if have else headers
    with request("GET", offer.url, wanted, timeout_s) as response:
        if response.status == 206:
            answered = response.headers.get("Content-Range", "no Content-Range")
            found = _RANGE.fullmatch(answered)
            if not found or (int(found[1]), int(found[3])) != (have, offer.bytes):
                raise TransferError(f"{where}: expected bytes {have}- of {offer.bytes}, found {answered}")
        elif response.status != 200:
            raise TransferError(f"{where}: expected the bundle, found status {response.status}")
        elif response.headers.get("Content-Length") not in (None, str(offer.bytes)):
            length = response.headers["Content-Length"]
            raise TransferError(f"{where}: expected {offer.bytes} bytes, found an answer of {length}")

        size = have if response.status == 206 else 0
        with partial.open("r+b" if partial.exists() else "wb") as file:
            file.seek(size)
            file.truncate()
            mark, marked = time.monotonic(), size
            while size < offer.bytes:
                piece = _read_piece(response, min(_CHUNK, offer.bytes - size), where)
                if not piece:
                    raise TransferError(f"{where}: expected {offer.bytes} bytes, found {size}; goes on later")
                file.write(piece)
                size += len(piece)
                elapsed = time.monotonic() - mark
                if elapsed > timeout_s:
                    if size - marked < LEAST_RATE * elapsed:
                        raise TransferError(f"{where}: too slow: {size - marked} bytes in {elapsed:.0f} s")
                    mark, marked = time.monotonic(), size


def _read_piece(response: http.client.HTTPResponse, most: int, where: str) -> bytes:
    """The next bytes, none at the end. Raises TransferError where the connection breaks."""
    try:
        return response.read1(most)
    except (OSError, http.client.HTTPException) as error:
        raise TransferError(f"{where}: expected more of an answer, but it broke off ({error})") from error
