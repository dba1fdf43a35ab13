"""A network in torch as a detector."""

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_centernet.codec import decode
from mobile_centernet.inference.graph import Detect, FoundBoxes
from mobile_centernet.models.centernet import CenterNet


def torch_detector(model: CenterNet) -> Detect:
    """The model as a detector: one sigmoid, then decode, in fp32 whatever autocast says.

    The model must be in eval mode (ValueError otherwise): batch statistics would change the answer with the
    batch. It runs on the device where its parameters are.
    """
    if model.training:
        raise ValueError("torch_detector: expected a model in eval mode, found it in training mode")

    @torch.inference_mode()
    def detect(images: NDArray[np.float32]) -> FoundBoxes:
        device = next(model.parameters()).device
        with torch.autocast(device.type, enabled=False):
            output = model(torch.from_numpy(images).to(device))
            found = decode(
                output.heatmap_logits.float().sigmoid(),
                output.size.float(),
                output.offset.float(),
                stride=model.stride,
            )
        return found.boxes.cpu().numpy(), found.scores.cpu().numpy(), found.labels.cpu().numpy()

    return detect
