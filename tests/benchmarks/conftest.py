"""Measuring ratios: all candidates run in one process, take turns, and the medians are compared.

On the CPU, torch has one thread here and the clock is the process' CPU time: what else the machine does hardly counts.
"""

import os
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
    """With several threads, CPU time would count those that wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


@pytest.fixture(scope="session")
def side_by_side() -> SideBySide:
    """The median seconds of a call of each candidate; in every repetition each has its turn."""

    def measure(
        candidates: Mapping[str, Callable[[], object]],
        repetitions: int,
        clock: Callable[[], float] = _now,
        warm_up: int = 2,
    ) -> dict[str, float]:
        seconds: dict[str, list[float]] = {name: [] for name in candidates}
        for candidate in candidates.values():  # the first calls load libraries and fill caches
            for _ in range(warm_up):
                candidate()
        for _ in range(repetitions):
            for name, candidate in candidates.items():
                start = clock()
                candidate()
                seconds[name].append(clock() - start)
        return {name: statistics.median(values) for name, values in seconds.items()}

    return measure


@pytest.fixture(scope="session")
def row() -> Iterator[Row]:
    """Prints a row of a table: what was measured, and its figures."""
    print(f"\none of {os.cpu_count()} cores, torch {torch.__version__}, load at first {os.getloadavg()[0]:.1f}")

    def show(what: str, *figures: str) -> None:
        print(f"| {' | '.join((what, *figures))} |", flush=True)

    yield show
    print(f"load at last {os.getloadavg()[0]:.1f}")


@pytest.fixture(scope="session")
def peak_memory() -> PeakMemory:
    """How many MiB the second half of a script, after a line `# measured`, adds to its process at the highest point."""

    def measure(script: str) -> float:
        prepare, measured = script.split("# measured\n")
        code = (
            f"{_STATUS}\n{prepare}\n_forget_peak()\nbefore = _kib('VmRSS')\n{measured}\nprint(_kib('VmHWM') - before)"
        )
        # A fresh process each: memory that another candidate has freed would be used again and not show.
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        return int(run.stdout) / 1024

    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("needs Linux's /proc to measure the peak of a process")
    return measure


_STATUS = """
from pathlib import Path
def _forget_peak():
    Path('/proc/self/clear_refs').write_text('5')
def _kib(name):
    (line,) = [line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1])
"""
