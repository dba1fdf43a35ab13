"""An update on a disk that is really full: a tmpfs of its own, with so many free bytes as the settings say.

`unshare -rm python -m tests.helpers.full_disk ORDER` mounts it where nobody else sees it. Prints one JSON line a turn:
[free bytes, what runs while the disk is full, what runs one poll after there is room again].
"""

import json
import logging
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

from mobile_centernet.agent import agent as agents
from mobile_centernet.agent.config import load_config
from mobile_centernet.agent.health import Heartbeat
from mobile_centernet.agent.store import AgentStore
from mobile_centernet.bundle.bundle import verify_folder
from tests.helpers.lab import self_test_in_process

PAGE = 4096


def beat(root: Path, end: threading.Event) -> None:
    """From another disk than the full one, as /run is: the heartbeat is a link."""
    heart = Heartbeat(root)
    while not end.wait(0.01):
        if digest := AgentStore(root).pointed():
            try:
                heart.beat(digest)
            except OSError:
                continue


def verified(root: Path) -> str:
    digest = AgentStore(root).pointed()
    assert digest is not None
    verify_folder(AgentStore(root).folder(digest))
    return digest


def main() -> None:
    order = json.loads(sys.argv[1])
    logging.disable()
    config = load_config(Path(order["settings"]))
    root, before = config.paths.root, Path(order["before"])
    usage = shutil.disk_usage
    shutil.disk_usage = lambda _: SimpleNamespace(free=1 << 40)  # type: ignore[assignment]  # it does not see it coming
    agents._TICK = 0.01
    for free in order["free"]:
        root.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(root)], check=True)
        shutil.copytree(before, root, symlinks=True, dirs_exist_ok=True)
        room = AgentStore(root).root / "ballast"
        room.write_bytes(bytes((usage(root).free - free) // PAGE * PAGE))
        end = threading.Event()
        thread = threading.Thread(target=beat, args=(root, end))
        thread.start()
        agent = agents.Agent(config, self_test=self_test_in_process)
        agent.start()
        threading.Timer(1.0, room.unlink).start()  # somebody makes room while the agent waits for it
        agent.poll()
        full = verified(root)
        while room.exists():
            end.wait(0.01)
        again = agents.Agent(config, self_test=self_test_in_process)
        again.start()
        again.poll()
        end.set()
        thread.join()
        print(json.dumps([free, full, verified(root)]), flush=True)
        subprocess.run(["umount", str(root)], check=True)


if __name__ == "__main__":
    main()
