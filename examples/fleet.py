"""`make demo-edge`: one promotion reaches a fleet. A real MLflow server, the real gate, five agents as processes.

    corner    the canary: it follows `challenger` and reports; the sample application draws on its video all the while
    tunnel    has no network until the others are done
    kiosk     has no room for another release
    depot     was never given the new signing key
    tram      its agent is killed again and again

Prints what runs where in the end, and why. Exit code 0 when the right release is everywhere it should be.
"""

import json
import os
import random
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import click
import cv2
import mlflow
import numpy as np

from mobile_centernet.agent.health import Heartbeat
from mobile_centernet.agent.store import AgentStore
from mobile_centernet.bundle.keys import generate_keys
from mobile_centernet.logs import setup_logging
from tests.helpers import registry_project as small
from tests.helpers.mlflow_servers import RealServer, free_port
from tests.helpers.settings import to_toml

ROOT = Path(__file__).parents[1]
MODEL = "street"
PATIENCE = 300.0
KILLS = 6


@dataclass
class FleetDevice:
    """One agent, which may be away or dead at times."""

    name: str
    folder: Path
    url: str
    trusted: Path
    alias: str = "champion"
    changes: dict[str, dict[str, object]] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0

    @property
    def root(self) -> Path:
        return self.folder / "device"

    def start(self) -> None:
        document: dict[str, dict[str, object]] = {
            "registry": {"url": self.url, "model": MODEL, "alias": self.alias, "report": True, "timeout_s": 20.0},
            "device": {"name": self.name, "profile": self.name},
            "paths": {"root": str(self.root), "trusted": [str(self.trusted)]},
            "poll": {"interval_s": 1.0, "longest_s": 3.0},
            "health": {"window_s": 1.0, "start_s": 60.0, "gap_s": 20.0},
            "store": {"keep_free_mb": 0},
            "proof": {"runs": 3},
        }
        for section, values in self.changes.items():
            document[section].update(values)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "edge.toml").write_text(to_toml(document))
        command = [sys.executable, "-m", "mobile_centernet.agent.cli"]
        command += ["--config", str(self.folder / "edge.toml"), "run"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log)

    def stop(self, *, kill: bool = False) -> None:
        if self.process is not None:
            self.process.kill() if kill else self.process.terminate()
            self.process.wait(60)
            self.process = None

    def status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.root / "status.json").read_text())
        except (OSError, ValueError):  # not there yet
            return {}
        return found

    def release(self) -> int:
        """Number of the committed release, 0 for none."""
        release = self.status().get("release")
        return int(release["release"]) if release else 0


def main() -> int:
    setup_logging()
    folder = Path(mkdtemp(prefix="demo-edge-"))
    try:
        with ExitStack() as stack:
            return tell(folder, stack)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tell(folder: Path, stack: ExitStack) -> int:
    """The story, in order."""
    server, keys = prepare(folder, stack)
    link = NetworkLink(server.port)
    corner = FleetDevice("corner", folder / "corner", server.url, keys, alias="challenger")
    tunnel = FleetDevice("tunnel", folder / "tunnel", f"http://127.0.0.1:{link.port}", keys)
    kiosk = FleetDevice("kiosk", folder / "kiosk", server.url, keys)
    depot = FleetDevice("depot", folder / "depot", server.url, keys / "old.pub")
    tram = FleetDevice("tram", folder / "tram", server.url, keys)
    devices = [corner, tunnel, kiosk, depot, tram]
    for device in devices:
        stack.callback(device.stop)
    for device in devices[1:]:
        stack.enter_context(beating(device))

    say("release 1, signed with the old key: the canary first, then everybody")
    with link.open():
        with beating(corner):
            release(1, "old", keys, small.HALF)
            for device in devices:
                device.start()
            until(lambda: corner.release() == 1, "the canary runs release 1")
        promote()
        until(lambda: all(device.release() == 1 for device in devices), "everybody runs release 1")

    say("tunnel loses its network, kiosk its room; release 2 is signed with the new key, which depot never got")
    kiosk.stop()
    kiosk.changes = {"store": {"keep_free_mb": 1e9}}
    kiosk.start()

    # device_application.py on a video of noise, played again and again.
    video, noise = folder / "street.avi", np.random.default_rng(0)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (small.SIDE, small.SIDE))
    for _ in range(30):
        writer.write(noise.integers(0, 256, (small.SIDE, small.SIDE, 3), np.uint8))
    writer.release()
    command = [sys.executable, str(ROOT / "examples" / "device_application.py"), str(video), "--repeat", "--fps", "10"]
    command += ["--root", str(corner.root), "--out", str(folder / "drawn.avi")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    application = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    stack.enter_context(application)
    stack.callback(application.kill)

    release(2, "new", keys, small.GOOD)
    until(lambda: corner.release() == 2, "the canary runs release 2")
    promote()
    rng = random.Random(7)
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.2, 3.0))
        tram.stop(kill=True)
        tram.kills += 1
        tram.start()
    say(f"tram: killed {tram.kills} times")
    until(lambda: tram.release() == 2, "tram runs release 2 in spite of it")
    until(lambda: "MB of free space" in problem(kiosk), "kiosk says what is missing")
    until(lambda: "trusted key" in problem(depot), "depot says what is missing")
    until(lambda: "expected an answer" in problem(tunnel), "tunnel says that nobody answers")
    say("tunnel has its network again")
    with link.open():
        until(lambda: tunnel.release() == 2, "tunnel runs release 2")

    application.terminate()
    said = application.communicate(timeout=60)[0].rstrip()
    click.echo(f"\nThe application of corner, one process from release 1 to 2:\n{said}")
    expected = {"corner": 2, "tunnel": 2, "kiosk": 1, "depot": 1, "tram": 2}
    click.echo(table(devices))
    right = {device.name: device.release() for device in devices} == expected
    went_on = "release 1" in said and "release 2" in said and application.returncode == 0
    return 0 if right and went_on else 1


