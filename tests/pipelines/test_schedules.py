"""The ready-made schedules call what exists, once at a time, and take answers for answers."""

import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from mobile_centernet.cli.main import main as command_line
from mobile_centernet.trust.layout import LIFE_DAYS
from pipelines.retraining import ENDINGS, FAILED
from pipelines.settings import load_settings
from tests.helpers.trust import Fleet
from tests.pipelines.toy import ROOT, environment, make_toy

SCHEDULES = ROOT / "docs/schedules"
CALL = ["-m", "pipelines", "retraining"]
ANSWERS = {code for code in ENDINGS if code != FAILED}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Fleet(tmp_path_factory.mktemp("fleet")).folder


def unit(name: str) -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=False)  # systemd adds up lines of one name
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names are as they are written
    parser.read(SCHEDULES / name)
    return parser


def test_the_unit_calls_retraining_and_takes_answers_for_success() -> None:
    service = unit("mobile-centernet-retraining.service")["Service"]
    assert shlex.split(service["ExecStart"])[1:] == CALL
    assert {0, *map(int, service["SuccessExitStatus"].split())} == ANSWERS
    assert service["Type"] == "oneshot"  # systemd starts no second one beside it
    assert unit("mobile-centernet-retraining.timer")["Timer"]["Persistent"] == "true"


def test_the_unit_keeps_dvc_s_state_and_reads_the_user_s_credentials() -> None:
    service = (SCHEDULES / "mobile-centernet-retraining.service").read_text()
    root = unit("mobile-centernet-retraining.service")["Service"]["WorkingDirectory"]
    (state,) = re.findall(r"DVC_SITE_CACHE_DIR=(\S+)", service)  # /var/tmp, its default, is empty every night
    assert Path(state).is_relative_to(root) and f"ReadWritePaths={root}\n" in service
    assert "ProtectHome=read-only\n" in service  # ~/.netrc


def test_the_trust_unit_re_signs_every_day_what_expires(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, timer = (unit(f"mobile-centernet-trust.{kind}") for kind in ("service", "timer"))
    days = [LIFE_DAYS[role] for role in ("snapshot", "timestamp")]
    assert service["Service"]["Restart"] == "on-failure" and min(days) > 1  # a failed day is made up for
    assert timer["Timer"]["Persistent"] == "true" and timer["Timer"]["OnCalendar"].startswith("*-*-* ")
    fleet = Fleet.copy(made, tmp_path / "fleet")
    trust = {"repository": str(fleet.served), "root": str(fleet.root_file), "keys": fleet.places}
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump({"trust": trust}))
    before = fleet.repository().state().roles["timestamp"].signed.version
    done = CliRunner().invoke(command_line, shlex.split(service["Service"]["ExecStart"])[1:])
    assert (done.exit_code, done.output) == (0, "renewed: timestamp\n")
    assert fleet.repository().state().roles["timestamp"].signed.version == before + 1


@pytest.mark.parametrize("place", sorted(map(str, SCHEDULES.glob("*.service"))), ids=lambda place: Path(place).stem)
def test_systemd_takes_the_unit_and_finds_it_little_exposed(place: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    timer = place.replace(".service", ".timer")
    done = subprocess.run(["systemd-analyze", "verify", place, timer], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "is not executable" not in line] == []
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=40", place]  # 4.0
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


@pytest.mark.parametrize("code", [*ENDINGS, 137])
def test_the_cron_line_starts_in_a_fresh_checkout_and_mails_failures_alone(code: int, tmp_path: Path) -> None:
    (line,) = [text for text in (SCHEDULES / "crontab").read_text().splitlines() if text[:1].isdigit()]
    command = line.split(maxsplit=5)[5].replace("\\%", "%").replace("/srv/mobile-centernet", str(tmp_path))
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho calls $*; exit {code}\n")
    python.chmod(0o755)
    for _ in range(2):
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
        said = "" if code in ANSWERS else "calls -m pipelines retraining\n"
        assert (done.returncode, done.stdout, done.stderr) == (0 if code in ANSWERS else 1, said, "")
    (log,) = (tmp_path / ".work").iterdir()  # the second run's alone
    assert log.read_text() == "calls -m pipelines retraining\n"


def test_cron_and_ci_call_retraining_and_fail_for_failures_alone() -> None:
    (line,) = [text for text in (SCHEDULES / "crontab").read_text().splitlines() if text[:1].isdigit()]
    assert " ".join(CALL) in line and "10|11|12)" in line
    workflow = yaml.safe_load((SCHEDULES / "github-actions.yml").read_text())
    assert workflow["concurrency"]["cancel-in-progress"] is False
    checkout, _, retrain, _ = workflow["jobs"]["retraining"]["steps"]
    assert " ".join(CALL) in retrain["run"]
    assert "|".join(map(str, sorted(ANSWERS))) in retrain["run"]
    assert re.fullmatch(r"actions/checkout@[0-9a-f]{40}", checkout["uses"])


def test_ci_keeps_what_the_night_made_so_that_a_clone_has_it(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    toy, origin = make_toy(tmp_path / "toy"), tmp_path / "origin.git"
    python = toy / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    workflow = yaml.safe_load((SCHEDULES / "github-actions.yml").read_text())
    assert workflow["permissions"] == {"contents": "write"}
    keep = workflow["jobs"]["retraining"]["steps"][-1]
    env = environment(**keep["env"], HOME=str(tmp_path))

    def sh(script: str, folder: Path = toy) -> str:
        done = subprocess.run(["bash", "-ec", script], cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    sh(f"git clone -q --bare . {origin}; git remote add origin {origin}; git fetch -q; git push -qu origin HEAD")
    sh(keep["run"])  # nothing was made
    sh(f"python -m dvc remote add -q --default store {tmp_path / 'store'}; git commit -qam remote")
    sh("python -m dvc repro -q")
    sh(keep["run"])
    sh(f"git clone -q {origin} clone", tmp_path)
    assert sh("python -m dvc pull -q; python -m dvc repro", tmp_path / "clone").count("didn't change, skipping") == 4
    assert not (tmp_path / "clone/ran.txt").exists()


def test_the_image_starts_as_its_own_user_with_volumes_that_it_may_write() -> None:
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in re.sub(r"\\\n", " ", text).splitlines() if line and not line.startswith("#")]
    assert lines[0].startswith("ARG BASE=") and lines[1] == "FROM ${BASE} AS checkout"
    stages = "\n".join(lines).split("\nFROM ")
    assert "\nUSER " not in stages[1]  # ZenML's layer needs root
    for stack in ("kubernetes", "kubeflow"):
        docker = load_settings(ROOT / f"pipelines/stacks/{stack}.yaml")["settings"]["docker"]
        assert docker["parent_image_build_config"]["build_options"] == {"target": "checkout"}
    before, after = stages[2].split("\nUSER pipeline\n")
    (volumes,) = re.findall(r"^VOLUME \[(.*)\]$", after, re.M)
    for volume in re.findall(r'"(\S+)"', volumes):
        made, owned = before.partition("chown -R pipeline:pipeline")[::2]
        assert volume in made.split() and any(volume.startswith(folder) for folder in owned.split())
        assert f":{volume} " in text.partition("# docker run ")[2]  # as printed


def test_every_file_is_listed() -> None:
    page = (SCHEDULES / "README.md").read_text()
    for path in SCHEDULES.iterdir():
        assert path == SCHEDULES / "README.md" or path.name in page or f"`{path.stem}.service`, `.timer`" in page
