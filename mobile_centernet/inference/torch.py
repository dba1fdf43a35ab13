"""A network in torch as a detector: straight from a training, or from a checkpoint."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_centernet.codec import decode
from mobile_centernet.detections import DetectionBatch, NumpyBatch
from mobile_centernet.errors import ModelError
from mobile_centernet.inference.detector import BaseDetector
from mobile_centernet.models.centernet import CenterNet, CenterNetOutput
from mobile_centernet.models.checkpoint import load_model


def best_device(wanted: str | None = None) -> torch.device:
    """The GPU where there is one, else the processor; or the one that is `wanted`: cpu, cuda or cuda:N.

    Raises ModelError where torch cannot use that one.
    """
    chosen = torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"expected the device {wanted}, found {torch.cuda.device_count()} GPUs that torch can use")
    return chosen


class TorchRunner:
    """A `Runner`: the network, one sigmoid, then decode, in fp32 whatever autocast says, where its parameters are.

    fp32 is fp32 on a GPU, too: TF32 convolutions, which round to 10 bits, are switched off for the whole process.
    Raises ValueError unless the model is in eval mode: batch statistics would change the answer with the batch.
    """

    def __init__(self, model: CenterNet) -> None:
        if model.training:
            raise ValueError("TorchRunner: expected a model in eval mode, found it in training mode")
        torch.backends.cudnn.allow_tf32 = False
        self.model = model
        self.device = next(model.parameters()).device

    def __call__(self, images: NDArray[np.float32]) -> NumpyBatch:
        return self.decode(self.forward(images))

    @torch.inference_mode()
    def forward(self, images: NDArray[np.float32]) -> CenterNetOutput:
        """What the heads say about images [B, 3, h, w]."""
        with torch.autocast(self.device.type, enabled=False):
            output: CenterNetOutput = self.model(torch.from_numpy(images).to(self.device))
        return output

    @torch.inference_mode()
    def decode(self, output: CenterNetOutput) -> NumpyBatch:
        """The boxes in it."""
        with torch.autocast(self.device.type, enabled=False):
            heatmap = output.heatmap_logits.float().sigmoid()
            found = decode(heatmap, output.size.float(), output.offset.float(), stride=self.model.stride)
        return DetectionBatch(*(part.cpu().numpy() for part in found))


class TorchDetector(BaseDetector):
    """A checkpoint that runs.

    Args:
        path: a `.safetensors` file of this project.
        threads: CPU threads, for all of PyTorch.
        input_size: (height, width), another one than the model was trained for.
        device: cpu, cuda or cuda:N; None: the GPU where there is one.

    Raises:
        ModelError: the file is missing or not ours, or the device is not there.
    """

    kind = "checkpoint"

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        input_size: tuple[int, int] | None = None,
        device: str | None = None,
    ) -> None:
        if not path.is_file():
            raise ModelError(f"{path}: expected a checkpoint, found {'a directory' if path.exists() else 'nothing'}")
        loaded = load_model(path)
        if threads is not None:
            torch.set_num_threads(threads)
        place = best_device(device)
        self.path, self.name = path, path.name
        self.runs_on = f"torch {place}"
        self.classes = loaded.classes
        self.input_size = input_size or loaded.input_size
        self.runner = TorchRunner(loaded.model.to(place))

    def run(self, images: NDArray[np.float32]) -> NumpyBatch:
        return self.runner(images)
