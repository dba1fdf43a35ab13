"""The ready-made schedules call what exists, once at a time, and take answers for answers."""

import shlex
from configparser import ConfigParser
from pathlib import Path

import yaml

from pipelines.retraining import ENDINGS, FAILED
from tests.pipelines.toy import ROOT

SCHEDULES = ROOT / "docs/schedules"
CALL = ["-m", "pipelines", "retraining"]
ANSWERS = {code for code in ENDINGS if code != FAILED}


def unit(name: str) -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names are as they are written
    parser.read(SCHEDULES / name)
    return parser


def test_the_unit_calls_retraining_and_takes_answers_for_success() -> None:
    service = unit("mobile-centernet-retraining.service")["Service"]
    assert shlex.split(service["ExecStart"])[1:] == CALL
    assert {0, *map(int, service["SuccessExitStatus"].split())} == ANSWERS
    assert service["Type"] == "oneshot"  # systemd starts no second one beside it
    assert unit("mobile-centernet-retraining.timer")["Timer"]["Persistent"] == "true"


def test_cron_and_ci_call_retraining_and_fail_for_failures_alone() -> None:
    (line,) = [text for text in (SCHEDULES / "crontab").read_text().splitlines() if text[:1].isdigit()]
    assert " ".join(CALL) in line and "10|11|12)" in line
    workflow = yaml.safe_load((SCHEDULES / "github-actions.yml").read_text())
    assert workflow["concurrency"]["cancel-in-progress"] is False
    script = workflow["jobs"]["retraining"]["steps"][-1]["run"]
    assert " ".join(CALL) in script
    assert "|".join(map(str, sorted(ANSWERS))) in script


def test_every_file_is_listed() -> None:
    page = (SCHEDULES / "README.md").read_text()
    for path in SCHEDULES.iterdir():
        assert path == SCHEDULES / "README.md" or Path(path.name).suffix in page
