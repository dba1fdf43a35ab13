"""`mobile-centernet bench`: how long a picture takes, end to end and by part; several models take turns in one run."""

import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tqdm import tqdm

from mobile_centernet.boxes import boxes_to_original
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.images import to_input
from mobile_centernet.images.opencv import decode_image, encode_jpeg
from mobile_centernet.inference.graph import INPUT, OUTPUTS
from mobile_centernet.inference.load import OpenModel, open_model
from mobile_centernet.inference.onnx import PROVIDERS

PERCENTILES = (50, 95, 99)
PARTS = ("decode image", "resize", "network", "decode boxes")
MEMORY_PICTURES = 3
CHECKPOINT = ".safetensors"


@dataclass(frozen=True)
class Halves:
    """A model in two: its input [1, 3, h, w] to what its heads say, and from there to boxes, scores and labels."""

    network: Callable[[NDArray[np.float32]], Any]
    decode: Callable[[Any], object]


@dataclass
class Candidate:
    """A model with the milliseconds that it took, one value a picture; `halves` is None where it cannot be split."""

    model: OpenModel
    halves: Halves | None
    end_to_end: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})

    def measure(self, jpeg: bytes, keep: bool) -> None:
        """Take one picture from its bytes to boxes in its own pixels, then through both halves once more."""
        size = self.model.input_size
        start = time.perf_counter()
        image = decode_image(jpeg, "picture")
        decoded = time.perf_counter()
        tensor = to_input(image, size)
        resized = time.perf_counter()
        boxes, _, _ = self.model.run(tensor)
        found = time.perf_counter()
        boxes_to_original(boxes[0], size, (image.shape[0], image.shape[1]))
        end = time.perf_counter()
        network, decode = self._by_halves(tensor) or (found - resized, None)  # else one piece that cannot be split
        if not keep:
            return
        self.end_to_end.append(1e3 * (end - start))
        self.parts["decode image"].append(1e3 * (decoded - start))
        self.parts["resize"].append(1e3 * (resized - decoded))
        self.parts["network"].append(1e3 * network)
        if decode is not None:
            self.parts["decode boxes"].append(1e3 * (decode + end - found))

    def _by_halves(self, tensor: NDArray[np.float32]) -> tuple[float, float] | None:
        """Seconds of each."""
        if self.halves is None:
            return None
        start = time.perf_counter()
        heads = self.halves.network(tensor)
        between = time.perf_counter()
        self.halves.decode(heads)
        return between - start, time.perf_counter() - between


