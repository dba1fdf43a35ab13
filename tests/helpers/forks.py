"""Runs agents in forks of one process, killed with SIGKILL at a chosen place; orders come on stdin, as JSON lines.

Places: `line` is a line of Python in mobile_centernet/agent, `change` one change of the disk (before it, and after it
halfway where it can be halved), `transition` one of the table.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy
import onnxruntime

from mobile_centernet import files
from mobile_centernet.agent import disk
from mobile_centernet.agent.agent import Agent
from mobile_centernet.agent.config import load_config
from mobile_centernet.bundle import bundle
from tests.helpers.lab import self_test_in_process

AGENT = str(Path(disk.__file__).parent)


class Killer:
    def __init__(self, at: int) -> None:
        self.places = 0
        self._at = at

    def pass_by(self) -> None:
        self.places += 1
        if self.places == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(AGENT):
            return None
        if event == "line":
            self.pass_by()
        return self.trace

    def before(self, change: Callable[..., None]) -> Callable[..., None]:
        def killed(*arguments: object) -> None:
            self.pass_by()
            change(*arguments)
            self.pass_by()

        return killed

    def halve(self, path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            self.pass_by()
            file.write(content[len(content) // 2 :])
            file.flush()
            os.fsync(file.fileno())


def run(order: dict[str, Any], pipe: int) -> None:
    killer = Killer(order["at"])
    observe: Callable[..., None] = lambda *_: None  # noqa: E731
    if order["kill"] == "line":
        sys.settrace(killer.trace)
    elif order["kill"] == "change":
        for name in ("rename", "symlink", "unlink", "sync_folder", "remove_folder"):
            setattr(disk, name, killer.before(getattr(disk, name)))
        files.sync_folder = bundle.sync_folder = disk.sync_folder
        disk.write_file = killer.before(killer.halve)
    elif order["kill"] == "transition":
        observe = lambda *_: killer.pass_by()  # noqa: E731
    agent = Agent(load_config(Path(order["settings"])), self_test=self_test_in_process, observe=observe)
    with agent.store.locked():
        agent.start()
        if order["poll"]:
            agent.poll()
    sys.settrace(None)
    os.write(pipe, str(killer.places).encode())


def main() -> None:
    logging.disable()
    assert numpy and onnxruntime  # imported once, for all forks
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                run(json.loads(line), writer)
            finally:
                sys.stderr.flush()
                os._exit(int(sys.exc_info()[0] is not None))
        os.close(writer)
        _, status = os.waitpid(child, 0)
        places = os.read(reader, 100)
        os.close(reader)
        answer = {
            "killed": int(os.WIFSIGNALED(status)),
            "status": os.waitstatus_to_exitcode(status),
            "places": int(places or 0),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
