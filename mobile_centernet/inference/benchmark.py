"""How long an image takes, and how much processor time, from its JPEG to its boxes and by part; several models take
turns in one run.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnxruntime
from numpy.typing import DTypeLike, NDArray
from tqdm import tqdm

from mobile_centernet.errors import DataError, ModelError, UserError
from mobile_centernet.images import to_input
from mobile_centernet.images.opencv import decode_image, encode_jpeg
from mobile_centernet.inference.detector import BaseDetector, to_detections
from mobile_centernet.inference.graph import INPUT, OUTPUTS
from mobile_centernet.inference.load import open_model
from mobile_centernet.inference.onnx import (
    PROVIDERS,
    Detector,
    device_options,
    open_session,
    run_session,
    session_options,
)
from mobile_centernet.processes import processor_name

PERCENTILES = (50, 95, 99)
PARTS = ("decode", "preprocess", "network", "postprocess")
MEMORY_IMAGES = 3
CHECKPOINT = ".safetensors"
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
ELEMENTS: dict[str, DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


class Moment(NamedTuple):
    """Seconds on the clock on the wall, and of processor time that all threads of this process have used."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Moment":
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: "Moment") -> "Moment":
        """What passed, in milliseconds."""
        return Moment(1e3 * (self.wall - start.wall), 1e3 * (self.cpu - start.cpu))


@dataclass(frozen=True)
class Pace:
    """How a run goes: `fps` images a second, as a camera's would come, or without a pause; the rest as `open_model`."""

    threads: int | None = None
    spinning: bool = False
    fps: float | None = None
    device: str | None = None

    def rest(self, start: Moment) -> None:
        """Wait until the next image is due."""
        if self.fps is not None:
            time.sleep(max(0.0, start.wall + 1 / self.fps - time.perf_counter()))


@dataclass(frozen=True)
class Halves:
    """A model in two: its input [1, 3, h, w] to what its heads say, and from there to boxes, scores and labels."""

    network: Callable[[NDArray[np.float32]], Any]
    decode: Callable[[Any], object]


@dataclass
class TimedModel:
    """A model with what it took, one value per image; `halves` is None where it cannot be split."""

    model: BaseDetector
    halves: Halves | None
    pace: Pace = field(default_factory=Pace)
    end_to_end: list[Moment] = field(default_factory=list)
    parts: dict[str, list[Moment]] = field(default_factory=lambda: {part: [] for part in PARTS})

    def measure(self, jpeg: bytes, keep: bool) -> None:
        """Take one image from its bytes to boxes in its own pixels, then through both halves once more."""
        model, size = self.model, self.model.input_size
        start = Moment.now()
        image = decode_image(jpeg, "image")
        decoded = Moment.now()
        tensor = to_input(image, size)
        resized = Moment.now()
        batch = model.run(tensor)
        found = Moment.now()
        to_detections(batch, [(image.shape[0], image.shape[1])], size, model.classes)
        end = Moment.now()
        self.pace.rest(start)
        used = Moment(end.wall, Moment.now().cpu if self.pace.fps else end.cpu)  # threads may work while all wait

        parts = {"decode": decoded.since(start), "preprocess": resized.since(decoded)}
        if self.halves is None:
            parts["network"] = found.since(resized)
        else:
            before = Moment.now()
            heads = self.halves.network(tensor)
            between = Moment.now()
            self.halves.decode(heads)
            boxes, detections = Moment.now().since(between), end.since(found)
            parts["network"] = between.since(before)
            parts["postprocess"] = Moment(boxes.wall + detections.wall, boxes.cpu + detections.cpu)
            self.pace.rest(before)
        if keep:
            self.end_to_end.append(used.since(start))
            for part, taken in parts.items():
                self.parts[part].append(taken)

    @property
    def path(self) -> Path:
        return self.model.path

    def record(self) -> dict[str, Any]:
        """What was measured, for JSON."""
        wall = [taken.wall for taken in self.end_to_end]
        return {
            "model": self.model.name,
            "kind": self.model.kind,
            "runs_on": self.model.runs_on,
            "input_size": {"width": self.model.input_size[1], "height": self.model.input_size[0]},
            "latency_ms": _percentiles(wall),
            "cpu_ms": float(np.mean([taken.cpu for taken in self.end_to_end])),
            "throughput_per_s": 1e3 / float(np.mean(wall)),
            **_by_part(self.parts),
        }


