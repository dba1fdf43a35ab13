"""What must not stop a device, and what must not get onto it."""

import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from mobile_centernet.edge import disk
from mobile_centernet.edge.agent import Agent
from mobile_centernet.edge.archive import END, pack
from mobile_centernet.edge.bundle import sign_bundle, write_bundle
from mobile_centernet.edge.device import Device
from mobile_centernet.edge.health import HEARTBEAT, Heartbeat
from mobile_centernet.edge.keys import key_id, read_private_key, read_public_key
from mobile_centernet.edge.manifest import MANIFEST, Manifest, PinnedFile
from mobile_centernet.edge.proof import prover
from mobile_centernet.edge.store import Store, read_current
from tests.edge.lab import Lab, prove_in_process
from tests.edge.offers import ALIAS, ARTIFACT, Bundle, answer
from tests.file_server import Fault, Request, cut, hang, redirect, status

Releases = dict[int, Bundle]
Build = Callable[..., Manifest]


@pytest.fixture
def device(lab: Lab, releases: Releases) -> Lab:
    """It runs release 12 and is offered 13."""
    lab.install(releases[12])
    lab.offer(releases[13])
    return lab


def stays(lab: Lab, releases: Releases, sentence: str, **injected: object) -> Agent:
    """One poll changes nothing but the problem, which is one sentence."""
    with lab.application():
        agent = lab.polled(**injected)
    assert lab.running() == releases[12].digest
    assert agent.problem and sentence in agent.problem and "\n" not in agent.problem
    return agent


def recovers(lab: Lab, releases: Releases, **injected: object) -> None:
    """When the fault is gone, the next poll takes the release."""
    with lab.application():
        agent = lab.polled(**injected)
    assert lab.running() == releases[13].digest, agent.problem


# The registry.


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
        (whole(HTML), "expected JSON from MLflow, found b'<html>"),
        (whole(b"[]"), "expected a JSON object from MLflow, found list"),
        (whole(b'{"model_version": {"version": "x"}}'), "expected a model version"),
        (whole(b"{" * 5000), "expected JSON"),
        (whole(b" " * (2 << 20)), "expected at most 1048576 bytes"),
        (cut(30), "expected JSON|broke off"),
        (slowly(b"{" * 30), "expected a whole answer within 0.5 s"),
        (slow_head, "expected an answer within 0.5 s"),
        (hang(1.5), "expected an answer within 0.5 s"),
        (status(500), "status 500"),
        (status(401), "expected to be let in, found status 401"),
        (redirect("file:///etc/passwd"), "status 302"),
    ],
)
def test_a_registry_that_answers_badly(device: Lab, releases: Releases, fault: Fault, sentence: str) -> None:
    device.configure(registry={"timeout_s": 0.5})
    device.server.faults.append(fault)
    began = time.monotonic()
    agent = device.polled()
    assert time.monotonic() - began < 10
    assert agent.failures == 1 and agent.problem
    assert any(part in agent.problem for part in sentence.split("|")), agent.problem
    assert device.running() == releases[12].digest
    recovers(device, releases)


def test_no_registry_at_all(device: Lab, releases: Releases) -> None:
    device.configure(registry={"url": "http://127.0.0.1:9"})
    agent = stays(device, releases, "expected an answer within")
    pauses = []
    for _ in range(8):
        pauses.append(agent.seconds_until_next())
        agent.poll()
    assert pauses[:3] == [0.1, 0.2, 0.2], "doubled, up to longest_s"
    assert agent.failures == 9
    device.configure()
    recovers(device, releases)


def test_pauses_are_spread(device: Lab) -> None:
    device.configure(poll={"interval_s": 100.0, "jitter": 0.2})
    pauses = [device.agent().seconds_until_next() for _ in range(200)]
    assert 80 <= min(pauses) < 85 and 115 < max(pauses) <= 120


