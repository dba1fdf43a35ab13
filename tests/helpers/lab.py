"""A device in a folder: settings, a registry on loopback, an application that beats, agents in forked processes."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mobile_centernet.agent.agent import Agent
from mobile_centernet.agent.config import Config, load_config
from mobile_centernet.agent.device import Device
from mobile_centernet.agent.errors import SelfTestError
from mobile_centernet.agent.health import Heartbeat
from mobile_centernet.agent.selftest import check_release
from mobile_centernet.agent.selftest_runner import SelfTestResult
from mobile_centernet.agent.store import AgentState, AgentStore
from mobile_centernet.bundle.bundle import verify_folder
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.errors import UserError
from mobile_centernet.trust.statement import Statement
from tests.helpers.file_server import FileServer
from tests.helpers.offers import Bundle
from tests.helpers.settings import to_toml
from tests.helpers.trust import MODEL, Fleet

SETTINGS = {
    "trust": {"model": MODEL, "timeout_s": 2.0},
    "device": {"name": "kiosk-07", "profile": "kiosk"},
    "poll": {"interval_s": 0.05, "longest_s": 0.2, "jitter": 0.0},
    "health": {"window_s": 0.05, "start_s": 5.0, "gap_s": 2.0, "restarts": 0},
    "proof": {"runs": 1},
    "store": {"keep_free_mb": 0},
}


def self_test_in_process(folder: Path, manifest: Manifest, engine: Path | None) -> SelfTestResult:
    """The real self-test without a process of its own, which takes a second to start."""
    try:
        return check_release(folder, manifest, "fp32", "cpu", engine, 1)
    except UserError as error:
        raise SelfTestError(f"self-test: {error}") from error


@dataclass
class Lab:
    """One device, and the repository that it follows."""

    folder: Path
    server: FileServer
    fleet: Fleet

    @property
    def root(self) -> Path:
        return self.folder / "device"

    @property
    def settings(self) -> Path:
        return self.folder / "edge.toml"

    @property
    def store(self) -> AgentStore:
        return AgentStore(self.root)

    @property
    def saved(self) -> AgentState:
        return self.store.load()

    def configure(self, **changes: dict[str, object]) -> Config:
        document: dict[str, dict[str, object]] = {name: dict(values) for name, values in SETTINGS.items()}
        document["trust"] |= {"url": f"http://127.0.0.1:{self.server.server_port}", "root": str(self.fleet.root_file)}
        document["paths"] = {"root": str(self.root)}
        for name, values in changes.items():
            document.setdefault(name, {}).update(values)
        self.settings.write_text(to_toml(document))
        return load_config(self.settings)

    def offer(self, bundle: Bundle, channel: str = "champion", **fields: object) -> Statement:
        """Sign a statement that names the bundle, and have it served."""
        statement = self.fleet.publish(bundle.content, bundle.version, channel, **{"manifest": bundle.digest, **fields})
        self.serve()
        return statement

    def serve(self) -> None:
        """What the repository's folder has now."""
        self.server.files.clear()
        self.server.files.update({f"/{name}": content for name, content in self.fleet.files().items()})

    def agent(self, **injected: object) -> Agent:
        """In this process, on the settings as they are; a device without a GPU, whatever is here."""
        injected.setdefault("self_test", self_test_in_process)  # None: the real one, a process
        injected.setdefault("device", Device(None, None))
        agent = Agent(load_config(self.settings), **injected)  # type: ignore[arg-type]
        agent.store.create()
        return agent

    def polled(self, **injected: object) -> Agent:
        """An agent that has started and polled once."""
        agent = self.agent(**injected)
        agent.start()
        agent.poll()
        return agent

    def install(self, bundle: Bundle) -> None:
        """Commit a release."""
        self.offer(bundle)
        with self.application():
            agent = self.polled()
        assert self.running() == bundle.digest, agent.problem

    def running(self) -> str | None:
        """The digest that the application would run; verified, and committed, as everything it meets must be."""
        digest = self.store.pointed()
        if digest is not None:
            verify_folder(self.store.folder(digest))
        committed = self.saved.committed
        assert digest == (committed.digest if committed else None)
        return digest

    @contextmanager
    def application(self) -> Iterator[None]:
        """Beats for whichever release it finds, a hundred times a second."""
        end = threading.Event()

        def beat() -> None:
            heart = Heartbeat(self.root)
            while not end.wait(0.01):
                if (digest := self.store.pointed()) is not None:
                    heart.beat(digest)

        self.root.mkdir(parents=True, exist_ok=True)
        thread = threading.Thread(target=beat)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()


class Forks:
    """A process that has imported the agent and runs it in forks, each of which may be killed at a chosen place."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def run(self, settings: Path, kill: str = "never", at: int = 0, poll: bool = True) -> dict[str, int]:
        """killed: whether it was; status: the exit status else; places: how many places of that kind it passed."""
        assert self._process.stdin and self._process.stdout
        order = {"settings": str(settings), "kill": kill, "at": at, "poll": poll}
        self._process.stdin.write(f"{json.dumps(order)}\n")
        self._process.stdin.flush()
        answer: dict[str, int] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=30)