@dataclass
class BareNetwork:
    """Any ONNX file, which is given noise and does what it does; measured as the part `network`."""

    path: Path
    session: onnxruntime.InferenceSession
    inputs: dict[str, NDArray[Any]]
    provider: str
    pace: Pace
    taken: list[Moment] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, size: tuple[int, int], pace: Pace, provider: str = "cpu") -> "BareNetwork":
        """Load a file, and run it once.

        Args:
            path: the ONNX file, of whatever project.
            size: (height, width) for inputs that leave theirs open.
            pace: how it runs.
            provider: what runs it, a key of PROVIDERS.

        Raises:
            ModelError: the file is missing or damaged, an input is no tensor of numbers or leaves more open than an
                image's batch and sides, or it does not run on noise.
        """
        session = open_session(
            path,
            session_options(pace.threads, pace.spinning),
            {PROVIDERS[provider]: device_options(pace.device or "") if provider != "cpu" else {}},
        )
        rng = np.random.default_rng(0)
        inputs: dict[str, NDArray[Any]] = {}
        for node in session.get_inputs():
            fixed = [side if isinstance(side, int) else None for side in node.shape]
            image = (1, *size, 3) if fixed[3:] == [3] else (1, 3, *size)
            if node.type not in ELEMENTS or (None in fixed and len(fixed) != len(image)):
                expected = "expected inputs that are images or have fixed sides"
                raise ModelError(f"{path}: {expected}, found {node.name}: {node.type} {node.shape}")
            shape = [image[axis] if side is None else side for axis, side in enumerate(fixed)]
            dtype = np.dtype(ELEMENTS[node.type])
            values = rng.random(shape) if dtype.kind == "f" else rng.integers(0, 128, shape)
            inputs[node.name] = values.astype(dtype)
        run_session(session, path, inputs)
        return cls(path, session, inputs, provider, pace)

    def measure(self, _jpeg: bytes, keep: bool) -> None:
        """Run once; the image is for others."""
        start = Moment.now()
        self.session.run(None, self.inputs)
        taken = Moment.now().since(start)
        self.pace.rest(start)
        if keep:
            self.taken.append(taken)

    def record(self) -> dict[str, Any]:
        """As a model's, with nothing but the network."""
        sides = next(iter(self.inputs.values())).shape[2:]
        return {
            "model": self.path.name,
            "kind": "bare network",
            "runs_on": f"onnxruntime {self.provider}",
            "input_size": {"width": sides[1], "height": sides[0]} if len(sides) == 2 else None,
            "latency_ms": None,
            "cpu_ms": None,
            "throughput_per_s": None,
            **_by_part({"network": self.taken}),
        }


