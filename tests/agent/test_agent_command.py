"""`mobile-centernet-edge` as a process of its own, with its own self-test process."""

import errno
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mobile_centernet.agent.config import load_config
from mobile_centernet.agent.errors import ConfigError, TransferError
from mobile_centernet.agent.http import credentials
from tests.helpers.lab import Lab
from tests.helpers.mlflow_servers import free_port
from tests.helpers.offers import Bundle

Releases = dict[int, Bundle]
ROOT = Path(__file__).parents[2]
EDGE = (sys.executable, "-m", "mobile_centernet.agent.cli")


def call(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*EDGE, "--config", str(lab.settings), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def running(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    command = [*EDGE, "--config", str(lab.settings), "run"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)


def until(holds: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def test_an_idle_agent_holds_nothing_that_detects() -> None:
    """Nor boto3, where the machine has it: `run` keeps securesystemslib from importing it."""
    heavy = ("numpy", "PIL", "cv2", "onnxruntime", "boto3")
    imports = "import mobile_centernet.agent.agent, mobile_centernet.agent.upload, mobile_centernet.agent.status"
    said = f"import sys; sys.modules['boto3'] = None; {imports}; print([n for n in {heavy} if sys.modules.get(n)])"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True).stdout == "[]\n"


def test_once_status_and_rollback(lab: Lab, releases: Releases) -> None:
    lab.configure(proof={"runs": 2})
    for number in (12, 13):
        lab.offer(releases[number])
        with lab.application():
            done = call(lab, "once")
        assert done.returncode == 0, done.stderr
        assert f"release   version {number} (statement {number - 11}, {releases[number].digest[:12]})" in done.stdout
    shown = call(lab, "status", "--json")
    assert json.loads(shown.stdout)["previous"]["version"] == "12"
    assert json.loads(shown.stdout)["proof"]["provider"] == "cpu"
    with lab.application():
        back = call(lab, "rollback")
    assert back.returncode == 0, back.stderr
    assert lab.running() == releases[12].digest
    again = call(lab, "once")
    assert again.returncode == 1 and "refused before: an operator rolled back from it" in again.stdout
    with lab.application():
        forgiven = call(lab, "once", "--forget-refusals")
    assert forgiven.returncode == 0 and lab.running() == releases[13].digest


def test_a_second_agent_is_refused_and_a_rollback_goes_to_the_first(lab: Lab, releases: Releases) -> None:
    lab.install(releases[12])
    lab.install(releases[13])
    (lab.root / "status.json").unlink()
    with running(lab) as agent, lab.application():
        until((lab.root / "status.json").exists)
        for command in ("run", "once"):
            second = call(lab, command)
            assert second.returncode == 11
            assert second.stderr.endswith("another agent is already running here\n")
        asked = call(lab, "rollback")
        assert asked.returncode == 0 and asked.stdout.startswith("asked the running agent to roll back")
        until(lambda: lab.saved.committed and lab.saved.committed.version == "12")
        assert agent.poll() is None
    assert lab.running() == releases[12].digest


def test_it_ends_on_sigterm_also_inside_a_trial(lab: Lab, releases: Releases) -> None:
    lab.install(releases[12])
    lab.offer(releases[13])
    lab.configure(health={"start_s": 600.0, "window_s": 600.0})
    with running(lab) as agent, lab.application():
        until(lambda: json.loads((lab.root / "status.json").read_text())["state"] == "watching")
        agent.send_signal(signal.SIGTERM)
        _, said = agent.communicate(timeout=30)
    assert agent.returncode == 0 and "stopped within its work" in said and "Traceback" not in said
    lab.agent().start()
    assert lab.running() == releases[12].digest


def test_its_status_over_http(lab: Lab, releases: Releases) -> None:
    lab.install(releases[12])
    port = free_port()
    lab.configure(status={"port": port})

    def get(path: str, **headers: str) -> str:
        asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        with urllib.request.urlopen(asked, timeout=10) as response:  # noqa: S310
            return str(response.read().decode())

    def is_up() -> bool:
        try:
            said = json.loads(get("/status"))
            return said["last_check"] is not None and said["state"] == "idle"
        except (urllib.error.URLError, ConnectionError):
            return False

    with running(lab):
        until(is_up)
        assert json.loads(get("/status"))["release"]["version"] == "12"
        lines = get("/metrics").splitlines()
        assert "mobile_centernet_edge_release 1" in lines and "mobile_centernet_edge_problem 0" in lines
        assert any(line.startswith('mobile_centernet_edge_events_total{state="checking"') for line in lines)
        kinds = {line.split()[2] for line in lines if line.startswith("# TYPE")}
        assert {line.split("{")[0].split()[0] for line in lines if not line.startswith("#")} == kinds
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get("/../memory.json")
        with pytest.raises(urllib.error.HTTPError, match="421"):
            get("/status", Host=f"evil.example:{port}")  # whose name leads here, so that a browser reads it for him
        taken = call(lab, "--verbose", "run")
        assert taken.returncode == 11, "the folder's lock comes before the port"


def test_killed_for_real_a_few_times(lab: Lab, releases: Releases) -> None:
    """The command as installed, its self-test process and all; killed after random times."""
    lab.install(releases[12])
    lab.offer(releases[13])
    with lab.application():
        for wait in (0.6, 1.1, 1.7):
            with subprocess.Popen(
                [*EDGE, "--config", str(lab.settings), "once"], cwd=ROOT, stderr=subprocess.DEVNULL
            ) as process:
                time.sleep(wait)
                process.kill()
            assert lab.store.pointed() in (releases[12].digest, releases[13].digest)
        assert call(lab, "once").returncode == 0
    assert lab.running() == releases[13].digest


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trust": {"url": "ftp://x"}}, "trust.url: expected http:// or https://"),
        ({"trust": {"url": "http://x:99999"}}, "trust.url: expected http:// or https://"),
        ({"trust": {"url": "http://[::1"}}, "trust.url: expected http:// or https://"),
        ({"trust": {"url": "http://x/ä"}}, "trust.url: expected http:// or https://"),
        ({"trust": {"url": f"http://{'x' * 64}.de"}}, "trust.url: expected http:// or https://"),
        (
            {"trust": {"nonsense": 1}},
            "trust: expected url, root, model, channel, timeout_s, least_kb_s, found nonsense",
        ),
        ({"trust": {"channel": "challenger"}}, "trust.channel: expected champion or canary, found 'challenger'"),
        ({"trust": {"least_kb_s": 0}}, "trust.least_kb_s: expected kilobytes a second from 0.1, found 0.0"),
        ({"report": {"url": 5}}, "report.url: expected str, found int 5"),
        ({"registry": {"url": "http://x"}}, "registry: releases come signed from a repository now: expected [trust]"),
        (
            {"nonsense": {}},
            "expected trust, paths, report, device, poll, health, proof, store, status, harvest, upload, "
            "found nonsense",
        ),
        ({"poll": {"interval_s": 0}}, "poll.interval_s: expected seconds from 0.01, found 0.0"),
        ({"poll": {"jitter": 2.0}}, "poll.jitter: expected a share 0..1"),
        ({"health": {"restarts": True}}, "health.restarts: expected int, found bool"),
        ({"device": {"precision": "fp64"}}, "device.precision: expected fp32, fp16, int8, found 'fp64'"),
        ({"device": {"name": "a b"}}, "device.name: expected 1 to 64 letters"),
        ({"paths": {"trusted": []}}, "paths: expected root, found trusted"),
        ({"status": {"port": 70_000}}, "status.port: expected a port 0..65535"),
    ],
)
def test_settings_that_are_wrong(lab: Lab, changes: dict[str, dict[str, object]], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        lab.configure(**changes)
    assert sentence in str(refused.value) and str(lab.settings) in str(refused.value)


@pytest.mark.parametrize("secret", ["me:hush@x", "x/?key=hush", "x/?auth=hush", "x/#token=hush", "x:hush@y/z"])
def test_a_secret_in_an_address_is_refused_and_not_repeated(lab: Lab, secret: str) -> None:
    for section in ("trust", "report"):
        with pytest.raises(ConfigError, match=f"{section}.url: expected") as refused:
            lab.configure(**{section: {"url": f"https://{secret}"}})
        assert "hush" not in str(refused.value)


@pytest.mark.parametrize("token", ["hush\n", "hush\u20ac", "hu sh\r\nX: y"])
def test_a_token_that_no_header_can_hold_is_not_repeated(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    with pytest.raises(TransferError, match="credentials: expected a token or user of printable ASCII") as refused:
        credentials("http://x", environment=True)
    assert "hu" not in str(refused.value).replace("another", "")


@pytest.mark.parametrize("home", ["none", "closed", "a file"])
def test_a_service_without_a_home_has_no_credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str
) -> None:
    for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "NETRC"):
        monkeypatch.delenv(name, raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    def closed(_: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    if home == "none":
        monkeypatch.setattr(Path, "home", no_home)
    elif home == "closed":
        monkeypatch.setattr(Path, "is_file", closed)
    else:
        (tmp_path / "home").touch()
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert credentials("http://x", environment=True) == {}


def test_settings_that_are_missing(lab: Lab) -> None:
    lab.settings.write_text("[trust]\n")
    with pytest.raises(ConfigError, match=r"trust\.url: expected http://.* found nothing"):
        load_config(lab.settings)
    lab.settings.write_text("[trust\n")
    with pytest.raises(ConfigError, match="expected TOML"):
        load_config(lab.settings)
    lab.settings.unlink()
    done = call(lab, "once")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "cannot be read" in done.stderr


def test_relative_paths_start_beside_the_settings(lab: Lab) -> None:
    config = lab.configure(trust={"root": "root.json"}, paths={"root": "device"})
    assert config.trust.root == lab.folder / "root.json" and config.paths.root == lab.folder / "device"


def test_help_is_quick_and_without_what_is_heavy() -> None:
    code = "import sys; import mobile_centernet.agent.agent, mobile_centernet.agent.cli; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"numpy", "onnxruntime", "cv2", "PIL", "torch", "mlflow"}
    assert heavy.isdisjoint(eval(done.stdout)), "the idle agent must stay small"  # noqa: S307
