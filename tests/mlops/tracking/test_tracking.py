"""No failure of MLflow stops a stage or loses a number: it is recorded here first, and sent when MLflow answers."""

import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner, Result

from mobile_centernet.cli.main import LazyGroup
from mobile_centernet.mlops import mlflow_server
from mobile_centernet.mlops.cli import tracking as commands
from mobile_centernet.mlops.params import load_params
from mobile_centernet.mlops.registry.registry import Registry, RegistryError
from mobile_centernet.mlops.tracking import tracking, upload
from mobile_centernet.mlops.tracking.record import RunRecord, all_records
from tests.helpers import registry_project as small
from tests.helpers.mlflow_servers import RealServer, failing_server, free_port, hanging_server

pytestmark = pytest.mark.usefixtures("registry_project")
PARAMS = load_params(small.ROOT / "params.yaml")


def command(*arguments: str) -> Result:
    """As `mobile-centernet tracking ...` runs it."""
    return CliRunner().invoke(LazyGroup(commands={"tracking": commands}), ["tracking", *arguments])


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """at(url): from now on, MLflow is there."""

    def point(url: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")

    return point


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on MLflow is the project's own database."""
    return lambda: monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def only_run(stage: str) -> Any:
    """The one run of that stage, wherever MLflow is now."""
    client = mlflow_server.connect().MlflowClient()
    experiment = client.get_experiment_by_name(mlflow_server.EXPERIMENT).experiment_id
    (run,) = client.search_runs([experiment], f"tags.stage = '{stage}'")
    return run


def steps_of(run: Any, metric: str) -> list[tuple[int, float]]:
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, metric)
    return sorted((entry.step, entry.value) for entry in history)


def a_stage(stage: str) -> None:
    """Two numbers, a file and a tag."""
    Path("summary.json").write_text("{}")
    Path("model.safetensors").write_text("weights")
    with tracking.run(stage, PARAMS, ("seed", "loss")) as tracker:
        tracker.log({"map50": 0.25}, step=3, prefix="finetune/")
        tracker.log({"map50": float("nan")}, step=4, prefix="finetune/")
        tracker.finish([Path("summary.json"), Path("model.safetensors"), Path("data")], digest="abc")


def assert_all_there(stage: str) -> None:
    run = only_run(stage)
    assert (run.info.run_name, run.info.status) == (stage, "FINISHED")
    assert run.data.params["loss.alpha"] == "2.0" and run.data.tags["digest"] == "abc"
    assert [step for step, _ in steps_of(run, "finetune/map50")] == [3, 4]
    assert [entry.path for entry in mlflow.MlflowClient().list_artifacts(run.info.run_id)] == ["summary.json"]


def test_a_run_keeps_params_numbers_tags_and_files(caplog: pytest.LogCaptureFixture) -> None:
    a_stage("kept")
    assert_all_there("kept")
    assert not [record for record in caplog.records if record.name.startswith("mobile_centernet")]
    assert command("sync").output == "nothing to send: MLflow has every run that was recorded here\n"
    assert command("list").output.startswith("delivered  ")


def test_a_run_whose_stage_fails_says_so() -> None:
    with pytest.raises(RuntimeError, match="boom"), tracking.run("fails", PARAMS, ()):
        raise RuntimeError("boom")
    assert only_run("fails").info.status == "FAILED"


