"""A bucket on 127.0.0.1 that takes files by PUT and shows them by HEAD, and fails when told to."""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit


class BucketRequest(BaseHTTPRequestHandler):
    server: "FrameServer"
    timeout = 10

    def do_PUT(self) -> None:
        server, path = self.server, urlsplit(self.path).path
        fault = server.faults.popleft() if server.faults else None
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length // 2 if fault == "cut" else length)
        server.came += len(content)
        if fault == "cut":
            return self.connection.close()
        if isinstance(fault, int):
            return self.say(fault)
        if server.expects and self.headers.get("Authorization") != server.expects:
            return self.say(401)
        if fault == "lie":
            return self.say(200)
        server.files[path] = content[: length // 2] if fault == "half" else content
        server.stored[path] += 1
        if fault == "mute":  # it stores all, and nobody hears of it
            return self.connection.close()
        return self.say(200, {"ETag": f'"{hashlib.md5(content).hexdigest()}"'} if server.etags else {})  # noqa: S324

    def do_HEAD(self) -> None:
        content = self.server.files.get(urlsplit(self.path).path)
        if content is None:
            return self.say(404)
        etag = f'"{hashlib.md5(content).hexdigest()}"'  # noqa: S324
        return self.say(200, {"ETag": etag} if self.server.etags else {}, str(len(content)))

    def do_GET(self) -> None:
        """What signs addresses."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        base = f"http://127.0.0.1:{self.server.server_port}/{query['key']}?signature=secret"
        answer = {"put": base, "headers": {"X-Signed": "yes"}} | ({"head": base} if self.server.heads else {})
        body = json.dumps(answer).encode()
        self.say(200, {}, str(len(body)))
        self.wfile.write(body)

    def say(self, code: int, headers: dict[str, str] | None = None, length: str = "0") -> None:
        with suppress(OSError):
            self.send_response(code)
            for name, value in {"Content-Length": length, **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class FrameServer(ThreadingHTTPServer):
    """`files` by path; `stored` how often each was stored whole; `faults` happen to the next PUTs, one each:
    "cut", "mute", "lie", "half", or a status."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BucketRequest)
        self.files: dict[str, bytes] = {}
        self.stored: Counter[str] = Counter()
        self.faults: deque[str | int | None] = deque()
        self.came = 0
        self.etags = self.heads = True
        self.expects = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # killed clients


@contextmanager
def frame_server() -> Iterator[FrameServer]:
    with FrameServer() as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()
