"""How long an image takes, from its JPEG to its boxes and by part; several models take turns in one run."""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tqdm import tqdm

from mobile_centernet.errors import DataError, UserError
from mobile_centernet.images import to_input
from mobile_centernet.images.opencv import decode_image, encode_jpeg
from mobile_centernet.inference.detector import BaseDetector, to_detections
from mobile_centernet.inference.graph import INPUT, OUTPUTS
from mobile_centernet.inference.load import open_model
from mobile_centernet.inference.onnx import PROVIDERS, Detector
from mobile_centernet.processes import processor_name

PERCENTILES = (50, 95, 99)
PARTS = ("decode image", "resize", "network", "decode boxes")
MEMORY_IMAGES = 3
CHECKPOINT = ".safetensors"
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


@dataclass(frozen=True)
class Halves:
    """A model in two: its input [1, 3, h, w] to what its heads say, and from there to boxes, scores and labels."""

    network: Callable[[NDArray[np.float32]], Any]
    decode: Callable[[Any], object]


@dataclass
class TimedModel:
    """A model with the milliseconds that it took, one value per image; `halves` is None where it cannot be split."""

    model: BaseDetector
    halves: Halves | None
    end_to_end: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})

    def measure(self, jpeg: bytes, keep: bool) -> None:
        """Take one image from its bytes to boxes in its own pixels, then through both halves once more."""
        model, size = self.model, self.model.input_size
        start = time.perf_counter()
        image = decode_image(jpeg, "picture")
        decoded = time.perf_counter()
        tensor = to_input(image, size)
        resized = time.perf_counter()
        batch = model.run(tensor)
        found = time.perf_counter()
        to_detections(batch, [(image.shape[0], image.shape[1])], size, model.classes)
        end = time.perf_counter()

        network, decode = found - resized, None  # one piece, where it cannot be split
        if self.halves is not None:
            before = time.perf_counter()
            heads = self.halves.network(tensor)
            between = time.perf_counter()
            self.halves.decode(heads)
            network, decode = between - before, time.perf_counter() - between
        if not keep:
            return
        self.end_to_end.append(1e3 * (end - start))
        self.parts["decode image"].append(1e3 * (decoded - start))
        self.parts["resize"].append(1e3 * (resized - decoded))
        self.parts["network"].append(1e3 * network)
        if decode is not None:
            self.parts["decode boxes"].append(1e3 * (decode + end - found))


def time_models(
    models: Sequence[str],
    sizes: Sequence[tuple[int, int]] = (),
    picture: Path | None = None,
    runs: int = 50,
    warm_up: int = 5,
    threads: int | None = None,
) -> dict[str, Any]:
    """Latency, throughput and memory of models, and on which machine.

    In every round each model has its turn, so that whatever else the machine does meets all of them.

    Args:
        models: files or addresses, as `open_model` takes them.
        sizes: (height, width) of inputs to measure checkpoints with, instead of their own; for checkpoints alone.
        picture: the image that all look at; None makes one.
        runs: measured images per model.
        warm_up: images before these.
        threads: CPU threads per image.

    Returns:
        A document for JSON; all times are milliseconds, memory is MiB.

    Raises:
        UserError: a model or the image cannot be used.
    """
    if sizes and not any(source.endswith(CHECKPOINT) for source in models):
        raise UserError(f"--size: expected a {CHECKPOINT}, whose input can have any size, found {', '.join(models)}")
    jpeg = _jpeg(picture)
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        timed = []
        for source in models:
            for size in sizes if source.endswith(CHECKPOINT) and sizes else (None,):
                model = stack.enter_context(open_model(source, threads=threads, input_size=size))
                timed.append(TimedModel(model, halves_of(model, threads)))
        take_turns(timed, jpeg, runs, warm_up)

        peaks = []
        for each in timed:  # in fresh processes: what others used and freed in this one would not show
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                arguments = (str(each.model.path), each.model.input_size, jpeg, threads)
                peaks.append(pool.submit(peak_memory, *arguments).result())
    return {
        "machine": {
            "processor": processor_name(),
            "cores": os.cpu_count(),
            "threads": threads,
            "load": load,
            "onnxruntime": onnxruntime.__version__,
        },
        "picture": str(picture) if picture else "made here, 1280x720",
        "runs": runs,
        "warm_up": warm_up,
        "models": [
            {
                "model": each.model.name,
                "kind": each.model.kind,
                "runs_on": each.model.runs_on,
                "input_size": {"width": each.model.input_size[1], "height": each.model.input_size[0]},
                "latency_ms": _percentiles(each.end_to_end),
                "throughput_per_s": 1e3 / float(np.mean(each.end_to_end)),
                "parts_ms": {part: _percentiles(values) for part, values in each.parts.items() if values},
                "peak_memory_mib": peak,
            }
            for each, peak in zip(timed, peaks, strict=True)
        ],
    }


def take_turns(timed: Sequence[TimedModel], jpeg: bytes, runs: int, warm_up: int) -> None:
    """Measure every model once per round; those of the first `warm_up` rounds are not kept."""
    for number in tqdm(range(warm_up + runs), "measuring", unit="round", disable=None):
        first = number % len(timed)  # nobody always comes after the same one
        for each in (*timed[first:], *timed[:first]):
            each.measure(jpeg, keep=number >= warm_up)


def peak_memory(path: str, size: tuple[int, int], jpeg: bytes, threads: int | None) -> float | None:
    """MiB that this process held at most, after it has opened a model and looked at a few images; None if unknown."""
    with open_model(path, threads=threads, input_size=size) as model:
        for _ in range(MEMORY_IMAGES):
            model.detect(decode_image(jpeg, "picture"))
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def halves_of(model: BaseDetector, threads: int | None) -> Halves | None:
    """A checkpoint at its heads; an ONNX graph, too, by cutting it after its last convolutions; an engine cannot be."""
    if model.kind == "checkpoint":
        import torch

        from mobile_centernet.inference.torch import TorchDetector

        assert isinstance(model, TorchDetector)  # noqa: S101  # for the type checker
        runner = model.runner

        def network(tensor: NDArray[np.float32]) -> Any:
            output = runner.forward(tensor)
            if runner.device.type == "cuda":
                torch.cuda.synchronize(runner.device)
            return output

        return Halves(network, runner.decode)
    if not isinstance(model, Detector):
        return None
    import onnx
    from onnx.utils import Extractor

    typed = onnx.shape_inference.infer_shapes(onnx.load(model.path))
    heads: list[str] = []
    ahead: set[str] = set()  # tensors that a convolution depends on
    for node in reversed(typed.graph.node):
        is_convolution, is_followed = node.op_type in CONVOLUTIONS, not ahead.isdisjoint(node.output)
        if is_convolution and not is_followed:
            heads[:0] = node.output
        if is_convolution or is_followed:
            ahead.update(node.input)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    first, second = (
        onnxruntime.InferenceSession(
            Extractor(typed).extract_model(inputs, outputs).SerializeToString(),
            options,
            providers=[PROVIDERS[model.provider]],
        )
        for inputs, outputs in (([INPUT], heads), (heads, list(OUTPUTS)))
    )
    return Halves(
        lambda tensor: first.run(heads, {INPUT: tensor}),
        lambda found: second.run(list(OUTPUTS), dict(zip(heads, found, strict=True))),
    )


def _jpeg(path: Path | None) -> bytes:
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


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{share}": float(np.percentile(values, share)) for share in PERCENTILES}
