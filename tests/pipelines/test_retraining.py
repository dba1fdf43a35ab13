"""Retraining around real DVC in a toy checkout. The two pipelines are handed in: DVC itself, and fixed verdicts."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from pipelines import retraining
from pipelines.dvc_step import StageFailedError, run_dvc
from pipelines.retraining import retrain
from pipelines.settings import RunFailedError
from tests.helpers.trust import Fleet
from tests.pipelines.toy import environment, make_toy, ran, run


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(make_toy(tmp_path))
    return tmp_path


def pipeline(verdict: int) -> Callable[[list[str]], int]:
    """DVC in place of ZenML, and a gate with a fixed verdict."""

    def train_and_judge(stages: list[str]) -> int:
        assert "score" in stages or not stages
        try:
            run_dvc("repro")
            subprocess.run([sys.executable, "-m", "steps", "register"], check=True)
        except StageFailedError as error:
            raise RunFailedError(str(error)) from error
        return verdict

    return train_and_judge


def test_days_of_a_schedule(toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    notes = toy / "notes.jsonl"
    write = f"import sys; open({str(notes)!r}, 'a').write(sys.stdin.read() + '\\n')"
    monkeypatch.setenv(retraining.NOTIFY, f'{sys.executable} -c "{write}"')

    (toy / "fail-once").touch()
    assert retrain(pipeline(0)) == 1  # a stage failed, nothing was judged
    assert retrain(pipeline(0)) == 0  # it goes on where it stopped
    assert sorted(ran(toy)) == ["left", "right", "score", "source"]
    assert retraining.reasons() == []

    assert retrain(pipeline(0)) == 10
    assert ran(toy) == []
    (toy / "input.txt").write_text("second")
    assert [line.split(":")[0] for line in retraining.reasons()] == ["source"]
    assert retrain(pipeline(12)) == 12
    assert retrain(pipeline(12)) == 10  # rejected once, not every night
    outcomes = [json.loads(line)["outcome"] for line in notes.read_text().splitlines()]
    assert outcomes == ["failed", "promoted", "rejected"]
    assert "retraining: no change" in capsys.readouterr().out


def test_a_version_that_was_never_judged_is_judged_by_the_next_run(toy: Path) -> None:
    def killed(stages: list[str]) -> int:
        pipeline(0)(stages)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrain(killed)
    assert retraining.reasons() == ["the last retraining ended before its version was judged"]
    assert retrain(pipeline(0)) == 0
    assert retrain(pipeline(0)) == 10


def test_a_version_that_only_waits_for_canaries_is_judged_again_every_night(toy: Path) -> None:
    retraining.DECISION.parent.mkdir(parents=True)
    retraining.DECISION.write_text('{"failed": ["canary devices"]}')
    assert [retrain(pipeline(12)), retrain(pipeline(12))] == [12, 12]
    retraining.DECISION.write_text('{"failed": ["canary devices", "parity"]}')
    assert [retrain(pipeline(12)), retrain(pipeline(12))] == [12, 10]


def test_an_experiment_that_was_applied_is_registered_and_judged_though_nothing_is_stale(toy: Path) -> None:
    assert retrain(pipeline(0)) == 0
    export = toy / "data/export/model.fp32.onnx"
    export.parent.mkdir()
    export.write_bytes(b"the winner")
    said = ["the exported files, with what register.bundle says to devices, are not registered"]
    assert retraining.reasons() == said
    assert [retrain(pipeline(0)), retrain(pipeline(0))] == [0, 10]
    params = toy / "params.yaml"
    params.write_text(params.read_text().replace("      default: 0.3\n", "      default: 0.4\n"))
    assert retraining.reasons() == said  # no stage reads the threshold
    assert [retrain(pipeline(0)), retrain(pipeline(0))] == [0, 10]


def test_every_night_re_signs_what_expires_and_one_that_cannot_says_so_and_goes_on(
    toy: Path, tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))

    def timestamp() -> int:
        return fleet.repository().state().roles["timestamp"].signed.version

    def settings(**trust: object) -> None:
        tree = yaml.safe_load((toy / "params.yaml").read_text())
        tree["trust"] |= trust
        (toy / "params.yaml").write_text(yaml.safe_dump(tree))

    settings(repository=str(fleet.served), root=str(fleet.root_file), keys=fleet.places)
    before = timestamp()
    assert [retrain(pipeline(0)), retrain(pipeline(0))] == [0, 10]
    with FileLock(retraining.LOCK):  # a training that goes on for days
        assert retrain(pipeline(0)) == 11
    assert timestamp() == before + 3
    settings(keys={role: [] for role in fleet.places})
    assert retrain(pipeline(0)) == 10
    said = capfd.readouterr().err
    assert "timestamp: expected 1 more of the signatures" in said and "trust refresh ended with code 2" in said
    assert timestamp() == before + 3


@pytest.fixture
def published(toy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy with `retraining.publish`, a notifying command and who commits; it has no remote yet."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "night")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "night@localhost")
    write = f"import sys; open({str(toy / '.work/notes')!r}, 'a').write(sys.stdin.read() + '\\n')"
    monkeypatch.setenv(retraining.NOTIFY, f'{sys.executable} -c "{write}"')
    text = (toy / "params.yaml").read_text()
    (toy / "params.yaml").write_text(text.replace("publish: false", "publish: true"))
    subprocess.run(["git", "commit", "-qam", "publish"], check=True)
    return toy


def test_what_a_night_made_is_published_and_a_clone_goes_on_from_it(published: Path, tmp_path_factory: Any) -> None:
    place = tmp_path_factory.mktemp("places")
    subprocess.run(["git", "clone", "-q", "--bare", ".", str(place / "origin.git")], check=True)
    subprocess.run(["git", "remote", "add", "origin", str(place / "origin.git")], check=True)
    subprocess.run(
        [sys.executable, "-m", "dvc", "remote", "add", "-q", "-d", "store", str(place / "store")], check=True
    )
    subprocess.run(["git", "commit", "-qam", "remote"], check=True)
    (published / "note.txt").write_text("nobody's business")
    assert retrain(pipeline(12)) == 12  # a rejected version's data are kept, too
    assert retrain(pipeline(12)) == 10
    assert "unpublished" not in (published / ".work/notes").read_text()
    subprocess.run(["git", "clone", "-q", str(place / "origin.git"), str(place / "clone")], check=True)
    assert not (place / "clone/note.txt").exists()
    for command in ("pull", "repro"):
        assert run(place / "clone", "-m", "dvc", command).returncode == 0
    assert ran(place / "clone") == [] and (place / "clone/data/both.txt").is_file()


def test_a_failure_of_publishing_is_told_and_the_next_night_tries_again(
    published: Path, tmp_path_factory: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert retrain(pipeline(0)) == 0
    assert "error: not published, the next run tries again: `dvc push` ended with code" in capsys.readouterr().err
    (note,) = (published / ".work/notes").read_text().splitlines()
    assert (json.loads(note)["outcome"], "dvc push" in json.loads(note)["unpublished"]) == ("promoted", True)
    assert retraining.reasons() == ["what the last retraining made is not published"]
    store = str(tmp_path_factory.mktemp("store"))
    subprocess.run([sys.executable, "-m", "dvc", "remote", "add", "-q", "-d", "store", store], check=True)
    assert retrain(pipeline(0)) == 10
    assert retraining.reasons() == []
    log = subprocess.run(["git", "log", "-1", "--format=%s", "--name-only"], capture_output=True, text=True, check=True)
    assert log.stdout.startswith("Retrained on ") and log.stdout.split()[-1] == "dvc.lock"


def test_two_at_once_and_the_lock_of_a_killed_one(toy: Path) -> None:
    hold = (
        "from filelock import FileLock; from pathlib import Path; import time\n"
        f"Path('.work').mkdir(); lock = FileLock('{retraining.LOCK}'); lock.acquire()\n"
        "print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        assert retrain(pipeline(0)) == 11
        other.kill()
    assert retrain(pipeline(0)) == 0
    with FileLock(retraining.LOCK, timeout=0):
        pass  # it was given back


def test_a_refresh_that_fails_is_code_1_and_one_sentence(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = yaml.safe_load((toy / "params.yaml").read_text())
    lost = {"url": "http://127.0.0.1:9/lost.zip", "sha256": "0" * 64, "token_env": "NOT_SET"}
    tree["fetch_bdd100k"] = {"source": "urls", "path": "up.json", "linked": "no.txt", "archives": [lost]}
    (toy / "params.yaml").write_text(yaml.safe_dump(tree))
    assert retrain(pipeline(0)) == 1
    said = capsys.readouterr().err
    assert "steps.refresh` ended with code 2" in said and "Traceback" not in said
    assert ran(toy) == []


@pytest.mark.parametrize("command", ["no-such-command-here", f"{sys.executable} -c 'raise SystemExit(3)'"])
def test_a_notification_that_fails_changes_nothing(
    toy: Path, command: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(os.environ, retraining.NOTIFY, command)
    retraining.notify(0)
    assert caplog.messages[0].startswith("MOBILE_CENTERNET_NOTIFY: ")