@pytest.mark.parametrize("code", ["RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"])
def test_the_alias_is_deleted(device: Lab, releases: Releases, code: str) -> None:
    body = json.dumps({"error_code": code, "message": "alias champion not found"}).encode()

    device.server.faults.append(whole(body, 400))
    agent = stays(device, releases, "street has no alias champion")
    assert agent.failures == 0, "nothing is wrong with the registry"


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [
        ({}, "expected a bundle, found no tag bundle_sha256"),
        ({"bundle_sha256": "../../x"}, "expected tags of a bundle"),
        ({"bundle_bytes": "-1"}, "expected tags of a bundle"),
        ({"bundle_bytes": str(1 << 40)}, "expected at most 1073741824 bytes"),
    ],
)
def test_a_version_without_a_usable_bundle(
    device: Lab, releases: Releases, tags: dict[str, str], sentence: str
) -> None:
    releases[13].offer(device.server, tags={**releases[13].tags(), **tags} if tags else {})
    stays(device, releases, sentence)


# The download.


def test_a_cut_download_goes_on_where_it_broke_off(device: Lab, releases: Releases) -> None:
    agent = device.agent()
    agent.start()
    size = len(releases[13].content)
    for part in (1000, 2000):
        device.server.faults.extend([Request.answer, cut(part)])
        agent.poll()
        assert agent.problem and ("goes on later" in agent.problem or "broke off" in agent.problem)
    assert device.store.partial(releases[13].digest).stat().st_size == 3000
    with device.application():
        agent.poll()
    assert device.running() == releases[13].digest
    ranges = [row[1] for row in device.server.log if row[0] == ARTIFACT]
    assert ranges[-3:] == [None, "bytes=1000-", "bytes=3000-"] and size > 3000


def test_a_server_without_ranges(device: Lab, releases: Releases) -> None:
    device.server.ranges = False
    device.server.faults.extend([Request.answer, cut(1000)])
    stays(device, releases, "goes on later")
    recovers(device, releases)


