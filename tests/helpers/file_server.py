"""A real HTTP server on 127.0.0.1 that serves files from memory, with Range requests, and fails when told to."""

import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Request(BaseHTTPRequestHandler):
    """One request; `server.faults` may answer it in place of `answer`."""

    protocol_version = "HTTP/1.1"
    server: "FileServer"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.close_connection = True
        self.server.log.append((path, self.headers.get("Range"), self.headers.get("Authorization")))
        is_faulty = self.server.faults and self.server.faulty in path
        fault = self.server.faults.popleft() if is_faulty else None
        with suppress(BrokenPipeError, ConnectionResetError):  # the client was killed, or does not want the rest
            (fault or Request.answer)(self)

    def answer(self, body: bytes | None = None, *, send: int | None = None, length: int | None = None) -> None:
        """Serve the file as a good server does; `send` cuts the answer short, `length` lies about it."""
        server = self.server
        content = server.files.get(self.path.partition("?")[0]) if body is None else body
        if content is None:
            return self.status(404)
        if server.expects and self.headers.get("Authorization") != server.expects:
            return self.status(401, **{"WWW-Authenticate": "Basic"})
        etag = f'"{hashlib.md5(content).hexdigest()}"'  # noqa: S324
        headers = {"ETag": etag} if server.etags else {}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if server.ranges else None
        if match and self.headers.get("If-Range", etag) != etag:
            match = None
        start = int(match[1]) if match else 0
        if match and start >= len(content):
            return self.status(416, **{"Content-Range": f"bytes */{len(content)}"})
        end = min(int(match[2]) + 1, len(content)) if match and match[2] else len(content)
        if match:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        if server.lengths:
            headers["Content-Length"] = str(end - start if length is None else length)
        self.head(206 if match else 200, headers)
        return self.body(content[start : end if send is None else min(end, start + send)])

    def body(self, content: bytes) -> None:
        for place in range(0, len(content), 1 << 16):
            self.wfile.write(content[place : place + (1 << 16)])
            self.server.sent += len(content[place : place + (1 << 16)])
            time.sleep(self.server.pause)

    def status(self, code: int, **headers: str) -> None:
        self.head(code, {"Content-Length": "0", **headers})

    def head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {"Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


Fault = Callable[[Request], None]


class FileServer(ThreadingHTTPServer):
    """`faults` answer the next requests of paths with `faulty` in them, one each.

    `log` has (path, Range, Authorization) of all requests so far.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.files: dict[str, bytes] = {}
        self.faults: deque[Fault] = deque()
        self.faulty = ""
        self.log: list[tuple[str, str | None, str | None]] = []
        self.sent = 0
        self.pause = 0.0  # seconds after every 64 KiB
        self.etags = self.ranges = self.lengths = True
        self.expects = ""  # the Authorization header, if one is needed

    def add(self, path: str, content: bytes) -> str:
        self.files[path] = content
        return f"http://127.0.0.1:{self.server_port}{path}"


@contextmanager
def file_server() -> Iterator[FileServer]:
    with FileServer() as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def cut(after: int) -> Fault:
    """Close the connection after so many bytes of the body."""
    return lambda request: request.answer(send=after)


def status(code: int, **headers: str) -> Fault:
    return lambda request: request.status(code, **{name.replace("_", "-"): value for name, value in headers.items()})


def redirect(to: str) -> Fault:
    return status(302, Location=to)


def hang(seconds: float) -> Fault:
    """Say nothing at all for a while, then close."""
    return lambda request: time.sleep(seconds)
