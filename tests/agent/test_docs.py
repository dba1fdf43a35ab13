"""The pages about devices: their commands are run as they are printed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import SSlibKey

from mobile_centernet.agent.config import load_config
from mobile_centernet.agent.states import TRANSITIONS
from mobile_centernet.bundle.bundle import verify_bundle
from mobile_centernet.trust.reports import read_reports

DOCS = Path(__file__).parents[2] / "docs"


def block(heading: str) -> str:
    """The first bash block below a heading."""
    section = (DOCS / "bundle.md").read_text(encoding="utf-8").split(f"## {heading}\n")[1]
    found = re.search(r"```bash\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


def run(folder: Path, commands: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def folder(bundle_once: Path, tmp_path: Path) -> Path:
    """With the digest that `trust show` names."""
    shutil.copy(bundle_once, tmp_path / "street-12.tar")
    return tmp_path


def commands(bundle_once: Path) -> str:
    return block("Verifying with stock tools only").replace("DIGEST", verify_bundle(bundle_once).sha256)


def test_stock_tools_take_a_good_bundle(folder: Path, bundle_once: Path) -> None:
    done = run(folder, commands(bundle_once))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK\n") == 10


def test_stock_tools_refuse_another_digest(folder: Path) -> None:
    assert run(folder, block("Verifying with stock tools only").replace("DIGEST", "0" * 64)).returncode != 0


@pytest.mark.parametrize("what", [b'"version": "7', b"IDAT", b"sha256", b"# street 7", b"mobile-centernet"])
def test_stock_tools_refuse_a_changed_file(folder: Path, bundle_once: Path, what: bytes) -> None:
    content = (folder / "street-12.tar").read_bytes()
    position = content.rindex(what) + len(what) - 1
    changed = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
    (folder / "street-12.tar").write_bytes(changed)
    assert run(folder, commands(bundle_once)).returncode != 0


def test_stock_tools_refuse_one_file_more(folder: Path, bundle_once: Path) -> None:
    (folder / "more.txt").touch()
    subprocess.run(["tar", "-rf", "street-12.tar", "more.txt"], cwd=folder, check=True)
    done = run(folder, commands(bundle_once))
    assert done.returncode != 0 and "> more.txt" in done.stdout


def test_the_commands_of_a_bundle(material: Path, tmp_path: Path) -> None:
    """The commands as printed, with this test's model and image in the places that the page names."""
    (tmp_path / "data" / "export").mkdir(parents=True)
    (tmp_path / "my-photos").mkdir()
    shutil.copy(material / "student.fp32.onnx", tmp_path / "data" / "export" / "model.fp32.onnx")
    shutil.copy(material / "street0.jpg", tmp_path / "my-photos" / "crossing.jpg")
    done = run(tmp_path, block("A bundle").replace("bicycle=", "piéton="))
    assert done.returncode == 0, done.stderr
    assert "verified: mobile-centernet 7," in done.stdout


def test_the_table_of_states_is_the_one_in_the_code() -> None:
    section = (DOCS / "agent.md").read_text(encoding="utf-8").split("## States\n\n")[1]
    rows = [f"| {state.value} | {event.value} | {target.value} |" for (state, event), target in TRANSITIONS.items()]
    assert section.split("\n\n")[0].rstrip() == "\n".join(["| state | ends with | next |", "|---|---|---|", *rows])


def test_the_printed_settings_are_read(tmp_path: Path) -> None:
    found = re.search(r"```toml\n(.*?)```", (DOCS / "agent.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    (tmp_path / "edge.toml").write_text(found[1])
    config = load_config(tmp_path / "edge.toml")
    assert config.device.profile == "orin" and config.paths.root == Path("/var/lib/mobile-centernet")


def test_the_printed_report_is_one() -> None:
    found = re.search(r"```json\n(.*?)\n```", (DOCS / "agent-files.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    key = SSlibKey.from_crypto(Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key())
    tags = {"edge.health.kiosk-07": found[1], "git_commit": "abc"}
    reports, unreadable = read_reports(tags, {"kiosk-07": key})
    assert [report.device for report in reports] == ["kiosk-07"] and not unreadable
