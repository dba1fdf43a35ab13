"""Frames on their way: each arrives once, whatever the server says, the network does or the power cuts off."""

import json
import random
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from mobile_centernet.agent import cli
from mobile_centernet.agent.config import Config
from mobile_centernet.agent.errors import LockedError, TransferError
from mobile_centernet.agent.harvest import Harvester
from mobile_centernet.agent.live import LiveDetector
from mobile_centernet.agent.upload import FrameSender
from mobile_centernet.field.spool import Budget, Spool, waiting
from tests.helpers.frame_server import FrameServer, frame_server
from tests.helpers.harvests import NOON, frame, settings
from tests.helpers.lab import Lab
from tests.helpers.mlflow_servers import free_port
from tests.helpers.offers import Bundle
from tests.helpers.programs import exit_code

ROOT = Path(__file__).parents[2]
DAY = "2026-11-27"


@pytest.fixture
def server() -> Iterator[FrameServer]:
    with frame_server() as server:
        yield server


def device(folder: Path, server: FrameServer, frames: int = 4, day: str = DAY, **upload: object) -> Config:
    """It has so many frames of a day that is over, number 0 the most useful."""
    config = settings(folder, upload={"url": f"{server.url}/inbox", **upload})
    spool = Spool(config.paths.root / "field" / "camera", Budget(1000, 0, 10**9))
    for number in range(frames):
        record = {"number": number, "device": "kiosk-07"}
        assert spool.add(day, f"image {number}".encode() * 50, record, 1 - number / 100, control=False)
    spool.close()
    return config


def arrived(server: FrameServer, frames: int = 4) -> None:
    """Every frame with its record, whole, stored once each; nothing else."""
    images = {path: content for path, content in server.files.items() if path.endswith(".jpg")}
    assert len(images) == frames and len(server.files) == 2 * frames
    for path, content in images.items():
        digest = sha256(content).hexdigest()
        assert path.endswith(f"/inbox/kiosk-07/camera/{DAY}/{digest}.jpg")
        assert json.loads(server.files[path.replace(".jpg", ".json")])["sha256"] == digest
    assert set(server.stored.values()) == {1}


def left(config: Config) -> int:
    return len(list(waiting(config.paths.root / "field" / "camera")))


def test_all_frames_arrive_and_leave_the_device(tmp_path: Path, server: FrameServer) -> None:
    config = device(tmp_path, server)
    uploader = FrameSender(config)
    uploader.send()
    arrived(server)
    assert left(config) == 0 and uploader.status() == {"waiting": 0, "sent": 4, "problem": None}
    assert not (config.paths.root / "field" / "camera" / DAY).exists()


@pytest.mark.parametrize("etags", [True, False])
@pytest.mark.parametrize("fault", ["cut", "mute", "lie", "half", 503])
@pytest.mark.parametrize("at", [0, 1, 4])
def test_what_breaks_off_is_told_and_goes_on(
    tmp_path: Path, server: FrameServer, fault: str | int, at: int, etags: bool
) -> None:
    server.etags = etags
    config = device(tmp_path, server)
    server.faults.extend([None] * at + [fault])
    with pytest.raises(TransferError):
        FrameSender(config).send()
    assert left(config) == 4 - at // 2  # none leaves before it was shown
    if fault == "half":  # it holds that one half, and gets it again
        half = list(server.files)[-1]
        server.stored[half] -= 1
    FrameSender(config).send()
    arrived(server)
    assert left(config) == 0


def test_a_server_that_takes_all_and_keeps_nothing_is_found_out(tmp_path: Path, server: FrameServer) -> None:
    config = device(tmp_path, server)
    server.faults.extend(["lie"] * 3)
    for _ in range(3):
        with pytest.raises(TransferError, match="expected a server that holds what it has taken, found none of it"):
            FrameSender(config).send()
    assert left(config) == 4 and not server.files


@pytest.mark.parametrize(
    ("etags", "heads", "shows"), [(True, True, True), (False, True, True), (True, False, True), (False, False, False)]
)
def test_signed_addresses(tmp_path: Path, server: FrameServer, etags: bool, heads: bool, shows: bool) -> None:
    """Without one to ask at, the PUT's own answer must prove it."""
    server.etags, server.heads = etags, heads
    config = device(tmp_path, server, url="", presign=f"{server.url}/sign")
    if shows:
        FrameSender(config).send()
        assert len(server.files) == 8 and left(config) == 0
    else:
        with pytest.raises(TransferError, match="found none of it") as error:
            FrameSender(config).send()
        assert left(config) == 4 and "secret" not in str(error.value)


