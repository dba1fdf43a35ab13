"""The demo is the test: one promotion, five agents, four of them in trouble."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_right_release_is_everywhere_it_should_be() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.fleet"], cwd=ROOT, capture_output=True, text=True, timeout=850, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    rows = dict(re.findall(r"^(\w+) +(?:champion|challenger) +\d+ +(release \d.*)$", done.stdout, re.MULTILINE))
    assert list(rows) == ["corner", "tunnel", "kiosk", "depot", "tram"]
    assert {rows[name] for name in ("corner", "tunnel", "tram")} == {"release 2"}
    assert rows["kiosk"].startswith("release 1") and "MB of free space" in rows["kiosk"]
    assert rows["depot"].startswith("release 1") and "expected a signature by a trusted key" in rows["depot"]
