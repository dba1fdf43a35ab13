"""A stage runs once at a time: it ends with the DVC that started it, and waits for another one that still runs.

Without the first, a killed `dvc repro` would leave its stage running, and the next one would start a second beside it.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from steps import workspace

STARTED_BY_DVC = "DVC_STAGE"  # DVC sets it for its commands
_PR_SET_PDEATHSIG = 1


@contextmanager
def alone(stage: str) -> Iterator[None]:
    """Hold the stage's lock, which the kernel frees when this process ends in any way."""
    _end_with_dvc()
    workspace.WORK.mkdir(exist_ok=True)
    lock = FileLock(workspace.WORK / f"{stage}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{stage}: another process runs this stage here; waiting until it ends", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _end_with_dvc() -> None:
    """Have Linux kill this process when its parent ends; a shell that DVC starts it by replaces itself by it.

    Not for a stage that a person started: it may outlive their terminal.
    """
    if STARTED_BY_DVC in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
