"""Fetching under kill -9, full disks and servers that fail at random: identical bytes, or one sentence and nothing."""

import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from mobile_centernet.data.download.download import RetryPolicy, download
from mobile_centernet.data.download.remote import Archive
from mobile_centernet.errors import DataError
from mobile_centernet.mlops.params import load_params
from mobile_centernet.mlops.refresh import refresh
from tests.helpers.file_server import Fault, FileServer, Request, cut, file_server, redirect, status

ROOT = Path(__file__).resolve().parents[2]
SEEDED = random.Random(11)
FILES = {f"ivslab_train/JPEGImages/All/a.mp4/a.mp4_{n:05d}.jpg": SEEDED.randbytes(8_000) for n in range(500)}
POLICY = RetryPolicy(retries=2, backoff=0.001, longest_wait=1, connect=20, silence=20)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return buffer.getvalue()


CONTENT = zipped()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        server.add("/set.zip", CONTENT)
        yield server


def url(server: FileServer) -> str:
    return f"http://127.0.0.1:{server.server_port}/set.zip"


@pytest.fixture
def project(tmp_path: Path, server: FileServer) -> Path:
    """params.yaml and dvc.yaml as shipped, with ivslab from an address."""
    folder = tmp_path / "project"
    (folder / "data/upstream").mkdir(parents=True)
    (folder / "data/upstream/ivslab.json").write_text("{}")
    shutil.copy2(ROOT / "dvc.yaml", folder)
    shutil.copy2(ROOT / "params.yaml", folder)
    shutil.copy2(ROOT / "data/upstream/no_links.txt", folder / "data/upstream")
    change(folder, "fetch_field", source="none")
    section = {"source": "urls", "path": "data/upstream/ivslab.json"}
    change(folder, "fetch_ivslab", **section, archives=[{"url": url(server), "sha256": SHA256}])
    return folder


def change(project: Path, name: str, **values: object) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params[name] |= values
    (project / "params.yaml").write_text(yaml.safe_dump(params))


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}


def start(project: Path, *command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, cwd=project, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(project: Path, *command: str) -> tuple[int, str]:
    with start(project, *command) as process:
        output = process.communicate(timeout=300)[0]
    return process.returncode, output


STAGE = (sys.executable, "-m", "steps", "fetch_ivslab")


def kill_when(process: "subprocess.Popen[str]", reached: Callable[[], bool]) -> None:
    """kill -9 as soon as `reached`; fails where the process ends before."""
    with process:
        deadline = time.monotonic() + 180
        while not reached():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)


def footage(project: Path) -> dict[str, bytes]:
    root = project / "data/raw/ivslab/footage"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_kill_9_while_downloading_and_while_unpacking(project: Path, server: FileServer) -> None:
    out, downloads = project / "data/raw/ivslab", project / ".work/downloads"
    partial = downloads / f"{SHA256[:16]}.partial"
    server.pause = 0.03
    for share in (0.3, 0.6):
        wanted = int(share * len(CONTENT))
        kill_when(start(project, *STAGE), lambda wanted=wanted: partial.exists() and partial.stat().st_size > wanted)  # type: ignore[misc]
        assert CONTENT.startswith(partial.read_bytes())
        shutil.rmtree(out, ignore_errors=True)  # DVC clears a stage's outputs before it runs it again
    server.pause = 0
    kill_when(start(project, *STAGE), lambda: len(list(out.glob(".footage.partial/**/*.jpg"))) > 20)
    assert footage(project) == {}
    assert not (out / "source.json").exists()
    shutil.rmtree(out)
    fetched = [each for each in server.log if each[1] != "bytes=0-0"]

    assert run(project, *STAGE)[0] == 0
    assert footage(project) == FILES
    assert not (out / ".footage.partial").exists()
    assert [each for each in server.log if each[1] != "bytes=0-0"] == fetched  # what was whole was not fetched again
    assert [asked is None for _, asked, _ in fetched] == [True, False, False]
    assert server.sent < 1.5 * len(CONTENT)  # what was on its way when the process died is sent twice


