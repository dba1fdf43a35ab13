"""A repository that is away, slow or wrong, and downloads that break: the device goes on, and takes it later."""

import random
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mobile_centernet.agent import http
from mobile_centernet.agent.polling import pause
from tests.helpers.file_server import Fault, Request, cut, hang, redirect, status
from tests.helpers.lab import Lab
from tests.helpers.offers import BUNDLES, TIMESTAMP_FILE
from tests.helpers.outcomes import Releases, recovers, stays
from tests.helpers.tls import https_server


def slowly(body: bytes) -> Fault:
    """A few bytes a second, headers first."""

    def drip(request: Request) -> None:
        request.head(200, {"Content-Length": str(len(body))})
        for byte in body:
            request.wfile.write(bytes([byte]))
            time.sleep(0.2)

    return drip


def slow_head(request: Request) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}":
        request.wfile.write(bytes([byte]))
        request.wfile.flush()
        time.sleep(0.2)


def whole(body: bytes, code: int = 200) -> Fault:
    """That body, whatever was asked for."""

    def send(request: Request) -> None:
        request.head(code, {"Content-Length": str(len(body))})
        request.wfile.write(body)

    return send


HTML = b"<html><body>Please log in</body></html>"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (whole(HTML), "metadata refused"),
        (whole(b"[]"), "metadata refused"),
        (whole(b"[" * 16_000), "metadata refused"),
        (whole(b'{"signed": {"version": ' + b"9" * 6000 + b"}}"), "metadata refused"),
        (whole(b""), "metadata refused"),
        (whole(b" " * (2 << 20)), "expected at most 16384 bytes"),
        (cut(30), "expected more of an answer|metadata refused"),
        (slowly(b"{" * 30), "timed out after 0.5 s"),
        (slow_head, "timed out after 0.5 s (waiting for an answer)"),
        (hang(1.5), "timed out after 0.5 s (waiting for an answer)"),
        (status(500), "status 500"),
        (status(401), "access denied (HTTP 401)"),
        (redirect("file:///etc/passwd"), "status 302"),
    ],
)
def test_a_repository_that_answers_badly(device: Lab, releases: Releases, fault: Fault, sentence: str) -> None:
    device.configure(trust={"timeout_s": 0.5 if "timed out" in sentence else 20.0})
    device.server.faulty = TIMESTAMP_FILE
    device.server.faults.append(fault)
    began = time.monotonic()
    agent = device.polled()
    assert time.monotonic() - began < 10
    assert agent.failures == 1 and agent.problem
    assert any(part in agent.problem for part in sentence.split("|")), agent.problem
    assert device.running() == releases[12].digest
    device.configure()
    recovers(device, releases)


def test_a_server_writes_nothing_to_a_terminal(device: Lab, releases: Releases) -> None:
    device.server.faulty = TIMESTAMP_FILE
    device.server.faults.append(lambda request: request.wfile.write(b"\x1b[2J\x1b]0;owned\x07\r\n\r\n") and None)
    agent = stays(device, releases, "x1b[2J")
    assert agent.problem and agent.problem.isprintable()


@pytest.mark.parametrize(
    "fault", [status(400), status(403), status(410), status(500), whole(HTML)], ids=["400", "403", "410", "500", "page"]
)
def test_whatever_a_server_says_of_a_root_that_is_not_there(device: Lab, releases: Releases, fault: Fault) -> None:
    device.server.faulty = "root.json"
    device.server.faults.append(fault)
    recovers(device, releases)


def test_no_repository_at_all(device: Lab, releases: Releases) -> None:
    device.configure(trust={"url": "http://127.0.0.1:9"})
    agent = stays(device, releases, "expected an answer, found Connection refused")
    pauses = []
    for _ in range(8):
        pauses.append(pause(agent.config.poll, agent.failures, random.Random(0)))
        agent.poll()
    assert pauses[:3] == [0.1, 0.2, 0.2], "doubled, up to longest_s"
    assert agent.failures == 9
    device.configure()
    recovers(device, releases)


