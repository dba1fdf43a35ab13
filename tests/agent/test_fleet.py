"""Two hundred agents and one static server: a promotion, an attack on the registry that changes nothing, a rollback."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mobile_centernet.agent.agent import Agent
from mobile_centernet.agent.config import load_config
from mobile_centernet.agent.device import Device
from mobile_centernet.agent.health import Heartbeat
from mobile_centernet.agent.polling import follow
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.promotion.promote import DONE, REJECTED, promote, rollback
from mobile_centernet.mlops.registry.registry import CHAMPION, PREVIOUS, Registry
from steps.register import register
from tests.helpers import registry_project as small
from tests.helpers.lab import self_test_in_process
from tests.helpers.settings import to_toml
from tests.helpers.trust import Fleet

DEVICES = int(os.environ.get("MOBILE_CENTERNET_FLEET", "200"))
MODEL = "fleet-of-200"
INTERVAL_S = 4.0
PATIENCE_S = 480.0


class CountingServer(ThreadingHTTPServer):
    """Serves a folder, and counts what is asked for by the beginning of its path's last part that is no number."""

    request_queue_size = 256

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(CountingHandler, directory=str(folder)))
        self.asked: Counter[str] = Counter()


class CountingHandler(SimpleHTTPRequestHandler):
    server: CountingServer

    def do_GET(self) -> None:
        self.server.asked[self.path.rpartition("/")[2].lstrip("0123456789.")[-20:]] += 1
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Fleet200:
    """Agents, each in a thread that polls as the command does; one more thread is all their applications."""

    agents: list[Agent]
    threads: list[threading.Thread]
    server: CountingServer

    def polls(self) -> int:
        return sum(agent._events["idle: done"] for agent in self.agents)

    def running(self) -> Counter[str]:
        """Versions that are committed."""
        return Counter(agent.saved.committed.version if agent.saved.committed else "none" for agent in self.agents)

    def until(self, holds: Callable[[], bool], what: str) -> float:
        began = time.monotonic()
        while not holds():
            assert all(thread.is_alive() for thread in self.threads), "an agent died"
            problems = Counter(str(agent.problem)[:120] for agent in self.agents).most_common(3)
            assert time.monotonic() - began < PATIENCE_S, f"{what}: {self.running()} {problems}"
            time.sleep(0.2)
        return time.monotonic() - began

    def all_run(self, version: str) -> float:
        return self.until(lambda: self.running() == {version: DEVICES}, f"everybody runs version {version}")

    def all_polled(self, times: int) -> None:
        seen = [agent._events["idle: done"] + times for agent in self.agents]
        self.until(
            lambda: all(a._events["idle: done"] >= n for a, n in zip(self.agents, seen, strict=True)), "all ask again"
        )


@contextmanager
def fleet_of(folder: Path, fleet: Fleet) -> Iterator[Fleet200]:
    server = CountingServer(fleet.served)
    stop = threading.Event()
    agents = []
    for number in range(DEVICES):
        place = folder / f"{number:03d}"
        place.mkdir(parents=True)
        document: dict[str, dict[str, object]] = {
            "trust": {"url": f"http://127.0.0.1:{server.server_port}", "root": str(fleet.root_file), "model": MODEL},
            "device": {"name": f"device-{number:03d}"},
            "paths": {"root": str(place / "device")},
            "poll": {"interval_s": INTERVAL_S, "longest_s": 2 * INTERVAL_S},
            "health": {"window_s": 0.5, "start_s": 300.0, "gap_s": 120.0},
            "store": {"keep_free_mb": 0},
        }
        document["trust"]["timeout_s"] = 60.0
        (place / "edge.toml").write_text(to_toml(document))
        config = load_config(place / "edge.toml")
        agents.append(Agent(config, self_test=self_test_in_process, device=Device(None, None), stop=stop))
        agents[-1].store.create()

    def beat() -> None:
        hearts = [Heartbeat(agent.store.root) for agent in agents]
        while not stop.wait(0.2):
            for agent, heart in zip(agents, hearts, strict=True):
                if (digest := agent.store.pointed()) is not None:
                    heart.beat(digest)

    threads = [threading.Thread(target=follow, args=(agent, stop), name=agent.config.device.name) for agent in agents]
    others = [threading.Thread(target=server.serve_forever), threading.Thread(target=beat)]
    for thread in (*others, *threads):
        thread.start()
    try:
        yield Fleet200(agents, threads, server)
    finally:
        stop.set()
        server.shutdown()
        for thread in (*threads, *others):
            thread.join(60)
        server.server_close()


def registered(params: Params, boxes: tuple[tuple[float, ...], ...], salt: str) -> None:
    small.export_model(boxes, salt)
    params.register_.bundle.latency_ms["default"] = 60_000.0  # a machine with two hundred others on it
    register(params)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_two_hundred_devices_do_what_is_signed(registry_project: Path, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "fleet")
    trust = {"repository": str(fleet.served), "root": str(fleet.root_file), "keys": fleet.places}
    params = small.write_params(MODEL, trust, min_ap50={"default": 0.0}, max_latency_ms=60_000)
    registered(params, small.HALF, "fleet 1")
    assert promote(params).code == DONE
    with fleet_of(tmp_path / "devices", fleet) as devices:
        print(f"\n{DEVICES} devices run version 1 after {devices.all_run('1'):.0f} s")

        registered(params, small.GOOD, "fleet 2")
        before = devices.server.asked.copy()
        assert promote(params).code == DONE
        print(f"version 2 after {devices.all_run('2'):.0f} s, asked: {dict(devices.server.asked - before)}")

        devices.all_polled(1)
        before, polls = devices.server.asked.copy(), devices.polls()
        devices.all_polled(3)
        asked, polls = devices.server.asked - before, devices.polls() - polls
        print(f"{polls} polls without change: {dict(asked)}")
        assert set(asked) == {"timestamp.json"} and asked["timestamp.json"] <= polls + DEVICES

        registered(params, small.BLIND, "fleet 3")
        assert promote(params).code == REJECTED
        registry = Registry(MODEL)
        for alias in (CHAMPION, PREVIOUS):
            registry.set_alias(alias, 3)
        for number in (1, 2, 3):
            registry.tag(number, promoted_at="now", withdrawn="", bundle_release="9" * 4000, bundle_sha256="0" * 64)
        devices.all_polled(2)
        assert devices.running() == {"2": DEVICES}

        assert rollback(params, "Ann").code == DONE
        print(f"back on version 1 after {devices.all_run('1'):.0f} s")
        devices.all_polled(1)
        assert Counter(agent.problem for agent in devices.agents) == {None: DEVICES}
        assert all(thread.is_alive() for thread in devices.threads)
    assert not any(thread.is_alive() for thread in devices.threads)
