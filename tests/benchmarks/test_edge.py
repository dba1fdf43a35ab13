"""A device's agent: what it costs while nothing is new, and what a change of releases costs the application."""

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobile_centernet.agent.live import LiveDetector
from mobile_centernet.bundle.build import build_bundle
from mobile_centernet.export.onnx import export_onnx
from mobile_centernet.models.variants import build_model
from tests.helpers.file_server import file_server
from tests.helpers.lab import Lab
from tests.helpers.offers import Bundle
from tests.helpers.trust import Fleet

pytestmark = pytest.mark.benchmark

CLASSES = ("vehicle", "pedestrian", "scooter", "bicycle")
SIZE = (96, 192)  # the student in a size that this processor runs at 30 frames a second
FPS = 30
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Bundle]:
    """Two students of 6 MiB with random weights."""
    folder = tmp_path_factory.mktemp("bundles")
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    made = {}
    for number in (1, 2):
        torch.manual_seed(number)
        model = build_model("hrnet_w16", len(CLASSES)).eval()
        export_onnx(model, folder / f"{number}.onnx", classes=CLASSES, input_size=SIZE)
        path = folder / f"street-{number}.tar"
        build_bundle(
            path,
            [folder / f"{number}.onnx"],
            name="street",
            version=str(number),
            pictures=[folder / "noise.png"],
            thresholds={"default": 0.3},
            latency_ms={"default": 60_000.0},
        )
        made[number] = Bundle(path, str(number))
    return made


@pytest.fixture
def device(bundles: dict[int, Bundle], tmp_path: Path) -> Iterator[Lab]:
    """It runs release 1."""
    with file_server() as server:
        lab = Lab(tmp_path, server, Fleet(tmp_path / "fleet"))
        lab.configure()
        lab.install(bundles[1])
        yield lab


def test_an_idle_agent(device: Lab, row) -> None:
    """The installed command, polling every 5 seconds, which is sixty times as often as by default."""
    device.configure(poll={"interval_s": 5.0}, status={"port": 0})
    command = [sys.executable, "-m", "mobile_centernet.agent.cli", "--config", str(device.settings), "run"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            time.sleep(10)  # it has started, verified what it runs, and polled
            before, began = cpu_seconds(process.pid), time.monotonic()
            time.sleep(40)
            share = (cpu_seconds(process.pid) - before) / (time.monotonic() - began)
            rss = resident_mib(process.pid)
        finally:
            process.terminate()
    row("agent that polls every 5 s", f"{share:.2%} of a core (target 1 %)", f"{rss:.0f} MiB RSS (target 50)")
    assert share < 0.01 and rss <= 50


def test_a_poll_without_change(device: Lab, row) -> None:
    """Everything from the request to the status file, and the server's own work, which is a thread of this process."""
    agent = device.agent()
    agent.start()
    wall, cpu = [], []
    for _ in range(100):
        began, began_cpu = time.perf_counter(), time.process_time()
        agent.poll()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
    row(
        "poll without change",
        f"median {1e3 * statistics.median(wall):.1f} ms, {1e3 * statistics.median(cpu):.1f} ms of CPU (target 10 ms)",
    )
    assert statistics.median(cpu) <= 0.01


def test_the_pause_of_a_swap(device: Lab, bundles: dict[int, Bundle], row) -> None:
    """The longest frame while a new release is loaded and takes over, beside the longest when nothing happens."""
    device.install(bundles[2])  # both lie here now; the test takes the agent's part
    frame = np.random.default_rng(1).integers(0, 256, (360, 640, 3), np.uint8)
    pauses: list[float] = []
    calm: list[float] = []
    with LiveDetector(device.root, threads=1, look_every_s=0.1) as live:
        for turn in range(10):
            target = 1 + turn % 2
            calm.append(longest(live, frame, frames=FPS))
            threading.Timer(0.2, device.store.point, [bundles[target].digest]).start()
            pauses.append(longest(live, frame, until=str(target)))
    row(
        f"longest frame of the student at 192x96 while a release takes over, {FPS} frames/s",
        f"{1e3 * statistics.median(pauses):.0f} ms (median of {len(pauses)} changes; worst {1e3 * max(pauses):.0f})",
        f"longest in a calm second {1e3 * statistics.median(calm):.0f} ms (worst {1e3 * max(calm):.0f})",
        f"pause {1e3 * (statistics.median(pauses) - statistics.median(calm)):.0f} ms (target {1e3 / FPS:.0f})",
    )
    assert statistics.median(pauses) - statistics.median(calm) < 1 / FPS


def longest(live: LiveDetector, frame: np.ndarray, frames: int = 10_000, until: str = "") -> float:
    """Seconds of the slowest frame of so many, or of all until a second after that release has taken over."""
    worst, left = 0.0, frames
    while left > 0:
        began = time.perf_counter()
        live.detect(frame)
        took = time.perf_counter() - began
        worst, left = max(worst, took), left - 1
        if until and live.release.manifest.version == until:
            until, left = "", FPS
        time.sleep(max(0.0, 1 / FPS - took))
    assert not until, "it never took over"
    return worst


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024
