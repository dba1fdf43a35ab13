"""`bench`: figures that hang together, models in turns, one sentence for what cannot be measured."""

import json
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result

from mobile_centernet.cli.main import main
from mobile_centernet.export.onnx import export_onnx
from mobile_centernet.images.opencv import encode_jpeg
from mobile_centernet.inference.benchmark import PARTS, BareNetwork, Moment, Pace, TimedModel, take_turns
from mobile_centernet.inference.load import open_model
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.models.checkpoint import save_model
from mobile_centernet.models.variants import build_model

CLASSES = ("vehicle", "pedestrian")
POOLS = ("intra_op", "inter_op")


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
        assert set(row["parts_cpu_ms"]) == set(PARTS) and min(row["parts_cpu_ms"].values()) > 0
        assert row["cpu_ms"] > row["parts_cpu_ms"]["preprocess"]
        assert row["throughput_per_s"] > 0
        assert row["peak_memory_mib"] > 20


def test_every_round_has_every_model_and_warm_up_is_not_counted() -> None:
    class Noted(TimedModel):
        def measure(self, jpeg: bytes, keep: bool) -> None:
            order.append((self.end_to_end[0].wall, keep))

    order: list[tuple[float, bool]] = []
    candidates = [Noted(None, None, end_to_end=[Moment(float(number), 0.0)]) for number in range(3)]  # type: ignore[arg-type]
    take_turns(candidates, b"", runs=2, warm_up=1)
    assert [number for number, _ in order] == [0, 1, 2, 1, 2, 0, 2, 0, 1]
    assert [keep for _, keep in order] == [False] * 3 + [True] * 6


def test_what_cannot_be_measured(models: Path, tmp_path: Path) -> None:
    message = refused(bench(models / "model.onnx", "--size", "64x64"))
    assert message.startswith("error: --size: expected a .safetensors, whose input can have any size, found ")
    assert "expected an ONNX file, found nothing" in refused(bench(tmp_path / "no.onnx"))
    (tmp_path / "noise.jpg").write_bytes(bytes(200))
    assert "noise.jpg: expected an image" in refused(bench(models / "model.onnx", "--picture", tmp_path / "noise.jpg"))


def other_project(path: Path, element: str = "float", shape: str = "1,3,32,96", axes: str = "{0}") -> Path:
    text = (
        f'<ir_version: 7, opset_import: ["" : 13]> other ({element}[{shape}] x) => ({element} y) '
        f"<int64[1] axes = {axes}> {{ y = ReduceSum <keepdims = 0> (x) }}"
    )
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.mark.parametrize(
    ("shape", "element", "fed"),
    [
        ("1,3,32,96", "float", (1, 3, 32, 96)),
        ("N,3,H,W", "float16", (1, 3, 32, 96)),
        ("N,H,W,3", "int32", (1, 32, 96, 3)),
        ("7", "int64", (7,)),
    ],
)
def test_any_networks_inputs_are_known_by_their_shape(
    shape: str, element: str, fed: tuple[int, ...], tmp_path: Path
) -> None:
    network = BareNetwork.open(other_project(tmp_path / "other.onnx", element, shape), (32, 96), Pace(threads=1))
    assert {name: values.shape for name, values in network.inputs.items()} == {"x": fed}
    network.measure(b"", keep=False)
    network.measure(b"", keep=True)
    assert len(network.taken) == 1 and network.taken[0].cpu > 0


def test_a_network_of_another_project_in_the_same_run(models: Path, tmp_path: Path) -> None:
    other = other_project(tmp_path / "other.onnx")
    arguments = [models / "model.onnx", "--compare", other, "--runs", 2, "--warm-up", 0, "--threads", 1]
    ours, theirs = json.loads(bench(*arguments, "--json").stdout)["models"]
    assert (theirs["model"], theirs["kind"], theirs["input_size"]) == (
        "other.onnx",
        "bare network",
        {"width": 96, "height": 32},
    )
    assert set(theirs["parts_ms"]) == set(theirs["parts_cpu_ms"]) == {"network"}
    assert (theirs["latency_ms"], theirs["cpu_ms"], theirs["throughput_per_s"]) == (None, None, None)
    assert ours["latency_ms"] and theirs["peak_memory_mib"] > 20
    lines = bench(*arguments).output.splitlines()
    cells = [line.split() for line in lines if line.startswith("other.onnx")]
    assert len(cells) == 2 and cells[0][4:9] == ["-"] * 5  # both tables have it, the first with its memory alone


def test_networks_that_cannot_be_compared(models: Path, tmp_path: Path) -> None:
    assert "expected an ONNX file, found nothing" in refused(bench(models / "model.onnx", "--compare", tmp_path / "no"))
    open_sides = other_project(tmp_path / "open.onnx", shape="N,3")
    assert "open.onnx: expected inputs that are images or have fixed sides, found x: tensor(float) ['N', 3]" in refused(
        bench(models / "model.onnx", "--compare", open_sides)
    )
    words = tmp_path / "words.onnx"
    text = '<ir_version: 7, opset_import: ["" : 13]> w (string[2] x) => (string[2] y) { y = Identity (x) }'
    onnx.save(onnx.parser.parse_model(text), words)
    assert "found x: tensor(string)" in refused(bench(models / "model.onnx", "--compare", words))
    tight = tmp_path / "tight.onnx"
    text = (
        '<ir_version: 7, opset_import: ["" : 13]> t (float[4] x) => (float[N] y) '
        "<float[1] zero = {0.0}> { a = Concat <axis = 0> (x, zero) b = Greater (a, zero) c = NonZero (b) "
        "d = Shape (c) y0 = Cast <to = 1> (d) y = Reshape (y0, d) }"
    )
    onnx.save(onnx.parser.parse_model(text), tight)
    assert "tight.onnx: ONNX Runtime could not run it" in refused(bench(models / "model.onnx", "--compare", tight))


def test_images_come_at_their_pace(models: Path) -> None:
    with open_model(str(models / "model.onnx"), threads=1) as model:
        timed = TimedModel(model, None, Pace(fps=10))
        jpeg = encode_jpeg(np.zeros((32, 96, 3), np.uint8), 90)
        start = time.perf_counter()
        for _ in range(3):
            timed.measure(jpeg, keep=True)
    assert time.perf_counter() - start >= 0.3
    assert len(timed.end_to_end) == 3


@pytest.mark.parametrize(("spinning", "entry"), [(False, "0"), (True, "1")])
def test_idle_threads_sleep_unless_told_otherwise(spinning: bool, entry: str, models: Path) -> None:
    with open_model(str(models / "model.onnx"), spinning=spinning) as model:
        assert isinstance(model, Detector) and model._session is not None
        options = model._session.get_session_options()
    entries = {pool: options.get_session_config_entry(f"session.{pool}.allow_spinning") for pool in POOLS}
    assert entries == dict.fromkeys(POOLS, entry)