def prepare(folder: Path, stack: ExitStack) -> tuple[RealServer, Path]:
    """A project to register and promote in, a registry, two signing keys."""
    project, place, keys = folder / "project", folder / "server", folder / "keys"
    for path in (project, place, keys):
        path.mkdir()
    for name in ("old", "new"):
        generate_keys(keys / name)
    server = RealServer(place, "--allowed-hosts", "*")
    server.start()
    stack.callback(server.kill)
    os.chdir(project)
    mlflow.set_tracking_uri(server.url)
    os.environ["MLFLOW_TRACKING_URI"] = server.url
    small.make_project(project)
    return server, keys


def release(number: int, key: str, keys: Path, boxes: Any) -> None:
    """Export a model, register it, attach its bundle signed with that key."""
    from steps.register import register

    os.environ["MOBILE_CENTERNET_SIGNING_KEY"] = str(keys / key)
    params = small.write_params(
        MODEL,
        min_ap50={"default": 0.0},
        max_latency_ms=60_000,
        require_signed=True,
        trusted_keys=[str(keys)],
        canaries={"healthy": 1, "most_against": 0},
    )
    params.register_.bundle.latency_ms["default"] = 60_000.0  # a laptop that does other things besides
    small.export_model(boxes, f"{MODEL} {number}")
    register(params)


def promote() -> None:
    """The gate, which asks for a healthy canary; the report may come a moment after the commit."""
    from mobile_centernet.mlops import paths
    from mobile_centernet.mlops.params import load_params
    from mobile_centernet.mlops.promotion.promote import DECISION, DONE, REJECTED
    from mobile_centernet.mlops.promotion.promote import promote as decide

    params = load_params(paths.PARAMS)
    deadline = time.monotonic() + PATIENCE
    while (outcome := decide(params)).code == REJECTED and time.monotonic() < deadline:
        failed = json.loads(DECISION.read_text())["failed"]
        if failed != ["canary devices"]:
            break
        time.sleep(1)
    say(outcome.message)
    if outcome.code != DONE:
        raise SystemExit(f"promotion: {outcome.message}")


class NetworkLink:
    """The way from one device to the registry, which is open only at times: a TCP forwarder."""

    def __init__(self, to: int) -> None:
        self.port, self._to = free_port(), to

    @contextmanager
    def open(self) -> Iterator[None]:
        with socket.create_server(("127.0.0.1", self.port)) as listener:
            closed = threading.Event()
            thread = threading.Thread(target=self._carry, args=(listener, closed))
            thread.start()
            try:
                yield
            finally:
                closed.set()
                thread.join()

    def _carry(self, listener: socket.socket, closed: threading.Event) -> None:
        """Until `closed`: accept connections, and hand on what either end of one sends."""
        with ExitStack() as sockets:
            other: dict[socket.socket, socket.socket] = {}
            while not closed.is_set():
                for ready in select.select([listener, *other], [], [], 0.1)[0]:
                    if ready is listener:
                        near = sockets.enter_context(listener.accept()[0])
                        far = sockets.enter_context(socket.create_connection(("127.0.0.1", self._to)))
                        other |= {near: far, far: near}
                    elif ready in other:  # whose other end may just have hung up
                        with suppress(OSError):
                            if content := ready.recv(1 << 16):
                                other[ready].sendall(content)
                                continue
                        far = other.pop(ready)
                        del other[far]
                        ready.close()
                        far.close()


@contextmanager
def beating(device: FleetDevice) -> Iterator[None]:
    """Heartbeats in place of an application that detects."""
    end = threading.Event()

    def beat() -> None:
        heart = Heartbeat(device.root)
        while not end.wait(0.2):
            if digest := AgentStore(device.root).pointed():
                heart.beat(digest)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def problem(device: FleetDevice) -> str:
    return str(device.status().get("problem"))


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.2)
    say(what)


def say(sentence: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')}  {sentence}")


def table(devices: list[FleetDevice]) -> str:
    rows = [("device", "follows", "killed", "runs", "why not the newest")]
    for device in devices:
        status = device.status()
        # Without the folders of this demo, and key ids cut.
        words = str(status.get("problem") or "").split()
        words = [word if "/" not in word else Path(word.rstrip(":")).name[:12] + "…:" for word in words]
        why = " ".join(word if len(word) < 64 else f"{word[:12]}…" for word in words)
        rows.append((device.name, device.alias, str(device.kills), f"release {device.release()}", why))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]) for row in rows]  # noqa: B905
    return "\n" + "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
