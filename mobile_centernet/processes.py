"""Processes: what they run on, how much of it they used, who started them, and that they end with the one that did."""

import ctypes
import multiprocessing
import os
import platform
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobile_centernet.errors import UserError

_PR_SET_PDEATHSIG = 1
OTHER_LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS")
"""How many processes other launchers have started; these say nothing about where the first one listens."""


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


@dataclass(frozen=True, slots=True)
class Launch:
    """This process among those that train one network together.

    rank:       of this process, from 0
    processes:  of all machines
    here:       of this machine
    """

    rank: int = 0
    processes: int = 1
    here: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one process that locks, tracks and writes."""
        return self.rank == 0

    @staticmethod
    def of(environment: Mapping[str, str] = os.environ) -> "Launch":
        """As torchrun's variables say; a launcher that sets no LOCAL_WORLD_SIZE starts one process a machine.

        Raises:
            UserError: a launcher has started several processes without saying what torchrun would, or not in numbers.
        """
        if "WORLD_SIZE" not in environment:
            for name in OTHER_LAUNCHERS:
                if environment.get(name, "1") != "1" and not (
                    name == "SLURM_NTASKS" and "SLURM_PROCID" not in environment
                ):
                    raise UserError(
                        f"{name}={environment[name]}: expected one process, or a launcher that sets WORLD_SIZE, RANK, "
                        "MASTER_ADDR and MASTER_PORT as torchrun does: torchrun --nnodes 2 … -m steps STAGE"
                    )
            return Launch()
        values = {"LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", **environment}
        try:
            rank, processes, here = (int(values[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
            local, _ = int(values["LOCAL_RANK"]), int(values["MASTER_PORT"])
            possible = 0 <= rank < processes and 0 <= local < here and processes % here == 0 and values["MASTER_ADDR"]
        except (KeyError, ValueError):
            possible = False
        if not possible:
            names = ("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
            found = ", ".join(f"{name}={environment[name]}" for name in names if name in environment)
            raise UserError(f"expected a launcher that sets {', '.join(names)} as torchrun does, found {found}")
        return Launch(rank, processes, here)