def bench(
    models: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    picture: Path | None,
    runs: int,
    warm_up: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Print two tables, or the same as JSON. Raises UserError where a model or the picture cannot be used."""
    document = time_models(models, sizes, picture, runs, warm_up, threads)
    click.echo(json.dumps(document, indent=2, ensure_ascii=False) if as_json else _tables(document))


def time_models(
    models: Sequence[str],
    sizes: Sequence[tuple[int, int]] = (),
    picture: Path | None = None,
    runs: int = 50,
    warm_up: int = 5,
    threads: int | None = None,
) -> dict[str, Any]:
    """Latency, throughput, memory, and on which machine. `sizes` (height, width) are for checkpoints alone.

    In every round each model has its turn, so that whatever else the machine does meets all of them. Raises UserError
    where a model or the picture cannot be used.
    """
    if sizes and not any(source.endswith(CHECKPOINT) for source in models):
        raise UserError(f"--size: expected a {CHECKPOINT}, whose input can have any size, found {', '.join(models)}")
    jpeg = _picture(picture)
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        candidates = [
            Candidate(model, halves)
            for source in models
            for size in (sizes if source.endswith(CHECKPOINT) and sizes else (None,))
            for model, halves in [stack.enter_context(_opened(source, size, threads))]
        ]
        _take_turns(candidates, jpeg, runs, warm_up)
        memory = [_in_a_fresh_process(candidate.model, jpeg, threads) for candidate in candidates]
    return {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": threads,
            "load": load,
            "onnxruntime": onnxruntime.__version__,
        },
        "picture": str(picture) if picture else "made here, 1280x720",
        "runs": runs,
        "warm_up": warm_up,
        "models": [_row(candidate, peak) for candidate, peak in zip(candidates, memory, strict=True)],
    }


def peak_memory(path: str, size: tuple[int, int], jpeg: bytes, threads: int | None) -> float | None:
    """MiB that this process held at most, after it has opened a model and looked at a few pictures; None if unknown."""
    with open_model(path, threads=threads, input_size=size) as model:
        for _ in range(MEMORY_PICTURES):
            model.detect(decode_image(jpeg, "picture"))
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _take_turns(candidates: Sequence[Candidate], jpeg: bytes, runs: int, warm_up: int) -> None:
    for number in tqdm(range(warm_up + runs), "measuring", unit="round", disable=None):
        first = number % len(candidates)  # nobody always comes behind the same one
        for candidate in (*candidates[first:], *candidates[:first]):
            candidate.measure(jpeg, keep=number >= warm_up)


@contextmanager
def _opened(
    source: str, size: tuple[int, int] | None, threads: int | None
) -> Iterator[tuple[OpenModel, Halves | None]]:
    with open_model(source, threads=threads, input_size=size) as model:
        if model.network is not None:
            yield model, _torch_halves(model)
        elif model.kind == "onnx":
            yield model, onnx_halves(model, threads)
        else:
            yield model, None


def _torch_halves(model: OpenModel) -> Halves:
    import torch

    from mobile_centernet.codec import decode

    network = model.network
    assert network is not None  # noqa: S101  # for the type checker
    device = next(network.parameters()).device

    @torch.inference_mode()
    def run(tensor: NDArray[np.float32]) -> Any:
        output = network(torch.from_numpy(tensor).to(device))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return output

    @torch.inference_mode()
    def to_boxes(output: Any) -> object:
        found = decode(output.heatmap_logits.sigmoid(), output.size, output.offset, stride=network.stride)
        return found.boxes.cpu(), found.scores.cpu(), found.labels.cpu()  # a GPU is waited for

    return Halves(run, to_boxes)


def onnx_halves(model: OpenModel, threads: int | None) -> Halves:
    """The same graph, cut behind its last convolutions."""
    import onnx
    from onnx.utils import Extractor

    from mobile_centernet.export.onnx import read_graph
    from mobile_centernet.export.subgraph import Body

    graph, _ = read_graph(model.path)
    typed = onnx.shape_inference.infer_shapes(graph)
    heads = list(Body.of(typed.graph).outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    provider = PROVIDERS[model.runs_on.split()[1]]
    first, second = (
        onnxruntime.InferenceSession(
            Extractor(typed).extract_model(inputs, outputs).SerializeToString(), options, providers=[provider]
        )
        for inputs, outputs in (([INPUT], heads), (heads, list(OUTPUTS)))
    )
    return Halves(
        lambda tensor: first.run(heads, {INPUT: tensor}),
        lambda found: second.run(list(OUTPUTS), dict(zip(heads, found, strict=True))),
    )


def _in_a_fresh_process(model: OpenModel, jpeg: bytes, threads: int | None) -> float | None:
    """What others used and freed in this one would not show."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(peak_memory, str(model.path), model.input_size, jpeg, threads).result()


def _picture(path: Path | None) -> bytes:
    if path is None:
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (45, 80, 3)).astype(np.uint8)
        smooth = cv2.resize(coarse, (1280, 720), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        noisy = (smooth + rng.integers(-8, 9, smooth.shape)).clip(0, 255)
        return encode_jpeg(noisy.astype(np.uint8), 90)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        jpeg = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected a picture, but it cannot be read ({error.strerror})") from error
    decode_image(jpeg, str(path))
    return jpeg


def _processor() -> str:
    """Its name, as far as the system tells."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _row(candidate: Candidate, peak: float | None) -> dict[str, Any]:
    model = candidate.model
    return {
        "model": model.name,
        "kind": model.kind,
        "runs_on": model.runs_on,
        "input_size": {"width": model.input_size[1], "height": model.input_size[0]},
        "latency_ms": _percentiles(candidate.end_to_end),
        "throughput_per_s": 1e3 / float(np.mean(candidate.end_to_end)),
        "parts_ms": {part: _percentiles(values) for part, values in candidate.parts.items() if values},
        "peak_memory_mib": peak,
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{share}": float(np.percentile(values, share)) for share in PERCENTILES}


def _tables(document: Mapping[str, Any]) -> str:
    rows = document["models"]
    names = [f"{row['model']} {row['input_size']['width']}x{row['input_size']['height']}" for row in rows]
    machine = document["machine"]
    return "\n".join([
        f"{document['runs']} pictures each after {document['warm_up']}, in turns; picture: {document['picture']}; "
        f"{machine['cores']} cores ({machine['processor']}), threads {machine['threads'] or 'as they like'}, "
        f"load {machine['load']:.1f}",
        "",
        *_table(
            ["end to end", "runs on", "p50 ms", "p95 ms", "p99 ms", "per second", "peak MiB"],
            [
                [
                    name,
                    row["runs_on"],
                    *(f"{value:.1f}" for value in row["latency_ms"].values()),
                    f"{row['throughput_per_s']:.1f}",
                    f"{row['peak_memory_mib']:.0f}" if row["peak_memory_mib"] else "-",
                ]
                for name, row in zip(names, rows, strict=True)
            ],
        ),
        "",
        *_table(
            ["by part, p50 ms", *PARTS],
            [
                [name, *(f"{row['parts_ms'][part]['p50']:.2f}" if part in row["parts_ms"] else "-" for part in PARTS)]
                for name, row in zip(names, rows, strict=True)
            ],
        ),
    ])  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in (head, *rows)
    ]
