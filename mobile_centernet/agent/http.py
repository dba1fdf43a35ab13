"""HTTP for a device: requests that end in time and hear whoever wants them to stop, whatever the server does.

Each is made in a thread of its own, which does nothing but wait for the network: looking up names, connecting, TLS and
reading cannot be interrupted otherwise. Redirects are not followed.
"""

import base64
import functools
import http.client
import netrc
import os
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mobile_centernet.agent.errors import TransferError
from mobile_centernet.bundle.errors import StorageError
from mobile_centernet.errors import printable
from mobile_centernet.files import file_digest

Hear = Callable[[], None]
"""Called at least five times a second; what it raises ends the request."""

_HEADERS = {"User-Agent": "mobile-centernet-edge", "Accept-Encoding": "identity"}
_CHUNK = 1 << 16
_AHEAD = 4  # pieces that wait for whoever reads them
_TICK = 0.2


@dataclass(frozen=True)
class Answer:
    """Of a server: `read` gives the next piece of the body, b"" at its end. TransferError where it breaks off."""

    status: int
    headers: Mapping[str, str]
    read: Callable[[], bytes]


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # reads the system's certificates, which takes longer than a poll may


@contextmanager
def request(
    method: str, url: str, headers: Mapping[str, str], timeout_s: float, hear: Hear, body: bytes | None = None
) -> Iterator[Answer]:
    """Send one request and yield its answer.

    Args:
        method: such as "GET".
        url: http:// or https://.
        headers: besides those of every request.
        timeout_s: seconds until the answer's head must be here, and the longest wait for each piece of its body.
        hear: is asked while waiting.
        body: what to send.

    Raises:
        TransferError: no answer in time.
    """
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.hostname}{parts.path}"
    host, port = parts.hostname or "", parts.port
    patience = timeout_s + 1  # whoever waits for this thread gives up first
    connection = (
        http.client.HTTPSConnection(host, port, timeout=patience, context=_tls())
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=patience)
    )
    arrived: queue.Queue[http.client.HTTPResponse | bytes | Exception] = queue.Queue(_AHEAD)
    left = threading.Event()

    def pass_on(item: http.client.HTTPResponse | bytes | Exception) -> None:
        while not left.is_set():
            with suppress(queue.Full):
                arrived.put(item, timeout=_TICK)
                return

    def carry() -> None:
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target or "/", body, {**_HEADERS, **headers})
            response = connection.getresponse()
            pass_on(response)
            while piece := response.read1(_CHUNK):
                pass_on(piece)
                if left.is_set():
                    break
            pass_on(b"")
        except Exception as error:  # noqa: BLE001  # it belongs to the caller's thread
            pass_on(error)
        finally:
            connection.close()

    def take(what: str) -> http.client.HTTPResponse | bytes:
        late = time.monotonic() + timeout_s
        while True:
            hear()
            try:
                item = arrived.get(timeout=_TICK)
            except queue.Empty:
                if time.monotonic() > late:
                    raise TransferError(f"{where}: timed out after {timeout_s:g} s (waiting for {what})") from None
                continue
            if isinstance(item, Exception):
                # Others than these may quote what was sent, a password with it.
                is_known = isinstance(item, OSError | http.client.HTTPException)
                said = (getattr(item, "strerror", None) or str(item)) if is_known else ""
                raise TransferError(
                    printable(f"{where}: expected {what}, found {said or type(item).__name__}")
                ) from item
            return item

    threading.Thread(target=carry, name="request", daemon=True).start()
    try:
        head = take("an answer")
        assert isinstance(head, http.client.HTTPResponse)  # noqa: S101  # what `carry` passes on first
        yield Answer(head.status, head.headers, lambda: take("more of an answer"))  # type: ignore[arg-type, return-value]
    finally:
        left.set()
        if (sock := connection.sock) is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def read_within(answer: Answer, limit: int, timeout_s: float, where: str) -> bytes:
    """The whole body of at most `limit` bytes, within `timeout_s`. Raises TransferError."""
    deadline = time.monotonic() + timeout_s
    content = b""
    while piece := answer.read():
        content += piece
        if len(content) > limit:
            raise TransferError(f"{where}: expected at most {limit} bytes, found more")
        if time.monotonic() > deadline:
            raise TransferError(
                f"{where}: timed out after {timeout_s:g} s ({len(content)} bytes of the answer had arrived)"
            )
    return content