@pytest.mark.parametrize(("limit", "what"), [(1_000_000, "the download"), (4_100, "a frame")])
def test_a_full_disk_is_one_sentence_and_the_download_is_kept(
    project: Path, server: FileServer, limit: int, what: str
) -> None:
    if what == "a frame":  # the archive is there already, its frames do not fit
        folder = project / ".work/downloads"
        folder.mkdir(parents=True)
        (folder / f"{SHA256[:16]}.archive").write_bytes(CONTENT)
    code = f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    code += "sys.argv[1:] = ['fetch_ivslab']; runpy.run_module('steps', run_name='__main__')"
    status, output = run(project, sys.executable, "-c", code)
    assert status == 2, output
    sentence = output.strip().splitlines()[-1]
    assert sentence.startswith("error: fetch_ivslab: ")
    assert "File too large" in sentence
    assert "Traceback" not in output
    out = project / "data/raw/ivslab"
    assert list(out.rglob("*")) == []
    if what == "the download":
        assert "after 1000000 bytes (kept; the next run resumes there)" in sentence
    assert run(project, *STAGE)[0] == 0
    assert footage(project) == FILES
    # Not what the server sent: that counts the kernel's buffers, which a reader that stops leaves full.
    fetched = [ranges for _, ranges, _ in server.log if ranges != "bytes=0-0"]
    assert fetched == ([None, "bytes=1000000-"] if what == "the download" else [])


def flaky(seeded: random.Random) -> Fault:
    """One fault of any kind; with half a chance an honest answer."""
    kinds: list[Callable[[], Fault]] = [
        lambda: cut(seeded.randrange(len(CONTENT))),
        lambda: cut(0),
        lambda: status(seeded.choice([416, 429, 500, 502, 503, 504, 408])),
        lambda: redirect("/set.zip"),
        lambda: lambda request: request.answer(length=len(CONTENT) + seeded.randrange(1, 99)),
        lambda: lambda request: request.answer(CONTENT[::-1], send=seeded.randrange(len(CONTENT))),
        lambda: lambda request: request.status(206),
        lambda: lambda request: request.wfile.write(b"not http at all\r\n\r\n") and None,
        lambda: lambda request: request.connection.close(),
    ]
    return seeded.choice(kinds)() if seeded.random() < 0.8 else Request.answer


@pytest.mark.parametrize("etags", [True, False])
def test_servers_that_fail_at_random(server: FileServer, tmp_path: Path, etags: bool) -> None:
    """Whatever happens: the right bytes or one sentence, and after it the next honest run has the right bytes."""
    server.etags = etags
    seeded, archive = random.Random(3), Archive(url(server), SHA256)
    outcomes = {True: 0, False: 0}
    for number in range(25):
        server.faults.clear()
        server.faults += [flaky(seeded) for _ in range(seeded.randrange(1, 12))]
        server.ranges = seeded.random() < 0.5
        folder = tmp_path / str(number)
        try:
            place = download(archive, folder, policy=POLICY, progress=False)
            outcomes[True] += 1
        except DataError as error:
            outcomes[False] += 1
            assert str(error).startswith(f"{archive.url}: expected")
            assert not list(folder.glob("*.archive"))
            server.faults.clear()
            place = download(archive, folder, policy=POLICY, progress=False)
        assert place.read_bytes() == CONTENT
        shutil.rmtree(folder)
    assert min(outcomes.values()) > 3, outcomes


def test_only_a_changed_upstream_runs_the_stage_again(
    project: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `dvc repro`: not the seed, not an unchanged answer; but another ETag, and another digest."""
    monkeypatch.chdir(project)
    repro = ("dvc", "repro", "fetch_ivslab")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, env=environment(), check=True)
    assert run(project, sys.executable, "-m", "steps.refresh") == (0, f"changed: {url(server)}\n1 changed\n")
    status, output = run(project, *repro)
    assert status == 0, output
    assert footage(project) == FILES

    params = yaml.safe_load((project / "params.yaml").read_text())
    (project / "params.yaml").write_text(yaml.safe_dump({**params, "seed": 7}))
    asked = len(server.log)
    assert refresh(load_params(project / "params.yaml")) == []
    assert "didn't change, skipping" in run(project, *repro)[1]
    assert len(server.log) == asked + 1

    buffer = io.BytesIO(CONTENT)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("ivslab_train/README", "second edition")
    server.add("/set.zip", buffer.getvalue())
    assert refresh(load_params(project / "params.yaml")) == [url(server)]
    status, output = run(project, *repro)
    assert status == 0, output
    assert "Running stage 'fetch_ivslab'" in output
    assert footage(project) == FILES  # the digest in params.yaml says which bytes are meant, and those are still here

    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    change(project, "fetch_ivslab", archives=[{"url": url(server), "sha256": digest}])
    status, output = run(project, *repro)
    assert status == 0, output
    assert footage(project) == FILES | {"ivslab_train/README": b"second edition"}