def test_a_server_that_nobody_vouches_for(
    device: Lab, releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an unknown certificate nor one of another host gets a request, and so no password."""
    (tmp_path / "netrc").write_text("machine localhost login me password hush\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with https_server(tmp_path, "localhost") as (here, of_here), https_server(tmp_path, "other") as (other, of_other):
        for server, trusted in ((here, of_other), (other, of_other)):
            monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
            http._tls.cache_clear()
            device.configure(trust={"url": f"https://localhost:{server.server_port}"})
            agent = stays(device, releases, "certificate verify failed")
            assert server.log == [] and agent.problem and "hush" not in agent.problem
        monkeypatch.setenv("SSL_CERT_FILE", str(of_here))
        http._tls.cache_clear()
        here.files.update(device.server.files)
        device.configure(trust={"url": f"https://localhost:{here.server_port}"})
        recovers(device, releases)
    http._tls.cache_clear()


def test_pauses_are_spread(device: Lab) -> None:
    device.configure(poll={"interval_s": 100.0, "jitter": 0.2})
    poll, chance = device.agent().config.poll, random.Random(0)
    pauses = [pause(poll, 0, chance) for _ in range(200)]
    assert 80 <= min(pauses) < 85 and 115 < max(pauses) <= 120


def test_a_channel_that_names_nothing(device: Lab, releases: Releases) -> None:
    device.configure(trust={"channel": "canary"})
    agent = stays(device, releases, "canary names no release")
    assert agent.failures == 0, "nothing is wrong with the repository"


def test_credentials_of_netrc(device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    """For metadata and bundles; they may come while the agent runs."""
    device.server.expects = "Basic ZGV2aWNlOmh1c2g="  # device:hush
    agent = stays(device, releases, "access denied (HTTP 401)")
    (device.folder / "netrc").write_text("machine 127.0.0.1 login device password hush\n")
    monkeypatch.setenv("NETRC", str(device.folder / "netrc"))
    with device.application():
        agent.poll()
    assert device.running() == releases[13].digest
    assert "hush" not in agent.status().to_json()


# The download.


def test_a_cut_download_goes_on_where_it_broke_off(device: Lab, releases: Releases) -> None:
    agent = device.agent()
    agent.start()
    size = len(releases[13].content)
    for part in (1000, 2000):
        device.server.faulty = BUNDLES
        device.server.faults.extend([cut(part)])
        agent.poll()
        assert agent.problem and ("resumes later" in agent.problem or "more of an answer" in agent.problem)
    assert device.store.partial(releases[13].digest).stat().st_size == 3000
    with device.application():
        agent.poll()
    assert device.running() == releases[13].digest
    ranges = [row[1] for row in device.server.log if row[0].startswith(BUNDLES)]
    assert ranges[-3:] == [None, "bytes=1000-", "bytes=3000-"] and size > 3000


def test_a_server_without_ranges(device: Lab, releases: Releases) -> None:
    device.server.ranges = False
    device.server.faulty = BUNDLES
    device.server.faults.extend([cut(1000)])
    stays(device, releases, "expected")
    recovers(device, releases)


@pytest.mark.parametrize(
    ("fault", "sentence", "kept"),
    [
        (whole(HTML), "found an answer of 39", 1000),
        (whole(bytes(500)), "found an answer of 500", 1000),
        (status(206, Content_Range=f"bytes 1000-9/{'9' * 5000}"), "expected", 1000),
        (status(404), "status 404", 1000),
        (status(416), "status 416", 1000),
        (status(206, Content_Range="bytes 0-5/6"), "expected bytes 1000-", 1000),
        (slowly(b"x" * 30), "found an answer of 30", 1000),
    ],
)
def test_an_answer_that_is_not_the_bundle(
    device: Lab, releases: Releases, fault: Fault, sentence: str, kept: int
) -> None:
    """Half a file with status 200, a log-in page: what was fetched before stays."""
    device.server.faulty = BUNDLES
    device.server.faults.extend([cut(1000)])
    agent = device.polled()
    device.server.faulty = BUNDLES
    device.server.faults.extend([fault])
    agent.poll()
    assert agent.problem and sentence in agent.problem
    assert device.store.partial(releases[13].digest).stat().st_size == kept
    recovers(device, releases)


def test_a_page_of_the_right_length_and_half_a_file_padded(device: Lab, releases: Releases) -> None:
    content = releases[13].content
    for wrong in (HTML.ljust(len(content)), content[: len(content) // 2].ljust(len(content), b"\0")):
        device.server.faulty = BUNDLES
        device.server.faults.extend([whole(wrong)])
        stays(device, releases, "expected SHA-256")
        assert not device.store.partial(releases[13].digest).exists()
    recovers(device, releases)


def test_five_bytes_a_second(device: Lab, releases: Releases) -> None:
    """Given up after the time-out, long before the server ends, and what came stays."""
    device.configure(trust={"timeout_s": 1.2})
    content = releases[13].content

    def drip(request: Request) -> None:
        request.head(200, {"Content-Length": str(len(content))})
        for place in range(100):
            request.wfile.write(content[place : place + 1])
            time.sleep(0.2)

    device.server.faulty = BUNDLES
    device.server.faults.extend([drip])
    stays(device, releases, "too slow: ")
    assert 1 <= device.store.partial(releases[13].digest).stat().st_size < 50
    recovers(device, releases)


def test_no_room(device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    before = len(device.server.log)
    stays(device, releases, "MB of free space for version 13, found 0.0 MB")
    assert not [row for row in device.server.log[before:] if row[0].startswith(BUNDLES)], "nothing was fetched"
    monkeypatch.undo()
    recovers(device, releases)
