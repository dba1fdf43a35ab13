"""`bench`: figures that hang together, models in turns, one sentence for what cannot be measured."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from mobile_centernet.cli.main import main
from mobile_centernet.export.onnx import export_onnx
from mobile_centernet.inference.benchmark import PARTS, TimedModel, take_turns
from mobile_centernet.models.checkpoint import save_model
from mobile_centernet.models.variants import build_model

CLASSES = ("vehicle", "pedestrian")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    network = build_model("hrnet_w16_lite", len(CLASSES))
    export_onnx(network, folder / "model.onnx", classes=CLASSES, input_size=(32, 96))
    save_model(network, folder / "model.safetensors", classes=CLASSES, input_size=(32, 96))
    return folder


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


def refused(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_onnx_and_checkpoint_of_two_sizes_in_one_run(models: Path) -> None:
    files = [models / "model.onnx", models / "model.safetensors"]
    result = bench(*files, "--size", "96x32", "--size", "64x64", "--runs", 3, "--warm-up", 1, "--threads", 1, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = json.loads(result.stdout)["models"]
    assert [(row["kind"], row["input_size"]["width"]) for row in rows] == [
        ("onnx", 96),
        ("checkpoint", 96),
        ("checkpoint", 64),
    ]
    for row in rows:
        latency = row["latency_ms"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
        assert set(row["parts_ms"]) == set(PARTS) and min(part["p50"] for part in row["parts_ms"].values()) > 0
        assert row["throughput_per_s"] > 0
        assert row["peak_memory_mib"] > 20


def test_every_round_has_every_model_and_warm_up_is_not_counted() -> None:
    class Noted(TimedModel):
        def measure(self, jpeg: bytes, keep: bool) -> None:
            order.append((self.end_to_end[0], keep))

    order: list[tuple[float, bool]] = []
    candidates = [Noted(None, None, [float(number)]) for number in range(3)]  # type: ignore[arg-type]
    take_turns(candidates, b"", runs=2, warm_up=1)
    assert [number for number, _ in order] == [0, 1, 2, 1, 2, 0, 2, 0, 1]
    assert [keep for _, keep in order] == [False] * 3 + [True] * 6


def test_what_cannot_be_measured(models: Path, tmp_path: Path) -> None:
    message = refused(bench(models / "model.onnx", "--size", "64x64"))
    assert message.startswith("error: --size: expected a .safetensors, whose input can have any size, found ")
    assert "expected an ONNX file, found nothing" in refused(bench(tmp_path / "no.onnx"))
    (tmp_path / "noise.jpg").write_bytes(bytes(200))
    assert "noise.jpg: expected a picture" in refused(bench(models / "model.onnx", "--picture", tmp_path / "noise.jpg"))