@contextmanager
def dead_server() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("server", [dead_server, failing_server, hanging_server])
def test_a_server_that_does_not_help_neither_stops_nor_delays_a_stage_and_sync_catches_up(
    server: Callable[[], AbstractContextManager[str]],
    at: Callable[[str], None],
    at_home: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = server.__name__
    with server() as url:
        at(url)
        begin = time.monotonic()
        with tracking.run("quick", PARAMS, ("seed",)) as tracker:
            for step in range(100):
                tracker.log({"loss": 1.0}, step=step)
            logged = time.monotonic() - begin
        assert logged < 2  # of one attempt's timeout, of which the stage waits for none
        a_stage(stage)
        said = caplog.text
        assert said.count(f"{stage}: MLflow does not have all of this run yet") == 1
        assert command("sync").exit_code == 2
        assert command("list").output.count("not yet") == 2
    at_home()
    assert command("sync").stdout.endswith("2 sent, 0 running, 0 already\n")
    assert_all_there(stage)


def test_a_locked_database_loses_nothing(
    at: Callable[[str], None], at_home: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    Registry("nothing")  # makes the database
    at(f"sqlite:///{Path('mlflow.db').resolve()}?timeout=1")  # seconds, where Python's default is 5
    with sqlite3.connect("mlflow.db") as lock:
        lock.execute("begin exclusive")
        a_stage("locked out")
        with pytest.raises(RegistryError, match="database is locked"):
            Registry("nothing").set_alias("champion", 1)
        lock.rollback()
    at_home()
    said = caplog.text
    assert "database is locked" in said and "`mobile-centernet tracking sync` sends it" in said
    assert command("sync").stdout.endswith("1 sent, 0 running, 0 already\n")
    assert_all_there("locked out")


def test_a_full_disk_stops_the_record_and_not_the_stage(caplog: pytest.LogCaptureFixture) -> None:
    Path(".work").mkdir(exist_ok=True)
    Path(".work/tracking").write_text("in the way")
    a_stage("no room")
    assert caplog.text.count("no room is no longer tracked") == 1


def test_a_delivery_that_was_cut_off_is_completed_and_nothing_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    record = RunRecord.create("cut off")
    record.write("start", stage="cut off", tags={"stage": "cut off"}, params={"a": 1})
    record.write("metrics", step=1, values={"loss": 2.0})
    record.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunRecord, "mark_synced", lambda *_: (_ for _ in ()).throw(OSError("killed here")))
        for _ in range(2):  # the run exists in MLflow, and nobody here knows
            with pytest.raises(OSError, match="killed here"):
                upload.sync_record(record)
    upload.sync_record(record)
    with pytest.MonkeyPatch.context() as patch:
        record.write("metrics", step=2, values={"loss": 1.0})
        patch.setattr(RunRecord, "mark_synced", lambda *_: (_ for _ in ()).throw(OSError("killed here")))
        with pytest.raises(OSError, match="killed here"):
            upload.sync_record(record)
    upload.sync([record])
    run = only_run("cut off")
    assert run.info.status == "KILLED" and steps_of(run, "loss") == [(1, 2.0), (2, 1.0)]


def test_a_line_that_was_cut_off_is_named_and_the_rest_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    record = RunRecord.create("torn")
    record.write("start", stage="torn", tags={"stage": "torn"}, params={})
    with record.events_file.open("a") as file:
        file.write('{"event": "metr\n')
    record.write("metrics", step=1, values={"loss": 2.0})
    with record.events_file.open("a") as file:
        file.write('{"event": "metrics", "step": 2, "val')
    record.close()
    assert upload.sync([record]) == ({"sent": 1, "running": 0, "already": 0}, {})
    assert steps_of(only_run("torn"), "loss") == [(1, 2.0)]
    assert 'events.jsonl line 2: expected an event, found b\'{"event": "metr\'' in caplog.text


def test_a_clock_that_was_set_back_loses_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    with tracking.run("clock", PARAMS, ("seed",)) as tracker:
        tracker.log({"loss": 2.0}, step=0)
        monkeypatch.setattr(time, "time", lambda: now() - 24 * 3600)
        tracker.log({"loss": 1.0}, step=1)
    run = only_run("clock")
    assert run.info.status == "FINISHED" and run.data.metrics["loss"] == 1.0  # MLflow's latest is by step
    assert steps_of(run, "loss") == [(0, 2.0), (1, 1.0)]


# --- what MLflow does not take as it is ----------------------------------------------------------------------------


def ended_record(stage: str, **metrics: float) -> RunRecord:
    record = RunRecord.create(stage)
    record.write("start", stage=stage, tags={"stage": stage}, params={"class_map.tuk tuk (CNG)": "vehicle"})
    record.write("metrics", step=0, values=metrics)
    record.write("end", status="FINISHED", tags={})
    record.close()
    return record


def test_class_names_that_mlflow_does_not_take_arrive_under_acceptable_ones() -> None:
    names = ("student.ap50.three wheelers (CNG)", "a(b", "a)b", "a_b", "../car", "a//b", "ä", ".", "", "x" * 300)
    record = ended_record("classes", **{name: float(number) for number, name in enumerate(names)})
    assert upload.sync([record]) == ({"sent": 1, "running": 0, "already": 0}, {})
    found = only_run("classes").data
    assert sorted(found.metrics.values()) == [float(number) for number in range(len(names))]
    assert found.metrics["student.ap50.three wheelers _CNG_"] == 0.0
    assert found.params == {"class_map.tuk tuk _CNG_": "vehicle"}


def test_a_run_deleted_in_mlflow_keeps_no_other_back_and_can_be_sent_again_or_dropped() -> None:
    first, bad, last = (ended_record(stage, loss=1.0) for stage in ("first", "bad", "last"))
    upload.sync_record(bad, ended=True)
    bad.mark_synced(f"sqlite:///{Path('mlflow.db').resolve()}", upload.SyncState(only_run("bad").info.run_id, 1))
    mlflow.MlflowClient().delete_run(only_run("bad").info.run_id)

    answer = command("sync")
    assert answer.exit_code == 3 and answer.stdout == "2 sent, 0 running, 0 already\n"
    assert f"{bad.name}: MLflow refuses it: " in answer.stderr and "deleted" in answer.stderr
    assert f"mobile-centernet tracking sync --again {bad.name}" in answer.stderr
    assert only_run("first").info.status == only_run("last").info.status == "FINISHED"

    assert command("sync", "--again", bad.name).exit_code == 0
    assert only_run("bad").info.status == "FINISHED"
    assert command("drop", first.name).output == f"dropped {first.name}\n"
    assert [record.name for record in all_records()] == sorted([bad.name, last.name])
    unknown = command("drop", "nothing")
    assert unknown.exit_code == 2 and unknown.stderr.startswith("error: nothing: expected a record")


def test_an_empty_address_is_none_and_one_without_a_scheme_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "  ")
    a_stage("empty")
    assert_all_there("empty")
    assert Path("mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "localhost:5000")
    sentence = "MLFLOW_TRACKING_URI: expected an address such as https://mlflow.example.com, found 'localhost:5000'"
    with pytest.raises(RegistryError, match=sentence):
        Registry("nothing")
    a_stage("no scheme")  # tracking stops no stage
    assert sentence in command("sync").stderr


def test_a_project_that_was_copied_keeps_its_own_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_home: Callable[[], None]
) -> None:
    a_stage("before")
    copy = tmp_path / "with a space" / "copy"
    shutil.copytree(Path.cwd(), copy)
    before = sorted(Path("mlartifacts").rglob("summary.json"))
    monkeypatch.chdir(copy)
    at_home()
    a_stage("after")
    assert sorted(Path.cwd().parent.parent.rglob("mlartifacts")) == [copy / "mlartifacts"]
    for stage in ("before", "after"):
        run = only_run(stage)
        assert run.info.artifact_uri.startswith((copy / "mlartifacts").as_uri())
        assert Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/summary.json")).read_text() == "{}"
    assert len(sorted(Path("mlartifacts").rglob("summary.json"))) == len(before) + 1


