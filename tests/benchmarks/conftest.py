"""Measuring ratios that hold on a busy machine: the candidates take turns in one run, and only their own time counts."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import pytest
import torch

SideBySide = Callable[..., dict[str, float]]
Row = Callable[..., None]
PeakMemory = Callable[[str], float]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """CPU time is the time of one thread only if there is one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def side_by_side() -> SideBySide:
    """The median CPU seconds of a call of each candidate; in every repetition each has its turn."""

    def measure(candidates: Mapping[str, Callable[[], object]], repetitions: int, warm_up: int = 2) -> dict[str, float]:
        seconds: dict[str, list[float]] = {name: [] for name in candidates}
        for repetition in range(-warm_up, repetitions):
            for name, candidate in candidates.items():
                start = time.process_time()
                candidate()
                if repetition >= 0:
                    seconds[name].append(time.process_time() - start)
        return {name: statistics.median(values) for name, values in seconds.items()}

    return measure


@pytest.fixture(scope="session")
def row() -> Iterator[Row]:
    """Prints a row of a table: what was measured, and its figures."""
    load = os.getloadavg()[0]
    print(
        f"\n{os.cpu_count()} cores ({platform.machine()}), one used; torch {torch.__version__}; load {load:.1f} at first"
    )

    def show(what: str, *figures: str) -> None:
        print(f"| {' | '.join((what, *figures))} |", flush=True)

    yield show
    print(f"load {os.getloadavg()[0]:.1f} at last")


@pytest.fixture(scope="session")
def peak_memory() -> PeakMemory:
    """MiB that the second half of a script, after a line `# measured`, adds to its process at the highest point."""

    def measure(script: str) -> float:
        prepare, measured = script.split("# measured\n")
        code = f"{_STATUS}\n{prepare}\n_reset()\nbefore = _kib('VmRSS')\n{measured}\nprint(_kib('VmHWM') - before)"
        # A fresh process: what others freed before could be used again and would not show.
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        return int(run.stdout) / 1024

    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("needs Linux's /proc to measure the peak of a process")
    return measure


_STATUS = """
from pathlib import Path
def _reset():
    Path('/proc/self/clear_refs').write_text('5')  # the peak is the present use from here on
def _kib(name):
    (line,) = [line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1])
"""
