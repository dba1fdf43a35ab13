"""The demo is the test: a promotion, an attack, a rollback and a change of keys reach six agents."""

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
    rows = dict(re.findall(r"^(\w+) +(?:champion|canary) +\d+ +(version \d.*)$", done.stdout, re.MULTILINE))
    assert list(rows) == ["corner", "plaza", "tunnel", "kiosk", "depot", "tram"]
    assert {rows[name] for name in rows if name != "kiosk"} == {"version 4"}
    assert rows["kiosk"].startswith("version 1") and "MB of free space" in rows["kiosk"]
    for sentence in (
        "nobody runs anything else",
        "version 1 is the champion again, 2 is withdrawn",
        "by the new key's word",
    ):
        assert sentence in done.stdout
