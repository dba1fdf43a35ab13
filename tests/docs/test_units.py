"""The systemd units: as little as they need, by systemd's own judgement."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
EXPOSURE = 3.0


@pytest.mark.parametrize("unit", sorted(DOCS.glob("*/*.service")), ids=lambda path: path.name)
def test_a_unit_is_hardened(unit: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze, which is not installed here")
    copy = tmp_path / unit.name  # with a program that is here, as systemd looks for it
    copy.write_text(re.sub(r"(?m)^ExecStart=.*", "ExecStart=/bin/true", unit.read_text(encoding="utf-8")))
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(copy)]
    judged = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", judged.stdout)
    assert found, judged.stderr
    assert float(found[1]) <= EXPOSURE, judged.stdout
    assert "unknown" not in judged.stderr.lower(), judged.stderr


def test_the_agent_needs_no_home_folder_and_shares_no_file() -> None:
    unit = (DOCS / "edge" / "mobile-centernet-edge.service").read_text(encoding="utf-8").splitlines()
    assert {"ProtectHome=true", "StateDirectoryMode=0700", "UMask=0077"} <= set(unit)