# --- what belongs together ------------------------------------------------------------------------------------------


def test_an_experiment_that_runs_elsewhere_records_into_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    project = Path.cwd()
    elsewhere = project / ".dvc/tmp/exps/standalone/tmp1234"  # deleted when `dvc exp run --temp` ends
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("DVC_EXP_NAME", "silly-name")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "0" * 40)
    a_stage("tried")
    assert {path.name for path in elsewhere.iterdir()} == {"model.safetensors", "summary.json"}
    shutil.rmtree(project / ".dvc")
    monkeypatch.chdir(project)
    assert_all_there("tried")
    assert only_run("tried").data.tags["dvc_exp"] == "silly-name"
    assert [record.complete for record in all_records()] == [True]


def test_stages_of_one_execution_are_below_one_run_that_has_their_params_and_last_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MOBILE_CENTERNET_EXECUTION", "a night's run")
    a_stage("one")
    with pytest.raises(RuntimeError, match="boom"), tracking.run("two", PARAMS, ("classes",)) as tracker:
        tracker.log({"loss": 2.0}, step=1)
        tracker.log({"loss": 1.0}, step=2)
        raise RuntimeError("boom")
    one, two = only_run("one"), only_run("two")
    above = mlflow.MlflowClient().get_run(one.data.tags["mlflow.parentRunId"])
    assert (above.data.tags["stage"], above.data.tags[mlflow_server.EXECUTION_TAG]) == ("pipeline", "a nights run")
    assert one.data.tags["mlflow.parentRunId"] == two.data.tags["mlflow.parentRunId"] == above.info.run_id
    assert above.data.params == one.data.params | two.data.params
    assert above.data.metrics["two/loss"] == 1.0 and "one/finetune/map50" in above.data.metrics
    assert above.info.status == "FAILED"
    assert not [name for name in above.data.metrics if "system" in name]
    assert one.data.metrics["system/disk_available_megabytes"] > 0


