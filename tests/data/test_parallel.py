"""Work over processes: in order, and nothing is left of it when the main process is killed."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mobile_centernet.data.parallel import ITEMS_PER_TASK, in_order

PROGRAM = """
import os, sys, time
from pathlib import Path
from mobile_centernet.data.parallel import in_order

def work(item):
    (Path(sys.argv[1]) / str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    list(in_order(work, range(64), workers=2))
"""


def test_results_come_in_order_whatever_the_workers() -> None:
    items = range(3 * ITEMS_PER_TASK + 1)
    assert list(in_order(abs, items, workers=2)) == list(in_order(abs, items, workers=1)) == list(items)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    program, pids = tmp_path / "program.py", tmp_path / "pids"
    program.write_text(PROGRAM)
    pids.mkdir()
    main = subprocess.Popen([sys.executable, str(program), str(pids)])
    try:
        _wait(lambda: len(list(pids.iterdir())) == 2)
    finally:
        main.send_signal(signal.SIGKILL)
        main.wait()
    _wait(lambda: not any(_runs(int(path.name)) for path in pids.iterdir()))


def _wait(done: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
