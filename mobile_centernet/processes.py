"""Processes that end together with the one that started them."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading

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