@pytest.mark.parametrize(
    ("fault", "sentence", "kept"),
    [
        (whole(HTML), "found an answer of 39", 1000),
        (whole(bytes(500)), "found an answer of 500", 1000),
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
    device.server.faults.extend([Request.answer, cut(1000)])
    agent = device.polled()
    device.server.faults.extend([Request.answer, fault])
    agent.poll()
    assert agent.problem and sentence in agent.problem
    assert device.store.partial(releases[13].digest).stat().st_size == kept
    recovers(device, releases)


def test_a_page_of_the_right_length_and_half_a_file_padded(device: Lab, releases: Releases) -> None:
    content = releases[13].content
    for wrong in (HTML.ljust(len(content)), content[: len(content) // 2].ljust(len(content), b"\0")):
        device.server.faults.extend([Request.answer, whole(wrong)])
        stays(device, releases, "expected SHA-256")
        assert not device.store.partial(releases[13].digest).exists()
    recovers(device, releases)


def test_one_byte_a_second(device: Lab, releases: Releases) -> None:
    """Given up after the time-out, and what came stays."""
    device.configure(registry={"timeout_s": 1.2})
    content = releases[13].content

    def drip(request: Request) -> None:
        request.head(200, {"Content-Length": str(len(content))})
        for place in range(10):
            request.wfile.write(content[place : place + 1])
            time.sleep(1)

    device.server.faults.extend([Request.answer, drip])
    began = time.monotonic()
    stays(device, releases, "too slow: ")
    assert time.monotonic() - began < 8
    assert 1 <= device.store.partial(releases[13].digest).stat().st_size < 10
    recovers(device, releases)


def test_no_room(device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "free_bytes", lambda _: 1000)
    before = len(device.server.log)
    stays(device, releases, "MB of free space for release 13, found 0.0 MB")
    assert [row[0] for row in device.server.log[before:]] == [ALIAS], "nothing was fetched"
    monkeypatch.undo()
    recovers(device, releases)


# The bundle.


def offered(device: Lab, path: Path, release: int = 13) -> None:
    Bundle(path, "13", release).offer(device.server)


def refused(lab: Lab, releases: Releases, sentence: str, **injected: object) -> None:
    """It stays, fetches it no second time, and leaves nothing of it behind."""
    agent = stays(lab, releases, sentence, **injected)
    fetched = len([row for row in lab.server.log if row[0] == ARTIFACT])
    agent.poll()
    assert agent.problem and agent.problem.startswith("refused before: ")
    assert fetched == len([row for row in lab.server.log if row[0] == ARTIFACT])
    assert read_current(lab.root) == releases[12].digest


def test_a_bundle_without_a_signature(device: Lab, releases: Releases, build: Build, tmp_path: Path) -> None:
    build(tmp_path / "plain.tar", release=13)
    offered(device, tmp_path / "plain.tar")
    refused(device, releases, "expected a signature by a trusted key, found none at all")


def test_a_strangers_signature_until_the_stranger_is_trusted(
    device: Lab, releases: Releases, build: Build, material: Path, tmp_path: Path
) -> None:
    build(tmp_path / "other.tar", release=13, latency_ms={"default": 10_000.0})
    sign_bundle(tmp_path / "other.tar", read_private_key(material / "stranger"))
    offered(device, tmp_path / "other.tar")
    refused(device, releases, "expected a signature by a trusted key, found only")
    device.configure(paths={"trusted": [str(device.trusted), str(material / "stranger.pub")]})
    with device.application():
        device.polled()
    assert read_current(device.root) == Bundle(tmp_path / "other.tar", "13", 13).digest


def test_a_revoked_signature(device: Lab, releases: Releases, material: Path, tmp_path: Path) -> None:
    (tmp_path / "revoked.txt").write_text(f"{key_id(read_public_key(material / 'first.pub'))}\n")
    agent = device.agent()
    agent.start()
    device.configure(paths={"revoked": str(tmp_path / "revoked.txt")})
    agent.config = device.agent().config
    agent._intake._config = agent.config
    agent.poll()
    assert agent.problem and "found only revoked" in agent.problem
    assert read_current(device.root) == releases[12].digest


def test_when_the_key_of_all_releases_is_revoked_nothing_runs(
    device: Lab, releases: Releases, material: Path, tmp_path: Path
) -> None:
    """What a thief may have signed does not run; a release signed by another key does."""
    (tmp_path / "revoked.txt").write_text(f"{key_id(read_public_key(material / 'first.pub'))}\n")
    trusted = [str(material / "first.pub"), str(material / "second.pub")]
    device.configure(paths={"revoked": str(tmp_path / "revoked.txt"), "trusted": trusted})
    device.agent().start()
    assert read_current(device.root) is None
    path = tmp_path / "again.tar"
    path.write_bytes(releases[13].content)
    sign_bundle(path, read_private_key(material / "second"))
    offered(device, path)
    with device.application():
        device.polled()
    assert read_current(device.root) == Bundle(path, "13", 13).digest


def test_the_replay_of_an_older_release(device: Lab, releases: Releases) -> None:
    recovers(device, releases)
    device.offer(releases[12])
    with device.application():
        agent = device.polled()
    assert device.running() == releases[13].digest
    assert agent.problem == "bundle: expected a release after 13, found 12"


def test_an_older_release_is_refused_also_when_nothing_is_left_of_the_newer(
    device: Lab, releases: Releases, build: Build, material: Path, tmp_path: Path
) -> None:
    recovers(device, releases)
    shutil.rmtree(device.store.releases)
    device.offer(releases[12])
    with device.application():
        agent = device.polled()
    assert device.running() is None and agent.problem and "expected a release after 13, found 12" in agent.problem
    device.offer(releases[13])
    recovers(device, releases)


def test_another_release_of_the_same_number(
    device: Lab, releases: Releases, build: Build, material: Path, tmp_path: Path
) -> None:
    build(tmp_path / "twin.tar", release=12, latency_ms={"default": 9_999.0})
    sign_bundle(tmp_path / "twin.tar", read_private_key(material / "first"))
    offered(device, tmp_path / "twin.tar", 12)
    refused(device, releases, "expected a release after 12, found 12")


def test_the_same_release_with_one_more_signature_is_taken(
    device: Lab, releases: Releases, material: Path, tmp_path: Path
) -> None:
    path = tmp_path / "again.tar"
    path.write_bytes(releases[12].content)
    sign_bundle(path, read_private_key(material / "second"))
    offered(device, path, 12)
    with device.application():
        agent = device.polled()
    assert agent.problem is None and read_current(device.root) == Bundle(path, "12", 12).digest


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "night-street"}, "expected a release of street, found one of night-street"),
        ({"latency_ms": {"default": 1e-6}}, "latency: expected at most 1e-06 ms a picture on profile kiosk, found "),
        ({"latency_ms": {"default": 1e6, "kiosk": 1e-6}}, "latency: expected at most 1e-06 ms"),
    ],
)
def test_a_good_bundle_that_does_not_fit(
    device: Lab,
    releases: Releases,
    build: Build,
    material: Path,
    tmp_path: Path,
    changes: dict[str, object],
    sentence: str,
) -> None:
    build(tmp_path / "odd.tar", release=13, **changes)
    sign_bundle(tmp_path / "odd.tar", read_private_key(material / "first"))
    offered(device, tmp_path / "odd.tar")
    refused(device, releases, sentence)


