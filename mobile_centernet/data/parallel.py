"""One function over many frames in processes: results in order, memory flat."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

import cv2

from mobile_centernet.processes import end_with_parent

ITEMS_PER_TASK = 16  # small enough for flat memory, large enough to hide the pool's overhead
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None) -> Iterator[Result]:
    """`map(work, items)` over `workers` processes, with only a few chunks under way, so that memory stays flat.

    By default there is one per core, and none for a single chunk, which would be done before they had started.
    """
    workers = workers or (len(os.sched_getaffinity(0)) if len(items) > ITEMS_PER_TASK else 1)
    if workers == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[list[Result]]] = deque()
    # Not fork: OpenCV's and other threads do not survive it.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), set_up_worker) as pool:
        for start in range(0, len(items), ITEMS_PER_TASK):
            waiting.append(pool.submit(list, map(work, items[start : start + ITEMS_PER_TASK])))  # mapped over there
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def set_up_worker() -> None:
    """Initialise a worker process: one thread for OpenCV, and an end together with the process that started it.

    Without the latter the workers of a process that was killed would wait for work for ever and keep its pipes open.
    """
    cv2.setNumThreads(1)
    end_with_parent()
