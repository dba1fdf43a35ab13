"""The processes that a launcher has started on one or several machines, as one group."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from mobile_centernet.processes import Launch

Fact = TypeVar("Fact")


@contextmanager
def process_group(launch: Launch) -> Iterator[None]:
    """torch's group of a launcher's processes, which Ray Train has made already; of one process: nothing."""
    if launch.processes == 1:
        yield
        return
    os.environ.setdefault("LOCAL_RANK", "0")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    made = not torch.distributed.is_initialized()
    if made:
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        if made:
            torch.distributed.destroy_process_group()


def gather(launch: Launch, fact: Fact) -> list[Fact]:
    """What each process says, by rank; waits until all have said it."""
    facts = [fact] * launch.processes
    if launch.processes > 1:
        torch.distributed.all_gather_object(facts, fact)
    return facts