def test_a_precision_that_is_not_in_the_bundle(device: Lab, releases: Releases) -> None:
    device.configure(device={"precision": "fp16"})
    refused(device, releases, "expected a variant fp16, found fp32")


def unpacked(bundle: Bundle) -> dict[str, bytes]:
    with tarfile.open(bundle.path) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]


def test_golden_detections_that_another_model_made(
    device: Lab, releases: Releases, material: Path, tmp_path: Path
) -> None:
    """Signed and whole, and still not what this device finds: the self-test says so."""
    files = unpacked(releases[13])
    manifest = Manifest.from_bytes(files[MANIFEST])
    files["golden/fp32.json"] = unpacked(releases[14])["golden/fp32.json"]
    inside = {name: files[name] for name in manifest.files}
    pinned = {name: PinnedFile(sha256(content).hexdigest(), len(content)) for name, content in inside.items()}
    write_bundle(tmp_path / "odd.tar", replace(manifest, files=pinned), inside)
    sign_bundle(tmp_path / "odd.tar", read_private_key(material / "first"))
    offered(device, tmp_path / "odd.tar")
    refused(device, releases, "fp32: golden/000.png: expected a detection of class")


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", "golden/../../x", ".hidden"])
def test_a_signed_manifest_that_names_a_place_outside(
    device: Lab, releases: Releases, material: Path, tmp_path: Path, name: str
) -> None:
    """Even the signer cannot write outside a release's folder."""
    files = unpacked(releases[13])
    text = files[MANIFEST].decode().replace("MODEL_CARD.md", name).encode()
    key = read_private_key(material / "first")
    identity = key_id(key.public_key())
    signatures = [(f"signatures/{identity}.pem", (material / "first.pub").read_bytes())]
    signatures.append((f"signatures/{identity}.sig", key.sign(text)))
    rest = sorted((member, content) for member, content in files.items() if not member.startswith(("man", "sig")))
    (tmp_path / "odd.tar").write_bytes(pack([(MANIFEST, text), *signatures, *rest]) + END)
    offered(device, tmp_path / "odd.tar")
    before = {path for path in device.folder.rglob("*") if device.root not in path.parents}
    refused(device, releases, "manifest.json: files: expected plain relative names")
    assert before == {path for path in device.folder.rglob("*") if device.root not in path.parents}