def test_a_run_names_the_sets_that_its_stage_reads_by_their_digests_in_dvc_lock() -> None:
    Path("dvc.yaml").write_text("stages:\n  learn:\n    deps: [data/prepared/ivslab, data/models/teacher]\n")
    Path("dvc.lock").write_text(
        "stages:\n  prepare:\n    outs: [{path: data/prepared/ivslab, md5: 0cc175b9c0f1b6a831c399e269772661.dir}]\n"
    )
    a_stage("learn")
    (entry,) = only_run("learn").inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("ivslab", "0cc175b9c0f1b6a831c399e269772661.dir")
    assert entry.dataset.source == '{"uri": "data/prepared/ivslab"}'
    Path("dvc.yaml").unlink()
    Path("dvc.lock").unlink()


# --- a real server that is killed and comes back, a real process that is killed ------------------------------------


@pytest.fixture
def real_server(tmp_path: Path) -> Iterator[RealServer]:
    server = RealServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def start() -> Iterator[Callable[..., BaseProcess]]:
    """start(work, *arguments): a process of its own, which does not outlive the test."""
    workers: list[BaseProcess] = []

    def started(*arguments: Any) -> BaseProcess:
        workers.append(small.start(*arguments))
        return workers[-1]

    yield started
    for worker in workers:
        worker.kill()
        worker.join()


def log_until_told(url: str, name: str) -> None:
    """A number every 10 ms until the file `NAME.stop` is there; `NAME.logged` says how many were logged so far."""
    os.environ |= {"MLFLOW_TRACKING_URI": url, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    upload.PAUSE, upload.LONGEST_PAUSE = 0.2, 0.5
    slowest, step = 0.0, 0
    with tracking.run(name, PARAMS, ("seed",)) as tracker:
        while not Path(f"{name}.stop").exists():
            begin = time.monotonic()
            tracker.log({"loss": float(step)}, step=step)
            slowest, step = max(slowest, time.monotonic() - begin), step + 1
            Path(f"{name}.logged").write_text(str(step))
            time.sleep(0.01)
    sys.exit(0 if slowest < 5 else 3)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError(f"two minutes went by without {what}")


def delivered(server: str) -> int:
    found = [delivery for record in all_records() if (delivery := record.sync_state(server))]
    return found[0].lines if found else 0


def logged(name: str) -> int:
    place = Path(f"{name}.logged")
    return int(place.read_text() or 0) if place.exists() else 0


def test_a_server_killed_in_mid_training_that_comes_back_has_everything_once(
    real_server: RealServer, at: Callable[[str], None], start: Callable[..., BaseProcess]
) -> None:
    real_server.start()
    worker = start(log_until_told, real_server.url, "story")
    wait_until(lambda: delivered(real_server.url) > 2, "a delivery")
    real_server.kill()
    seen = delivered(real_server.url)
    before = logged("story")
    wait_until(lambda: logged("story") > before + 50, "going on without a server")
    assert delivered(real_server.url) == seen
    real_server.start()
    wait_until(lambda: delivered(real_server.url) > before, "a delivery to the server that came back")
    real_server.kill()
    Path("story.stop").touch()
    assert small.ended(worker) == 0
    total = logged("story")
    real_server.start()
    at(real_server.url)
    mlflow_server.connect()
    assert command("sync").stdout.endswith("1 sent, 0 running, 0 already\n")
    run = only_run("story")
    assert run.info.status == "FINISHED"
    assert steps_of(run, "loss") == [(step, float(step)) for step in range(total)]


def test_a_killed_run_is_told_apart_from_one_that_goes_on(
    at_home: Callable[[], None], start: Callable[..., BaseProcess]
) -> None:
    worker = start(log_until_told, f"http://127.0.0.1:{free_port()}", "killed")
    wait_until(lambda: logged("killed") > 5, "numbers")
    assert command("sync").stdout.endswith("0 sent, 1 running, 0 already\n")
    assert worker.pid
    os.kill(worker.pid, signal.SIGKILL)
    assert small.ended(worker) == -9
    assert command("sync").stdout.endswith("1 sent, 0 running, 0 already\n")
    run = only_run("killed")
    assert run.info.status == "KILLED"
    assert len(steps_of(run, "loss")) >= logged("killed")
