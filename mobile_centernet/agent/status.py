"""What the agent says about itself: a JSON file, and the same on a loopback address, also for Prometheus."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from mobile_centernet.agent.errors import ConfigError
from mobile_centernet.agent.states import State

STATUS = "status.json"


@dataclass(frozen=True)
class Status:
    """release, previous, trial: {digest, version, number, bundle} or None. Times are the device's clock in UTC.

    statement: number of the newest one that was taken
    problem: why the offered release does not run here, or the repository was not reached; None when all is well.
    events:  how often each state has ended with each event since the agent started, as "checking: failed"
    upload:  of harvested frames: how many wait and were sent since the start, and why none is sent now
    """

    device: str
    profile: str
    channel: str
    state: str
    since: str
    release: dict[str, object] | None
    previous: dict[str, object] | None
    trial: dict[str, object] | None
    offered: dict[str, object] | None
    statement: int
    problem: str | None
    failures: int
    last_check: str | None
    proof: dict[str, object] | None
    events: dict[str, int] = field(default_factory=dict)
    upload: dict[str, object] | None = None

    def to_json(self) -> str:
        return f"{json.dumps(asdict(self), indent=2)}\n"


def metrics(status: Status) -> str:
    """Prometheus' text format 0.0.4."""
    lines: list[str] = []

    def add(name: str, kind: str, what: str, values: Mapping[str, object]) -> None:
        full = f"mobile_centernet_edge_{name}"
        lines.extend([f"# HELP {full} {what}", f"# TYPE {full} {kind}"])
        lines.extend(f"{full}{labels} {value}" for labels, value in values.items())

    states = {f'{{state="{each.value}"}}': int(each.value == status.state) for each in State}
    keys = {key: key.partition(": ") for key in sorted(status.events)}
    events = {f'{{state="{state}",event="{event}"}}': status.events[key] for key, (state, _, event) in keys.items()}
    release, trial = (each or {} for each in (status.release, status.trial))
    add("state", "gauge", "1 for the agent's state.", states)
    add("release", "gauge", "Statement that named the committed release, 0 for none.", {"": release.get("number", 0)})
    add("trial_release", "gauge", "Statement that named the one on trial, 0 for none.", {"": trial.get("number", 0)})
    add("failures", "gauge", "Checks and downloads that failed in a row.", {"": status.failures})
    add("problem", "gauge", "1 while there is a problem; /status says which.", {"": int(status.problem is not None)})
    latency = (status.proof or {}).get("latency_ms", 0)
    add("latency_ms", "gauge", "Median of the last self-test, 0 for none.", {"": latency})
    if found := status.upload:
        add("field_waiting", "gauge", "Harvested frames that wait for their upload.", {"": found["waiting"]})
        add("field_sent", "gauge", "Harvested frames that were sent since the agent started.", {"": found["sent"]})
        said = "1 while frames cannot be sent; /status says why."
        add("field_problem", "gauge", said, {"": int(bool(found["problem"]))})
    add("events_total", "counter", "How often each state ended with each event.", events)
    return "\n".join(lines) + "\n"


@contextmanager
def served(port: int, status: Callable[[], Status]) -> Iterator[int]:
    """Serve /status and /metrics on 127.0.0.1, for as long as the `with` lasts.

    Args:
        port: 0 serves nothing.
        status: called for each request, in a thread.

    Yields:
        The port.

    Raises:
        ConfigError: the port is taken.
    """
    if port == 0:
        yield 0
        return

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            if self.headers.get("Host", "").partition(":")[0] not in ("127.0.0.1", "localhost"):
                self.send_error(421)  # a name of somebody else leads here, so that a browser reads him the status
            elif self.path == "/status":
                self.answer(status().to_json(), "application/json")
            elif self.path == "/metrics":
                self.answer(metrics(status()), "text/plain; version=0.0.4; charset=utf-8")
            else:
                self.send_error(404)

        def answer(self, text: str, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise ConfigError(f"status.port: expected a free port, but {port} cannot be used ({error.strerror})") from error
    with server:
        Thread(target=server.serve_forever, name="status", daemon=True).start()
        yield server.server_port
        server.shutdown()
