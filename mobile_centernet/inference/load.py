"""Opens whatever holds a model: an exported ONNX file, a checkpoint, a TensorRT engine, a registered version.

Where registered versions lie this package does not know: packages above it tell by an entry point of the group
RESOLVERS, named as the address begins (`models` for `models:/mobile-centernet@champion`). It is called with the address
and an empty folder and returns the path of a model file, which may lie in that folder.
"""

import importlib
import importlib.util
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.boxes import boxes_to_original
from mobile_centernet.errors import ModelError
from mobile_centernet.images import to_input
from mobile_centernet.inference.onnx import Detector

if TYPE_CHECKING:
    from mobile_centernet.models.centernet import CenterNet

RESOLVERS = "mobile_centernet.models"
ENGINES = (".engine", ".plan")
Kind = Literal["onnx", "checkpoint", "engine"]
Found = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class OpenModel:
    """A model that runs.

    name:    as the user gave it: a file's name or the address
    runs_on: what computes it, such as `onnxruntime cpu`
    run:     [1, 3, h, w] RGB 0..255 of `input_size` (height, width) to boxes [1, K, 4] xyxy in its pixels, scores and
             labels [1, K]
    network: a checkpoint's network; None for other kinds
    """

    name: str
    path: Path
    kind: Kind
    runs_on: str
    classes: tuple[str, ...]
    input_size: tuple[int, int]
    run: Callable[[NDArray[np.float32]], Found]
    network: "CenterNet | None" = None

    def detect(self, image: NDArray[np.uint8]) -> Found:
        """`image` RGB [H, W, 3] to boxes [K, 4] xyxy in its pixels, scores [K], best first, labels [K]."""
        boxes, scores, labels = self.run(to_input(image, self.input_size))
        return boxes_to_original(boxes[0], self.input_size, (image.shape[0], image.shape[1])), scores[0], labels[0]


@contextmanager
def open_model(
    source: str, *, threads: int | None = None, input_size: tuple[int, int] | None = None
) -> Iterator[OpenModel]:
    """Open a `.onnx`, `.safetensors` or `.engine` file of this project, or an address such as `models:/name@alias`.

    `threads`: CPU threads a picture may use, for all of PyTorch or for the one ONNX file. `input_size` (height, width):
    another one than the model was made for; only a checkpoint can take it. Raises ModelError in one sentence for
    whatever cannot be opened, UserError where an address cannot be resolved.
    """
    with tempfile.TemporaryDirectory(prefix="mobile-centernet-") as folder:
        path = _resolved(source, Path(folder))
        if path.suffix == ".safetensors":
            model = _checkpoint(source, path, threads, input_size)
        elif path.suffix in ENGINES:
            model = _engine(source, path)
        else:
            model = _onnx(source, path, threads)
        if input_size and model.input_size != input_size:
            raise ModelError(
                f"{source}: expected input {_sides(input_size)}, found one that is fixed at {_sides(model.input_size)}"
            )
        yield model


def _resolved(source: str, folder: Path) -> Path:
    scheme = re.match(r"([a-z][a-z0-9+.-]+):/", source)
    if scheme is None:
        return Path(source)
    resolvers = entry_points(group=RESOLVERS, name=scheme[1])
    if not resolvers:
        raise ModelError(
            f"{source}: expected something installed that knows addresses of {scheme[1]}:/, found nothing "
            "(the pipeline does: pip install -e '.[train]')"
        )
    return Path(next(iter(resolvers)).load()(source, folder))


def _onnx(source: str, path: Path, threads: int | None) -> OpenModel:
    detector = Detector(path, threads)
    runs_on = f"onnxruntime {detector.provider}"
    return OpenModel(_name(source), path, "onnx", runs_on, detector.classes, detector.input_size, detector.run)


def _checkpoint(source: str, path: Path, threads: int | None, input_size: tuple[int, int] | None) -> OpenModel:
    import torch

    from mobile_centernet.inference.torch import torch_detector
    from mobile_centernet.models.checkpoint import load_model

    if not path.is_file():
        raise ModelError(f"{path}: expected a checkpoint, found {'a directory' if path.exists() else 'nothing'}")
    loaded = load_model(path)
    if threads is not None:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = loaded.model.to(device)
    size = input_size or loaded.input_size
    run = torch_detector(network)
    return OpenModel(_name(source), path, "checkpoint", f"torch {device}", loaded.classes, size, run, network)


def _engine(source: str, path: Path) -> OpenModel:
    """An engine knows neither its classes nor its size: the ONNX file does that its sidecar names."""
    if importlib.util.find_spec("tensorrt") is None:
        raise ModelError(f"{path}: expected TensorRT's Python package, which runs engines, found it not installed")
    import torch

    from mobile_centernet.inference.engines import Origin, sidecar, why_not
    from mobile_centernet.inference.tensorrt import EngineDetector

    if not torch.cuda.is_available():
        raise ModelError(f"{path}: expected a CUDA device, which runs engines, found none")
    trt = importlib.import_module("tensorrt")
    onnx_path = _onnx_of(path, sidecar(path))
    objection = why_not(path, Origin.of(trt, torch.cuda.get_device_name(), onnx_path))
    if objection is not None:
        raise ModelError(f"{path}: {objection}")
    described = Detector(onnx_path, provider="cpu")
    runs_on = f"tensorrt {trt.__version__}"
    run = EngineDetector(trt, path).run
    return OpenModel(_name(source), path, "engine", runs_on, described.classes, described.input_size, run)


def _onnx_of(engine: Path, sidecar: Path) -> Path:
    try:
        name = Path(str(json.loads(sidecar.read_text(encoding="utf-8"))["onnx"])).name
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{engine}: expected {sidecar.name} beside it, found none that can be read") from error
    for folder in (engine.parent, engine.parent.parent):
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"{engine}: expected {name}, which it was built from, beside it or in the folder above")


def _name(source: str) -> str:
    return source if ":/" in source else Path(source).name


def _sides(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
