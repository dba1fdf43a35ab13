"""Steps on machines that share nothing but the DVC remote, which is a folder, or an S3-compatible server."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

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


def test_what_a_stage_reads_and_makes_comes_to_a_machine_that_ran_nothing(tmp_path: Path) -> None:
    """As the gate's pod needs it; without dvc.lock, which nobody commits on a remote stack."""
    first, second = clones(tmp_path, str(tmp_path / "store"))
    for command in (["repro", "-q"], ["push", "-q", "--run-cache"]):
        assert run(first, "-m", "dvc", *command).returncode == 0
    done = run(second, "-c", "from pipelines.dvc_step import fetch_inputs; fetch_inputs('score')")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert ran(second) == [] and "did not hold" not in done.stderr
    for name in ("left.txt", "right.txt", "both.txt", "score.json"):
        assert (second / "data" / name).read_bytes() == (first / "data" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("damaged")], ids=["lost", "damaged"])
def test_what_the_remote_lost_or_damaged_is_named_and_a_clone_that_has_it_pushes_it_again(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """DVC's words, to which docs/faq.md says what to do; the clone gets everything else, and could also make it."""
    first, second = clones(tmp_path, str(tmp_path / "store"))
    for command in ("repro", "push"):
        assert run(first, "-m", "dvc", command, "-q").returncode == 0
    (second / "dvc.lock").write_bytes((first / "dvc.lock").read_bytes())
    digest = yaml.safe_load((first / "dvc.lock").read_text())["stages"]["left"]["outs"][0]["md5"]
    (kept,) = (tmp_path / "store").rglob(digest[2:])
    kept.chmod(0o644)
    harm(kept)
    done = run(second, "-m", "dvc", "pull")
    assert done.returncode == 1 and f"Missing cache files:\nmd5: {digest}" in done.stderr
    assert "Checkout failed for following targets:\ndata/left.txt\n" in done.stderr
    assert not (second / "data/left.txt").exists() and (second / "data/right.txt").is_file()

    for clone, command in ((first, "push"), (second, "pull"), (second, "repro")):
        done = run(clone, "-m", "dvc", command)
        assert done.returncode == 0, done.stdout + done.stderr
    assert ran(second) == [] and (second / "data/left.txt").read_text() == "leftfirst"


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


@pytest.mark.slow
def test_a_damaged_object_on_s3_is_told_apart_where_the_remote_is_verified(tmp_path: Path, s3: str) -> None:
    import boto3

    settings = {"endpointurl": s3, "region": "us-east-1", "verify": "true"}  # as docs/team.md has it
    first, second = clones(tmp_path, "s3://store/project", **settings)
    for command in ("repro", "push"):
        assert run(first, "-m", "dvc", command, "-q").returncode == 0
    (second / "dvc.lock").write_bytes((first / "dvc.lock").read_bytes())
    digest = yaml.safe_load((first / "dvc.lock").read_text())["stages"]["left"]["outs"][0]["md5"]
    key = f"project/files/md5/{digest[:2]}/{digest[2:]}"
    boto3.client("s3", endpoint_url=s3, region_name="us-east-1").put_object(Bucket="store", Key=key, Body=b"damaged")
    done = run(second, "-m", "dvc", "pull")
    assert done.returncode == 1 and "data/left.txt" in done.stderr, done.stdout + done.stderr
    assert not (second / "data/left.txt").exists()