def test_a_token_lets_it_in(tmp_path: Path, server: FrameServer) -> None:
    server.expects = "Bearer abc"
    token = tmp_path / "token"
    config = device(tmp_path, server, token=str(token))
    with pytest.raises(TransferError, match="expected a token, found none"):
        FrameSender(config).send()
    token.write_text("wrong")
    with pytest.raises(TransferError, match="found status 401") as error:
        FrameSender(config).send()
    assert "wrong" not in str(error.value)
    token.write_text("abc\n")
    FrameSender(config).send()
    arrived(server)


def test_netrc_lets_it_in(tmp_path: Path, server: FrameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.expects = "Basic bWU6c2VjcmV0"
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    FrameSender(device(tmp_path, server)).send()
    arrived(server)


def test_megabytes_a_day_on_the_wire_most_useful_first(tmp_path: Path, server: FrameServer) -> None:
    config = device(tmp_path, server, frames=10)
    nbytes = next(waiting(config.paths.root / "field" / "camera")).nbytes
    config = device(tmp_path, server, frames=0, mb_a_day=nbytes * 3.5 / 1e6)
    for _ in range(4):
        FrameSender(config).send()  # also after a start
    numbers = {json.loads(content)["number"] for path, content in server.files.items() if path.endswith("json")}
    assert numbers == {0, 1, 2} and server.came <= nbytes * 3.5 and left(config) == 7


def test_what_breaks_off_counts_on_the_wire(tmp_path: Path, server: FrameServer) -> None:
    config = device(tmp_path, server, mb_a_day=2e-3)
    server.faults.extend(["lie"] * 50)
    for _ in range(20):
        try:
            FrameSender(config).send()
        except TransferError:
            continue
    assert server.came <= 2000


def test_todays_frames_wait_for_the_days_end(tmp_path: Path, server: FrameServer) -> None:
    config = device(tmp_path, server, day=datetime.now(UTC).strftime("%Y-%m-%d"))
    FrameSender(config).send()
    assert not server.files and left(config) == 4
    FrameSender(config).send(unfinished_days=True)
    assert len(server.files) == 8 and left(config) == 0


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_frame_that_the_server_refuses_holds_up_no_other(tmp_path: Path, server: FrameServer, status: int) -> None:
    config = device(tmp_path, server)
    server.faults.append(status)
    with pytest.raises(TransferError, match=f"found status {status}"):
        FrameSender(config).send()
    assert left(config) == 1 and len(server.files) == 6


def test_a_frame_that_rotted_on_the_disk_is_removed(tmp_path: Path, server: FrameServer) -> None:
    config = device(tmp_path, server)
    next((tmp_path / "device").rglob("*.jpg")).write_bytes(b"rot")
    FrameSender(config).send()
    arrived(server, 3)
    assert left(config) == 0


@pytest.mark.parametrize(
    "ledger", ["", "{", "[]", '{"wire": 3, "done": "a/b/c"}', '{"wire": {}, "done": "x"}', '{"wire": {}}']
)
def test_a_damaged_ledger(tmp_path: Path, server: FrameServer, ledger: str) -> None:
    config = device(tmp_path, server)
    (config.paths.root / "field" / "sent.json").write_text(ledger)
    FrameSender(config).send()
    arrived(server)


def test_two_who_send(tmp_path: Path, server: FrameServer) -> None:
    config = device(tmp_path, server)
    first, second = FrameSender(config), FrameSender(config)
    with first._locked(), pytest.raises(LockedError, match="already sending"):
        second.send()


def test_weeks_without_a_network_then_all(tmp_path: Path, server: FrameServer) -> None:
    """It tries again and again, tells it once, and is ended within a moment."""
    config, stop = device(tmp_path, server), threading.Event()
    server.faults.extend([503] * 5)
    uploader = FrameSender(config, stop)
    thread = threading.Thread(target=uploader.follow)
    thread.start()
    told = set()
    while uploader.sent < 4:
        told.add(uploader.problem)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    arrived(server)
    assert len(told - {None}) <= 1


def test_nothing_is_sent_where_the_settings_name_no_place(tmp_path: Path, server: FrameServer) -> None:
    config = device(tmp_path, server, url="")
    FrameSender(config).send()
    assert left(config) == 4
    assert exit_code(cli.main, "--config", str(tmp_path / "edge.toml"), "upload") == 2


def test_the_command(tmp_path: Path, server: FrameServer, capsys: pytest.CaptureFixture[str]) -> None:
    device(tmp_path, server)
    assert exit_code(cli.main, "--config", str(tmp_path / "edge.toml"), "upload") == 0
    assert capsys.readouterr().out == "4 frames sent, 0 wait\n"


def test_from_a_real_detector_to_the_inbox_by_the_running_agent(
    lab: Lab, releases: dict[int, Bundle], server: FrameServer
) -> None:
    """The agent sends what the application keeps, and its status says so."""
    lab.install(releases[12])
    port = free_port()
    config = lab.configure(status={"port": port}, harvest={"control": 0}, upload={"url": f"{server.url}/inbox"})
    with LiveDetector(lab.root, threads=1) as live, Harvester(config, live, "front") as harvester:
        assert harvester.offer(frame(1), live.detect(frame(1)), at=NOON)
    command = [sys.executable, "-m", "mobile_centernet.agent.cli", "--config", str(lab.settings), "run"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as agent:
        while not any(path.endswith(".json") for path in server.files):
            assert agent.poll() is None
        said: dict[str, object] = {}
        while said.get("sent") != 1:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
                said = json.loads(answer.read())["upload"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        agent.terminate()
    assert {"mobile_centernet_edge_field_sent 1", "mobile_centernet_edge_field_problem 0"} <= set(lines)
    (record,) = [json.loads(content) for path, content in server.files.items() if path.endswith(".json")]
    assert record["release"] == releases[12].digest and record["version"] == "12" and record["camera"] == "front"
    assert set(server.stored.values()) == {1} and not list(waiting(lab.root / "field" / "front"))


# kill -9


class Cycle:
    """Harvests and sends in a process of its own, which is killed at a chosen line of the product's code."""

    def __init__(self, folder: Path, server: FrameServer) -> None:
        self.folder, self.server = folder, server
        self.config = settings(folder, upload={"url": f"{server.url}/inbox"})
        self.kept: set[int] = set()

    def run(self, first: int, at: int) -> int:
        """Frames from number `first`; 0 as `at` never kills. Returns the next number."""
        command = [
            sys.executable,
            "-m",
            "tests.helpers.harvest_and_send",
            str(self.folder / "edge.toml"),
            str(first),
            str(at),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        lines = [int(line) for line in done.stdout.splitlines() if not line.startswith("lines")]
        self.kept.update(lines)  # these were on the disk before the kill
        self.lines = next((int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("lines")), 0)
        return first + 4


def check_cycles(tmp_path: Path, seed: int, cycles: int) -> None:
    rng = random.Random(seed)
    with frame_server() as server:
        cycle = Cycle(tmp_path, server)
        cycle.run(0, 0)
        lines, first = cycle.lines, 4
        for _ in range(cycles):
            server.faults.extend(rng.choices([None, "cut", "mute", "lie", 503], [8, 1, 1, 1, 1], k=4))
            first = cycle.run(first, rng.randint(1, lines))
        server.faults.clear()
        cycle.run(first, 0)
        numbers = [json.loads(content)["version"] for path, content in server.files.items() if path.endswith(".json")]
        images = [path for path in server.files if path.endswith(".jpg")]
        assert len(numbers) == len(set(numbers)), "one frame twice"
        assert {int(number) for number in numbers} >= cycle.kept, "a frame was lost"
        assert len({int(number) for number in numbers} - cycle.kept) <= cycles, "more than the frame at hand"
        assert set(server.stored.values()) == {1} and {path.replace(".jpg", ".json") for path in images} <= set(
            server.files
        )
        assert left(cycle.config) == 0


def test_killed_and_cut_off_again_and_again(tmp_path: Path) -> None:
    check_cycles(tmp_path, 1, 3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_killed_and_cut_off_a_hundred_times(tmp_path: Path, seed: int) -> None:
    check_cycles(tmp_path, 100 + seed, 5)
