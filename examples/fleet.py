"""`make demo-edge`: what happens to a fleet. A real MLflow server, the real gate, one repository behind a static
server, six agents as processes.

    corner    the canary: it reports; the sample application draws on its video all the while
    plaza     nothing is wrong with it
    tunnel    has no network until the others are done
    kiosk     has no room for another release
    depot     its application is down while the second release comes
    tram      its agent is killed again and again

A promotion; an attack on the registry, which changes nothing; an operator's rollback; a change of the champion's key.
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
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import click
import cv2
import mlflow
import numpy as np

from mobile_centernet.agent.health import Heartbeat
from mobile_centernet.agent.store import AgentStore
from mobile_centernet.logs import setup_logging
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import load_params
from mobile_centernet.mlops.promotion.promote import DECISION, DONE, REJECTED, rollback
from mobile_centernet.mlops.promotion.promote import promote as decide
from mobile_centernet.trust.ceremony import change_key
from mobile_centernet.trust.keys import public_key
from mobile_centernet.trust.layout import CHAMPION
from tests.helpers import registry_project as small
from tests.helpers.mlflow_servers import RealServer, free_port
from tests.helpers.settings import to_toml
from tests.helpers.trust import Fleet

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
    fleet: Fleet
    reports: str
    channel: str = "champion"
    changes: dict[str, dict[str, object]] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0

    @property
    def root(self) -> Path:
        return self.folder / "device"

    def start(self) -> None:
        document: dict[str, dict[str, object]] = {
            "trust": {"url": self.url, "root": str(self.fleet.root_file), "model": MODEL, "channel": self.channel},
            "report": {"url": self.reports},
            "device": {"name": self.name, "profile": self.name},
            "paths": {"root": str(self.root)},
            "poll": {"interval_s": 1.0, "longest_s": 3.0},
            "health": {"window_s": 1.0, "start_s": 60.0, "gap_s": 5.0},
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
        """Version of the committed release, 0 for none."""
        release = self.status().get("release")
        return int(release["version"]) if release else 0


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
    server, fleet, static = prepare(folder, stack)
    link = NetworkLink(static)
    address = f"http://127.0.0.1:{static}"
    names = ("corner", "plaza", "tunnel", "kiosk", "depot", "tram")
    devices = {name: FleetDevice(name, folder / name, address, fleet, server.url) for name in names}
    corner, _, tunnel, kiosk, depot, tram = devices.values()
    corner.channel, tunnel.url = "canary", f"http://127.0.0.1:{link.port}"
    for device in devices.values():
        stack.callback(device.stop)
    for device in (device for device in devices.values() if device not in (corner, depot)):
        stack.enter_context(beating(device))

    def run(expected: int, *but: FleetDevice) -> bool:
        return all(device.release() == expected for device in devices.values() if device not in but)

    say("version 1: listed, then for the canary, then for everybody")
    with link.open(), beating(depot):
        with beating(corner):
            for device in devices.values():
                device.start()
            publish(1, fleet, small.HALF)
            until(lambda: corner.release() == 1, "the canary runs version 1")
            (folder / "enrolled" / "corner.pub").write_bytes((corner.root / "device.pub").read_bytes())
        promote()
        until(lambda: run(1), "everybody runs version 1")

    say("tunnel loses its network, kiosk its room, depot its application")
    kiosk.stop()
    kiosk.changes = {"store": {"keep_free_mb": 1e9}}
    kiosk.start()
    application = draw(folder, corner, stack)
    publish(2, fleet, small.GOOD)
    until(lambda: corner.release() == 2, "the canary runs version 2")
    promote()
    rng = random.Random(7)
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.2, 3.0))
        tram.stop(kill=True)
        tram.kills += 1
        tram.start()
    say(f"tram: killed {tram.kills} times")
    until(lambda: tram.release() == 2, "tram runs version 2 in spite of it")
    until(lambda: "MB of free space" in problem(kiosk), "kiosk says what is missing")
    until(lambda: "no application has beaten" in problem(depot), "depot says that nobody could try it")
    until(lambda: "expected an answer" in problem(tunnel), "tunnel says that nobody answers")
    say("tunnel has its network again, depot its application")
    stack.enter_context(link.open())
    stack.enter_context(beating(depot))
    until(lambda: run(2, kiosk), "everybody but kiosk runs version 2")

    attack(fleet)
    checked = {device.name: device.status()["last_check"] for device in devices.values()}
    until(lambda: all(d.status().get("last_check", "") > checked[d.name] for d in devices.values()), "all asked again")
    time.sleep(3)
    if not run(2, kiosk):
        raise SystemExit("the registry moved a device")
    say("nobody runs anything else")

    say(rollback(load_params(paths.PARAMS), "Ann").message)
    until(lambda: run(1, corner), "everybody who follows champion runs version 1 again")

    say("the champion's key is changed, then version 4 is promoted")
    change_champions_key(fleet)
    publish(4, fleet, small.GOOD)
    until(lambda: corner.release() == 4, "the canary runs version 4")
    promote()
    until(lambda: run(4, kiosk), "everybody but kiosk runs version 4, by the new key's word")

    application.terminate()
    said = application.communicate(timeout=60)[0].rstrip()
    click.echo(f"\nThe application of corner, one process from version 1 to 4:\n{said}")
    click.echo(table(list(devices.values())))
    went_on = all(f"version {number}" in said for number in (1, 2, 4)) and application.returncode == 0
    return 0 if run(4, kiosk) and kiosk.release() == 1 and went_on else 1


def prepare(folder: Path, stack: ExitStack) -> tuple[RealServer, Fleet, int]:
    """A project to register and promote in, a registry, a repository with all its keys, and its port."""
    project, place = folder / "project", folder / "server"
    for path in (project, place, folder / "enrolled"):
        path.mkdir()
    fleet = Fleet(folder / "fleet")
    handler = partial(Quiet, directory=str(fleet.served))
    static = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
    threading.Thread(target=static.serve_forever, daemon=True).start()
    stack.callback(static.shutdown)
    server = RealServer(place, "--allowed-hosts", "*")
    server.start()
    stack.callback(server.kill)
    os.chdir(project)
    mlflow.set_tracking_uri(server.url)
    os.environ["MLFLOW_TRACKING_URI"] = server.url
    small.make_project(project)
    return server, fleet, static.server_port


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def publish(number: int, fleet: Fleet, boxes: Any) -> None:
    """Export a model, register it, which lists its bundle, and have canaries run it."""
    from steps.register import register

    trust = {"repository": str(fleet.served), "root": str(fleet.root_file), "keys": fleet.places}
    params = small.write_params(
        MODEL,
        trust,
        min_ap50={"default": 0.0},
        max_latency_ms=60_000,
        canaries={"healthy": 1, "most_against": 0, "devices": str(fleet.folder.parent / "enrolled")},
    )
    params.register_.bundle.latency_ms["default"] = 60_000.0  # a laptop that does other things besides
    small.export_model(boxes, f"{MODEL} {number}")
    register(params)
    promote(canary=True)


def promote(*, canary: bool = False) -> None:
    """The gate, which asks for a healthy canary; the report may come a moment after the commit."""
    deadline = time.monotonic() + PATIENCE
    while (outcome := decide(load_params(paths.PARAMS), canary=canary)).code == REJECTED:
        if time.monotonic() > deadline or json.loads(DECISION.read_text())["failed"] != ["canary devices"]:
            break
        time.sleep(1)
    say(outcome.message)
    if outcome.code != DONE:
        raise SystemExit(f"promotion: {outcome.message}")


def attack(fleet: Fleet) -> None:
    """Somebody may write whatever they like into the registry, and has no key."""
    from steps.register import register

    small.export_model(small.HALF, f"{MODEL} 3, worse")
    params = load_params(paths.PARAMS)
    register(params)
    outcome = decide(params)
    say(f"version 3: {outcome.message}")
    client = mlflow.MlflowClient()
    for alias in ("champion", "previous"):
        client.set_registered_model_alias(MODEL, alias, "3")
    lies = {"bundle_release": "9" * 4000, "promoted_at": "now", "edge.health.corner": '{"state": "healthy"}'}
    for tag, text in lies.items():
        client.set_model_version_tag(MODEL, "3", tag, text)
    say("attack: champion and previous are aliases of the rejected version 3, whose tags lie")


def change_champions_key(fleet: Fleet) -> None:
    """The old one is believed no more."""
    (old,) = fleet.repository().state().targets.get_delegated_role(CHAMPION).keyids
    new = fleet.key("champion-2")
    fleet.places[CHAMPION] = [*fleet.places[CHAMPION], new]
    change_key(fleet.repository(), CHAMPION, [old], [public_key(new)], revoke=True)
    fleet.places[CHAMPION] = [new]


def draw(folder: Path, corner: FleetDevice, stack: ExitStack) -> subprocess.Popen[str]:
    """device_application.py on a video of noise, played again and again."""
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
    return application


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
        rows.append((device.name, device.channel, str(device.kills), f"version {device.release()}", why))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]) for row in rows]  # noqa: B905
    return "\n" + "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