def test_a_link_in_the_bundle(device: Lab, releases: Releases, tmp_path: Path) -> None:
    content = releases[13].content
    header = content.rindex(b"model.fp32.onnx\0")
    link = tarfile.TarInfo("model.fp32.onnx")
    link.type, link.linkname = tarfile.SYMTYPE, "../../../etc/passwd"
    (tmp_path / "odd.tar").write_bytes(content[:header] + link.tobuf(tarfile.USTAR_FORMAT) + END)
    offered(device, tmp_path / "odd.tar")
    refused(device, releases, "found a symbolic link to '../../../etc/passwd'")


def test_flipped_bytes_that_the_registry_vouches_for(device: Lab, releases: Releases, tmp_path: Path) -> None:
    """Somebody who can write to the registry offers changed bundles under their own, right, SHA-256."""
    rng = random.Random(5)
    content = releases[13].content
    agent = device.agent()
    agent.start()
    for _ in range(60):
        place = rng.randrange(len(content))
        (tmp_path / "odd.tar").write_bytes(
            content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
        )
        offered(device, tmp_path / "odd.tar")
        agent.poll()
        assert agent.problem and read_current(device.root) == releases[12].digest
    assert len(device.memory.refused) == 32, "the oldest are forgotten"
    device.offer(releases[13])
    recovers(device, releases)


# The proof.


def command(tmp_path: Path, script: str) -> list[str]:
    path = tmp_path / "proof.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return [str(path)]


@pytest.mark.parametrize(
    ("script", "sentence", "is_refused"),
    [
        ("echo 'Error: network has dynamic shapes' >&2; exit 2", "self-test: Error: network has dynamic", True),
        ("echo nonsense", "self-test: expected its result as JSON, found 'nonsense", True),
        ("exec sleep 60", "self-test: expected an end within 1 s", True),
        ("kill -9 $$", "self-test: expected an end, found exit status -9", False),
        ("exit 1", "self-test: expected an end, found exit status 1: it says nothing", False),
    ],
)
def test_a_self_test_or_an_engine_build_that_fails(
    device: Lab, releases: Releases, tmp_path: Path, script: str, sentence: str, is_refused: bool
) -> None:
    """One that says no is not asked again; one that was killed is."""
    config = device.configure(proof={"command": command(tmp_path, script), "timeout_s": 1.0})
    agent = stays(device, releases, sentence, prove=prover(config))
    assert agent.failures == (0 if is_refused else 1)
    assert bool(device.memory.refused) == is_refused
    device.configure()
    recovers(device, releases)


def test_engines_are_built_once_for_a_device_and_built_anew_for_another(device: Lab, releases: Releases) -> None:
    built: list[Path | None] = []

    def build_engine(folder: Path, manifest: Manifest, engine: Path | None) -> object:
        built.append(engine)
        if engine is not None and not (engine / "model.engine").exists():
            (engine / "model.engine").write_text("built")
        return prove_in_process(folder, manifest, None)

    orin = Device("Orin", "10.3.0")
    device.configure(device={"provider": "auto"})
    recovers(device, releases, device=orin, prove=build_engine)
    (engine,) = device.store.engines.iterdir()
    assert built == [engine.with_name(f"{engine.name}.partial")]
    with device.application():
        agent = device.agent(device=orin, prove=build_engine)
        agent.start()
        agent.rollback()
        assert agent.problem is None and len(list(device.store.engines.iterdir())) == 2
        agent.forget_refusals()
        agent.poll()
    assert device.memory.committed and device.memory.floor == 13
    newer = device.agent(device=Device("Orin", "10.4.0"))._intake
    assert newer.circumstances() != agent._intake.circumstances()


def test_an_engine_that_does_not_work_any_more_is_built_anew(device: Lab, releases: Releases) -> None:
    from mobile_centernet.edge.errors import ProofError

    def build_engine(folder: Path, manifest: Manifest, engine: Path | None) -> object:
        assert engine is not None
        if (engine / "rotten").exists():
            raise ProofError("self-test: the engine does not load")
        return prove_in_process(folder, manifest, None)

    orin = Device("Orin", "10.3.0")
    with device.application():
        agent = device.agent(device=orin, prove=build_engine)
        agent.start()
        manifest = Manifest.from_bytes(unpacked(releases[13])[MANIFEST])
        place = device.store.engine(agent._intake._engine_key(manifest))
        device.store.folder(releases[13].digest)
        agent._intake.collect = lambda _: None  # type: ignore[method-assign]
        place.mkdir()
        (place / "rotten").touch()
        agent.poll()
        assert agent.problem == "self-test: the engine does not load; its engine is to be built anew"
        agent.poll()
    assert device.running() == releases[13].digest and not (place / "rotten").exists()