def credentials(url: str, *, environment: bool) -> dict[str, str]:
    """Headers that let this device in, read again each time, so that they can change under a running agent.

    Args:
        url: whose host `~/.netrc` (or `$NETRC`) may name.
        environment: whether those of MLFLOW_TRACKING_* are meant for it.

    Raises:
        TransferError: what is there cannot be used; it is never quoted.
    """
    names = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    token, user, password = (os.environ.get(name) if environment else None for name in names)
    named = os.environ.get("NETRC")
    if not token and not (user and password):
        try:
            # A service has no home folder, or may not enter it.
            if not named and not (Path.home() / ".netrc").is_file():
                return {}
        except (OSError, RuntimeError):
            return {}
        try:
            found = netrc.netrc(named or str(Path.home() / ".netrc")).authenticators(urlsplit(url).hostname or "")
        except (OSError, ValueError, netrc.NetrcParseError) as error:
            raise TransferError(
                f"{named or '~/.netrc'}: expected credentials in netrc form, found none ({type(error).__name__})"
            ) from None
        if not found:
            return {}
        user, password = found[0], found[2]
    if not all(each.isprintable() and each.isascii() for each in (token or "", user or "") if each):
        raise TransferError(
            "credentials: expected a token or user of printable ASCII without a line's end, found another"
        )
    if token:
        return {"Authorization": f"Bearer {token}"}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def download(
    url: str,
    size: int,
    sha256: str,
    partial: Path,
    headers: Mapping[str, str],
    timeout_s: float,
    rate: float,
    hear: Hear,
) -> None:
    """Bring `partial` to its size and digest, continuing from what it holds already.

    A server that ignores Range is read from the beginning. What was fetched stays for the next attempt, unless its
    digest is wrong.

    Args:
        url: of the file.
        size: bytes of the whole file.
        sha256: its digest.
        partial: where it grows.
        headers: of the request.
        timeout_s: seconds for the answer's head and for each piece.
        rate: bytes per second that it must bring, over each `timeout_s`; so it ends within size / rate.
        hear: is asked while waiting.

    Raises:
        TransferError: it may be tried again.
        StorageError: the disk refuses.
    """
    try:
        have = partial.stat().st_size if partial.exists() else 0
        if have > size:
            have = 0
        if have < size:
            asked = {**headers, "Range": f"bytes={have}-"} if have else headers
            with request("GET", url, asked, timeout_s, hear) as answer, partial.open("ab") as file:
                name, wanted = "Content-Range", rf"bytes {have}-\d+/{size}"
                if answer.status == 200:
                    name, wanted, have = "Content-Length", str(size), 0
                elif answer.status != 206:
                    raise TransferError(f"{url}: expected the bundle, found status {answer.status}")
                found = answer.headers.get(name, str(size) if answer.status == 200 else "none")
                if not re.fullmatch(wanted, found):
                    shown = wanted.replace(r"\d+", "")
                    raise TransferError(f"{url}: expected {shown} of the bundle, found an answer of {found:.60}")
                file.truncate(have)
                mark, marked = time.monotonic(), have
                while have < size:
                    if not (piece := answer.read()):
                        raise TransferError(f"{url}: expected {size} bytes, found {have}; the download resumes later")
                    file.write(piece[: size - have])
                    have += len(piece)
                    elapsed = time.monotonic() - mark
                    if elapsed > timeout_s:
                        if have - marked < rate * elapsed:
                            raise TransferError(f"{url}: too slow: {have - marked} bytes in {elapsed:.0f} s")
                        mark, marked = time.monotonic(), have
        digest = file_digest(partial)
        if digest != sha256:
            partial.unlink()
            raise TransferError(f"{url}: expected SHA-256 {sha256}, found {digest}; the download starts again")
    except OSError as error:
        raise StorageError(f"{partial}: cannot be written ({error.strerror})") from error
