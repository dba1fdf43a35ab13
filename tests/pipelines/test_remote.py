"""Steps on machines that share nothing but the DVC remote, which is a folder, or an S3-compatible server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.toy import environment, make_toy, ran, run

STEP = (
    "import sys; from pipelines.dvc_step import reproduce_stage; "
    "print(reproduce_stage(sys.argv[1], remote=True).executed)"
)
GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]


def clones(folder: Path, url: str, **settings: str) -> tuple[Path, Path]:
    """Two clones of one commit, whose default DVC remote is `url`; neither has a dvc.lock."""
    origin = folder / "origin"
    origin.mkdir()
    make_toy(origin)
    lines = "".join(f"    {key} = {value}\n" for key, value in settings.items())
    config = f"[core]\n    analytics = false\n    remote = store\n['remote \"store\"']\n    url = {url}\n{lines}"
    (origin / ".dvc/config").write_text(config)
    subprocess.run([*GIT, "commit", "-qam", "remote"], cwd=origin, env=environment(), check=True)
    for name in ("first", "second"):
        subprocess.run(["git", "clone", "-q", origin, folder / name], env=environment(), check=True)
    return folder / "first", folder / "second"


def step(clone: Path, stage: str) -> str:
    """Whether the stage's command ran, as the step's report says; and all that the step printed."""
    done = run(clone, "-c", STEP, stage)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "did not hold" not in done.stderr
    return done.stdout.splitlines()[-1]


def check_that_the_second_goes_on(first: Path, second: Path) -> None:
    assert step(first, "source") == "True"
    assert ran(first) == ["source"]
    assert step(second, "left") == "True"
    assert ran(second) == ["left"]  # from the source of another machine
    assert step(first, "left") == "False"  # and back
    assert ran(first) == []
    assert (first / "data/left.txt").read_text() == "leftfirst"


def test_a_second_clone_goes_on_through_a_folder(tmp_path: Path) -> None:
    check_that_the_second_goes_on(*clones(tmp_path, str(tmp_path / "store")))


def test_with_a_committed_dvc_lock_a_step_fetches_only_what_its_stage_reads(tmp_path: Path) -> None:
    first, second = clones(tmp_path, str(tmp_path / "store"))
    for command in ("repro", "push"):
        assert run(first, "-m", "dvc", command).returncode == 0
    (second / "dvc.lock").write_bytes((first / "dvc.lock").read_bytes())
    dvc_yaml = (second / "dvc.yaml").read_text()
    (second / "dvc.yaml").write_text(dvc_yaml.replace("python stages.py score", "python stages.py score again"))
    assert step(second, "score") == "True"
    assert ran(second) == ["score"]
    assert {path.name for path in (second / "data").iterdir()} == {"left.txt", "right.txt", "both.txt", "score.json"}


def test_stages_that_nobody_pushed_run_again_and_are_named(tmp_path: Path) -> None:
    first, second = clones(tmp_path, str(tmp_path / "store"))
    run(first, "-m", "dvc", "repro", "dvc.yaml:source")
    done = run(second, "-c", STEP, "left")
    assert "left: the DVC remote did not hold source, so they ran here" in done.stderr
    assert sorted(ran(second)) == ["left", "source"]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3-compatible server on 127.0.0.1 with a bucket `store`."""
    pytest.importorskip("moto.server")
    pytest.importorskip("dvc_s3")
    serve = (
        "from moto.server import ThreadedMotoServer; import time\n"
        "server = ThreadedMotoServer(ip_address='127.0.0.1', port=0); server.start()\n"
        "print('port', server.get_host_and_port()[1], flush=True); time.sleep(600)"
    )
    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setitem(os.environ, name, value)
    command = [sys.executable, "-c", serve]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        port = next(line.split()[1] for line in server.stdout or () if line.startswith("port "))
        address = f"http://127.0.0.1:{port}"
        import boto3

        boto3.client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket="store")
        yield address
        server.kill()


@pytest.mark.slow
def test_a_second_clone_goes_on_through_s3(tmp_path: Path, s3: str) -> None:
    check_that_the_second_goes_on(*clones(tmp_path, "s3://store/project", endpointurl=s3, region="us-east-1"))