# The application.


def unhealthy(device: Lab, releases: Releases, application: Callable[[threading.Event], None], sentence: str) -> None:
    """It swaps, sees that, and goes back; then it does not try again."""
    device.configure(health={"start_s": 0.4, "gap_s": 0.2, "window_s": 1.0})
    end = threading.Event()
    thread = threading.Thread(target=application, args=(end,))
    thread.start()
    try:
        agent = device.polled()
    finally:
        end.set()
        thread.join()
    assert device.running() == releases[12].digest
    assert agent.problem and agent.problem.startswith("unhealthy: ") and sentence in agent.problem
    assert agent._events["swapping: done"] == 1
    agent.poll()
    assert agent._events["swapping: done"] == 1 and agent.problem.startswith("refused before: unhealthy: ")


def test_an_application_that_never_comes_up(device: Lab, releases: Releases) -> None:
    (device.root / HEARTBEAT).write_text(json.dumps({"release": releases[13].digest, "pid": 1}))
    unhealthy(device, releases, lambda _: None, "expected a heartbeat of the new release within 0.4 s, found none")


def beat_until(device: Lab, digest: str, beats: int) -> Callable[[threading.Event], None]:
    def beat(end: threading.Event) -> None:
        heart, left = Heartbeat(device.root), beats
        while left and not end.wait(0.02):
            if read_current(device.root) == digest:
                heart.beat(digest)
                left -= 1

    return beat


def test_an_application_that_dies_after_the_swap(device: Lab, releases: Releases) -> None:
    dies = beat_until(device, releases[13].digest, 5)
    unhealthy(device, releases, dies, "expected a heartbeat every 0.2 s, found none for")


def test_an_application_that_stays_with_the_old_release(device: Lab, releases: Releases) -> None:
    def beat(end: threading.Event) -> None:
        heart = Heartbeat(device.root)
        while not end.wait(0.02):
            heart.beat(releases[12].digest)

    unhealthy(device, releases, beat, "expected a heartbeat of the new release within 0.4 s, found none")


