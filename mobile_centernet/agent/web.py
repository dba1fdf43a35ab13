"""One HTTP request whose answer begins in time, whatever the server does. Redirects are not followed."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from mobile_centernet.bundle.errors import TransferError

AGENT = {"User-Agent": "mobile-centernet-edge", "Accept-Encoding": "identity"}


@contextmanager
def request(
    method: str, url: str, headers: Mapping[str, str], timeout_s: float, body: bytes | None = None
) -> Iterator[http.client.HTTPResponse]:
    """The answer, whose head is here within `timeout_s`, as is each piece of its body. Raises TransferError."""
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc}{parts.path}"
    connection = _connection(parts.scheme, parts.hostname or "", parts.port, timeout_s)
    try:
        with _limited(connection, timeout_s):
            connection.request(method, f"{parts.path}?{parts.query}", body, {**AGENT, **headers})
            response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise TransferError(f"{where}: expected an answer within {timeout_s:g} s, found {said}") from error
    try:
        yield response
    finally:
        connection.close()


def read_within(response: http.client.HTTPResponse, limit: int, timeout_s: float, where: str) -> bytes:
    """The whole body of at most `limit` bytes, within `timeout_s`. Raises TransferError."""
    deadline = time.monotonic() + timeout_s
    pieces: list[bytes] = []
    size = 0
    while piece := read_piece(response, 1 << 16, where):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise TransferError(f"{where}: expected at most {limit} bytes, found more")
        if time.monotonic() > deadline:
            raise TransferError(f"{where}: expected a whole answer within {timeout_s:g} s, found {size} bytes by then")
    return b"".join(pieces)


def read_piece(response: http.client.HTTPResponse, most: int, where: str) -> bytes:
    """The next bytes, none at the end. Raises TransferError where the connection breaks."""
    try:
        return response.read1(most)
    except (OSError, http.client.HTTPException) as error:
        raise TransferError(f"{where}: expected more of an answer, but it broke off ({error})") from error


def _connection(scheme: str, host: str, port: int | None, timeout_s: float) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=timeout_s)


@contextmanager
def _limited(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Cut the connection off after so long: a socket's own timeout begins anew with every byte."""

    def cut() -> None:
        if connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
