"""What both writers share: work in processes whose number changes no byte, and files written whole."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mobile_centernet.data.parallel import set_up_worker
from mobile_centernet.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")


def claim(root: Path) -> None:
    """Make sure that nothing lies in `root`: leftovers of another seed would mix in.

    Raises:
        DataError: `root` is a file or a folder with something in it.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root}: expected a new or empty folder for the synthetic set, found something in it")
    root.mkdir(parents=True, exist_ok=True)


def work(
    task: Callable[[Task], Result], tasks: Sequence[Task], *, workers: int | None, progress: bool, name: str
) -> list[Result]:
    """The results of all tasks in their order, from `workers` processes (None: as many as there are cores)."""
    count = min(workers or os.cpu_count() or 1, len(tasks))
    if count <= 1:
        cv2.setNumThreads(1)  # the processes are the parallelism
        return list(_shown(map(task, tasks), len(tasks), progress, name))
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=set_up_worker) as pool:
        return list(_shown(pool.map(task, tasks), len(tasks), progress, name))


def _shown(results: Iterable[Result], total: int, progress: bool, name: str) -> Iterable[Result]:
    return tqdm(results, total=total, desc=name, disable=None if progress else True)


def jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """The image (BGR) as JPEG bytes."""
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError(f"an image of shape {image.shape} could not be encoded as JPEG")
    return bytes(data)


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
