"""Publishing to a repository: what devices get, and what never reaches one."""

from pathlib import Path

import pytest

from tests.helpers.trust import Client, Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_a_device_runs_what_the_last_statement_names(fleet: Fleet) -> None:
    device = Client(fleet)
    assert device.statement() is None
    first = fleet.publish(b"first", "1")
    assert device.statement() == first and first.number == 1
    second = fleet.publish(b"second", "2")
    assert device.statement() == second == Client(fleet, "new").statement()
    assert second.number == 2
    assert device.statement("canary") is None
