"""Processes: what they run on, how much of it they used, and that they end with the one that started them."""

import ctypes
import multiprocessing
import os
import platform
import signal
import sys
import threading
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended, in whatever way that was.

    A worker of `multiprocessing` waits for its parent in a thread, on any system and also where the parent ended before
    this call. Any other process has the kernel kill it (Linux; elsewhere it ends by itself).
    """
    if (parent := multiprocessing.parent_process()) is not None:

        def wait() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()
    elif sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def processor_name() -> str:
    """The processor's name as its maker has it."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cpu_seconds() -> float:
    """Processor time of this process with all its threads and its children, in seconds.

    Children that live, such as a loader's workers, count where there is a /proc (Linux); ended ones everywhere.
    """
    ticks = 0
    for child in multiprocessing.active_children():
        status = Path(f"/proc/{child.pid}/stat")
        if status.exists():
            user, system = status.read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
            ticks += int(user) + int(system)
    return sum(os.times()[:4]) + ticks / os.sysconf("SC_CLK_TCK")
