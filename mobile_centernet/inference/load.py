"""Opens whatever holds a model: an exported ONNX file, a checkpoint, a TensorRT engine, a registered version.

Where registered versions lie this package does not know: packages above it tell by an entry point of the group
RESOLVERS, named as the address begins (`models` for `models:/mobile-centernet@champion`). It is called with the address
and an empty folder and returns the path of a model file, which may lie in that folder.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

from mobile_centernet.errors import ModelError
from mobile_centernet.inference.detector import BaseDetector
from mobile_centernet.inference.onnx import AUTO, Detector

RESOLVERS = "mobile_centernet.models"
ENGINES = (".engine", ".plan")


@contextmanager
def open_model(
    source: str,
    *,
    threads: int | None = None,
    input_size: tuple[int, int] | None = None,
    spinning: bool = False,
    device: str | None = None,
) -> Iterator[BaseDetector]:
    """Open a `.onnx`, `.safetensors` or `.engine` file of this project, or an address such as `models:/name@alias`.

    Args:
        source: the file or the address.
        threads: CPU threads that an image may use, for all of PyTorch or for the one ONNX file.
        input_size: (height, width), another one than the model was made for; only a checkpoint can take it.
        spinning: whether an ONNX file's idle threads keep their cores busy, see `Detector`.
        device: cpu, cuda or cuda:N; None: the fastest that is here.

    Raises:
        ModelError: it cannot be opened, or not on this device, in one sentence.
        UserError: the address cannot be resolved.
    """
    with tempfile.TemporaryDirectory(prefix="mobile-centernet-") as folder:
        path = Path(source)
        scheme = re.match(r"([a-z][a-z0-9+.-]+):/", source)
        if scheme is not None:
            resolvers = entry_points(group=RESOLVERS, name=scheme[1])
            if not resolvers:
                raise ModelError(
                    f"{source}: expected something installed that knows addresses of {scheme[1]}:/, found nothing "
                    "(the pipeline does: pip install -e '.[train]')"
                )
            path = Path(next(iter(resolvers)).load()(source, Path(folder)))
        model: BaseDetector
        if path.suffix == ".safetensors":
            from mobile_centernet.inference.torch import TorchDetector

            model = TorchDetector(path, threads, input_size, device)
        elif path.suffix in ENGINES:
            from mobile_centernet.inference.tensorrt import EngineDetector

            model = EngineDetector(path, device)
        else:
            model = Detector(path, threads, device or AUTO, spinning=spinning)
        if input_size and model.input_size != input_size:
            (height, width), (fixed_height, fixed_width) = input_size, model.input_size
            raise ModelError(
                f"{source}: expected input {width}x{height}, found one that is fixed at {fixed_width}x{fixed_height}"
            )
        model.name = source if ":/" in source else path.name
        yield model
