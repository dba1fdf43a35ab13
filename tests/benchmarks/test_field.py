"""What harvesting costs beside detecting: CPU time of `offer` and of the writing behind it, and memory."""

import statistics
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mobile_centernet.agent.harvest import Harvester
from mobile_centernet.export.onnx import export_onnx
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.models.variants import build_model
from tests.benchmarks.conftest import PeakMemory, Row
from tests.benchmarks.test_edge import CLASSES
from tests.helpers.harvests import NOON, frame, settings

pytestmark = pytest.mark.benchmark


def test_a_harvester_beside_a_detector(tmp_path: Path, row: Row) -> None:
    """hrnet_w16 at the paper's 576x320 on frames of 1280x720, one of ten kept: far more than on a device."""
    torch.manual_seed(1)
    model, size = build_model("hrnet_w16", len(CLASSES)).eval(), (320, 576)
    export_onnx(model, tmp_path / "m.onnx", classes=CLASSES, input_size=size)
    detector = Detector(tmp_path / "m.onnx", 1, provider="cpu")
    manifest = SimpleNamespace(thresholds=dict.fromkeys(CLASSES, 0.3), version="1")
    live = SimpleNamespace(release=SimpleNamespace(digest="d", manifest=manifest))
    frames = [frame(seed, 720, 1280) for seed in range(10)]
    config = settings(tmp_path, harvest={"least_s": 10, "near_bits": 0, "frames_a_day": 200})
    seconds: dict[str, list[float]] = {"detected": [], "left": [], "kept": []}
    with Harvester(config, live) as harvester:  # type: ignore[arg-type]
        for turn in range(40):
            start = time.process_time()
            found = detector.detect(frames[turn % 10])
            middle, before = time.process_time(), harvester.kept
            harvester.offer(frames[turn % 10], found, at=NOON + turn)
            harvester.flush()
            seconds["detected"].append(middle - start)
            seconds["kept" if harvester.kept > before else "left"].append(time.process_time() - middle)
    detected, left, kept = (1e3 * statistics.median(values) for values in seconds.values())
    share = left / detected
    row(
        "a detection, ms", f"{detected:.1f}", "a frame left", f"{left:.2f} ({share:.2%})", "a frame kept", f"{kept:.1f}"
    )
    assert share < 0.03


def test_a_harvesters_memory(tmp_path: Path, row: Row, peak_memory: PeakMemory) -> None:
    """Frames of 1920x1080, each kept."""
    settings(tmp_path, harvest={"near_bits": 0, "frames_a_day": 20})
    peak = peak_memory(f"""
from pathlib import Path
from mobile_centernet.agent.config import load_config
from mobile_centernet.agent.harvest import Harvester
from tests.helpers.harvests import LIVE, NOON, found, frame
frames = [frame(seed, 1080, 1920) for seed in range(4)]
config = load_config(Path({str(tmp_path / "edge.toml")!r}))
# measured
with Harvester(config, LIVE) as harvester:
    for turn in range(20):
        harvester.offer(frames[turn % 4], found(("vehicle", 0.3, 40, 40, 80, 72)), at=NOON + turn)
        harvester.flush()
    assert harvester.kept
""")
    row("a harvester's memory at 1920x1080, MiB", f"{peak:.1f}")
    assert peak < 20