def time_models(
    models: Sequence[str],
    sizes: Sequence[tuple[int, int]] = (),
    picture: Path | None = None,
    runs: int = 50,
    warm_up: int = 5,
    pace: Pace | None = None,
    compare: Sequence[Path] = (),
) -> dict[str, Any]:
    """Latency, processor time, throughput and memory of models, and on which machine.

    In every round each model has its turn, so that whatever else the machine does meets all of them.

    Args:
        models: files or addresses, as `open_model` takes them.
        sizes: (height, width) of inputs to measure checkpoints with, instead of their own; for checkpoints alone.
        picture: the image that all look at; None makes one.
        runs: measured images per model.
        warm_up: images before these.
        pace: threads and pauses; None: as ONNX Runtime likes, no pause. With a pace in images a second the processor
            time of a whole image is that until the next one is due, so that it has what idle threads use.
        compare: ONNX files of any project, which take turns as bare networks where the first ONNX model runs, with the
            first model's size where theirs is open.

    Returns:
        A document for JSON; all times are milliseconds, memory is MiB.

    Raises:
        UserError: a model or the image cannot be used.
    """
    if sizes and not any(source.endswith(CHECKPOINT) for source in models):
        raise UserError(f"--size: expected a {CHECKPOINT}, whose input can have any size, found {', '.join(models)}")
    jpeg = _jpeg(picture)
    load, pace = os.getloadavg()[0], pace or Pace()
    with ExitStack() as stack:
        timed: list[TimedModel | BareNetwork] = []
        for source in models:
            for size in sizes if source.endswith(CHECKPOINT) and sizes else (None,):
                opened = open_model(
                    source, threads=pace.threads, input_size=size, spinning=pace.spinning, device=pace.device
                )
                model = stack.enter_context(opened)
                timed.append(TimedModel(model, halves_of(model, pace), pace))
        ours = [each.model for each in timed if isinstance(each, TimedModel)]
        provider = next((model.provider for model in ours if isinstance(model, Detector)), "cpu")
        timed += [BareNetwork.open(path, ours[0].input_size, pace, provider) for path in compare]
        take_turns(timed, jpeg, runs, warm_up)

        peaks = []
        for each in timed:  # in fresh processes: what others used and freed in this one would not show
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                bare = isinstance(each, BareNetwork)
                path, size = each.path, ours[0].input_size
                if isinstance(each, TimedModel):
                    size = each.model.input_size
                peaks.append(pool.submit(peak_memory, str(path), size, jpeg, pace, bare).result())
    return {
        "machine": {
            "processor": processor_name(),
            "cores": os.cpu_count(),
            "threads": pace.threads,
            "load": load,
            "onnxruntime": onnxruntime.__version__,
        },
        "picture": str(picture) if picture else "made here, 1280x720",
        "runs": runs,
        "warm_up": warm_up,
        "fps": pace.fps,
        "spinning": pace.spinning,
        "models": [each.record() | {"peak_memory_mib": peak} for each, peak in zip(timed, peaks, strict=True)],
    }


def take_turns(timed: Sequence[TimedModel | BareNetwork], jpeg: bytes, runs: int, warm_up: int) -> None:
    """Measure every model once per round; those of the first `warm_up` rounds are not kept."""
    for number in tqdm(range(warm_up + runs), "measuring", unit="round", disable=None):
        first = number % len(timed)  # nobody always comes after the same one
        for each in (*timed[first:], *timed[:first]):
            each.measure(jpeg, keep=number >= warm_up)


def peak_memory(source: str, size: tuple[int, int], jpeg: bytes, pace: Pace, bare: bool) -> float | None:
    """MiB that this process held at most, after it has opened a model and looked at a few images; None if unknown."""
    with ExitStack() as stack:
        timed: TimedModel | BareNetwork
        if bare:
            timed = BareNetwork.open(Path(source), size, pace)
        else:
            opened = open_model(source, threads=pace.threads, input_size=size, device=pace.device)
            timed = TimedModel(stack.enter_context(opened), None)
        for _ in range(MEMORY_IMAGES):
            timed.measure(jpeg, keep=False)
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def halves_of(model: BaseDetector, pace: Pace) -> Halves | None:
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

    options = session_options(pace.threads, pace.spinning)
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
        raise DataError(f"{path}: expected an image, but it cannot be read ({error.strerror})") from error
    decode_image(jpeg, str(path))
    return jpeg


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{share}": float(np.percentile(values, share)) for share in PERCENTILES}


def _by_part(parts: dict[str, list[Moment]]) -> dict[str, Any]:
    measured = {part: values for part, values in parts.items() if values}
    return {
        "parts_ms": {part: _percentiles([taken.wall for taken in values]) for part, values in measured.items()},
        "parts_cpu_ms": {part: float(np.mean([taken.cpu for taken in values])) for part, values in measured.items()},
    }
