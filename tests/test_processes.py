"""Processor time counts what children used."""

import multiprocessing
import time
from multiprocessing.connection import Connection

from mobile_centernet.processes import cpu_seconds


def work(seconds: float, done: Connection) -> None:
    while time.process_time() < seconds:
        pass
    done.send("worked")
    done.recv()


def test_the_time_of_a_child_counts_while_it_lives_and_after_it_has_ended() -> None:
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=work, args=(0.3, theirs))
    before = cpu_seconds()
    child.start()
    ours.recv()
    living = cpu_seconds()
    ours.send("end")
    child.join()
    assert living - before >= 0.2 and cpu_seconds() >= living - 0.03  # ticks of a hundredth of a second