def test_an_application_in_a_crash_loop(device: Lab, releases: Releases) -> None:
    """Each life is healthy and short."""

    def crash(end: threading.Event) -> None:
        life = 0
        while not end.wait(0.02):
            life += 1
            if read_current(device.root) == releases[13].digest:
                beat = {"release": releases[13].digest, "pid": 1000 + life // 5, "beats": life}
                (device.root / ".beat").write_text(json.dumps(beat))
                (device.root / ".beat").replace(device.root / HEARTBEAT)

    unhealthy(device, releases, crash, "expected at most 0 restarts of the application, found 1")


def test_an_application_that_only_touches_the_file(device: Lab, releases: Releases) -> None:
    end = threading.Event()

    (device.root / HEARTBEAT).unlink()

    def touch() -> None:
        while not end.wait(0.02):
            (device.root / HEARTBEAT).touch()

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        device.polled()
    finally:
        end.set()
        thread.join()
    assert device.running() == releases[13].digest


# The clock.


@pytest.mark.parametrize("now", [0.0, 4e9])
def test_a_clock_that_is_wrong_and_jumps(
    device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch, now: float
) -> None:
    """1970 or 2096, and heartbeats whose time stands still."""
    monkeypatch.setattr(time, "time", lambda: now)
    end = threading.Event()

    def beat() -> None:
        heart = Heartbeat(device.root)
        while not end.wait(0.02):
            if digest := read_current(device.root):
                heart.beat(digest)
                os.utime(device.root / HEARTBEAT, (now, now))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        device.polled()
    finally:
        end.set()
        thread.join()
    assert device.running() == releases[13].digest


# The disk.

CHANGES = ("write_file", "rename", "symlink", "unlink", "sync_folder", "remove_folder")


def test_a_disk_that_refuses_each_change_in_turn(
    device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC at the n-th change, and at every later one until the poll ends."""
    before = device.folder / "before"
    shutil.copytree(device.root, before, symlinks=True)
    monkeypatch.setattr("mobile_centernet.edge.agent._TICK", 0.01)
    real = {name: getattr(disk, name) for name in CHANGES}
    for refuse_from in range(1, 60):
        shutil.rmtree(device.root)
        shutil.copytree(before, device.root, symlinks=True)
        passed = 0

        def limited(name: str) -> Callable[..., None]:
            def change(*arguments: object) -> None:
                nonlocal passed
                passed += 1
                if refuse_from <= passed < refuse_from + 6:  # noqa: B023  # used within this turn
                    raise OSError(28, "No space left on device")
                real[name](*arguments)

            return change

        for name in CHANGES:
            monkeypatch.setattr(disk, name, limited(name))
        with device.application():
            agent = device.polled()
        for name in CHANGES:
            monkeypatch.setattr(disk, name, real[name])
        assert read_current(device.root) in (releases[12].digest, releases[13].digest)
        recovers(device, releases)
        if passed < refuse_from:
            break
        assert agent.problem or agent.memory.committed, refuse_from
    assert 10 < refuse_from < 59


def test_memory_that_is_damaged(device: Lab, releases: Releases) -> None:
    """What `current` leads to is verified and counts as committed; the floor is not lost with it."""
    for damage in (b"", b"{}", b"\0" * 300, (device.root / "memory.json").read_bytes()[:-20]):
        (device.root / "memory.json").write_bytes(damage)
        device.agent().start()
        assert device.running() == releases[12].digest and device.memory.floor == 12
    recovers(device, releases)


def test_a_release_that_rots_gives_way_to_the_one_before(device: Lab, releases: Releases) -> None:
    recovers(device, releases)
    model = device.store.folder(releases[13].digest) / "model.fp32.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:-1] + b"x")
    device.agent().start()
    assert device.running() == releases[12].digest
    recovers(device, releases)
    assert model.read_bytes() == content


def test_no_keys_on_the_device(device: Lab, releases: Releases, tmp_path: Path) -> None:
    """The device's own fault changes nothing: neither what runs nor what is thought of the release."""
    (tmp_path / "keys").mkdir()
    device.configure(paths={"trusted": [str(tmp_path / "keys")]})
    agent = device.polled()
    assert agent.problem == "expected at least one trusted public key (*.pub), found none"
    device.configure()
    recovers(device, releases)


def test_a_version_of_another_form(device: Lab, releases: Releases) -> None:
    device.server.files[ALIAS] = answer("13", {**releases[13].tags(), "bundle_path": "../../../etc/passwd"})
    recovers(device, releases)  # a place is the server's matter; the digest decides


@pytest.mark.slow
def test_a_disk_that_is_really_full(device: Lab, releases: Releases) -> None:
    """At every page from none to room enough: a tmpfs, mounted where only that process sees it."""
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs a kernel that lets a process mount a tmpfs of its own (unshare -rm)")
    before = device.folder / "before"
    device.root.rename(before)
    pages = -(-2 * len(releases[13].content) // 4096) + 12
    order = {"settings": str(device.settings), "before": str(before), "free": [4096 * page for page in range(pages)]}
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-m", "tests.edge.full_disk", json.dumps(order)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    turns = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(turns) == pages > 10
    old, new = releases[12].digest, releases[13].digest
    assert {full for _, full, _ in turns} == {old, new}, "both a disk that was too full and one that was not"
    assert {after for _, _, after in turns} == {new}
