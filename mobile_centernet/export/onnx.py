"""The trained network and its decoding as one fixed-shape ONNX graph that TensorRT 8.2 can parse."""

import copy
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto
from onnxscript import ir, optimizer
from onnxscript.ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from mobile_centernet.codec import decode
from mobile_centernet.errors import ModelError
from mobile_centernet.files import write_atomically
from mobile_centernet.inference.graph import INPUT, OUTPUTS, GraphMetadata
from mobile_centernet.models.centernet import COARSEST_STRIDE, CenterNet

# The newest operator set of TensorRT 8.2, the last one for the Jetson TX2 (JetPack 4.6).
OPSET = 13


def export_onnx(
    model: CenterNet, path: Path, *, classes: Sequence[str], input_size: tuple[int, int], k: int = 100
) -> None:
    """Write a model as float32 ONNX, whole or not at all; equal weights give equal bytes.

    The graph takes and gives what `inference.graph` describes: normalisation, network, one sigmoid, peaks and top
    `k` are all inside, batch norms are folded into convolutions, every shape is fixed.

    Args:
        model: the trained network, on any device; it stays as it is.
        path: the file to write.
        classes: names in label order.
        input_size: (height, width) in pixels, multiples of COARSEST_STRIDE.
        k: how many detections per image.

    Raises:
        ModelError: the class list, the size or `k` doesn't fit the model.
    """
    if len(classes) != model.num_classes:
        raise ModelError(f"{model.name}: expected {model.num_classes} class names to export, found {len(classes)}")
    height, width = input_size
    if height % COARSEST_STRIDE or width % COARSEST_STRIDE:
        raise ModelError(f"{model.name}: expected sides in multiples of {COARSEST_STRIDE}, found {width}x{height}")
    cells = height * width // model.stride**2
    if not 1 <= k <= cells:
        raise ModelError(f"{model.name}: expected k in 1..{cells} for {width}x{height}, found {k}")

    network = copy.deepcopy(model).float().cpu()
    if network.scaled_input:  # the first convolution's weights take the division, equal but for rounding
        stem = next(module for module in network.backbone.modules() if isinstance(module, nn.Conv2d))
        stem.weight = nn.Parameter(stem.weight.detach() / network.pixel_std)
        network.takes_pixels = True

    # With the TorchScript exporter: the newer one starts at opset 18, and onnx.version_converter cannot go back to 13.
    detector = DetectionGraph(network, k).eval()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # It warns that it is the older exporter and that it freezes shapes: both are what we want.
        warnings.simplefilter("ignore")
        traced = Path(folder, "traced.onnx")
        torch.onnx.export(
            detector,
            (torch.zeros(1, 3, height, width),),
            traced,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
        )
        graph = ir.from_proto(onnx.load(traced))

    # Fold everything that fixed shapes make constant, so that only arithmetic on the image is left. TensorRT 8.2 needs
    # this: there ConstantOfShape is float only and weights must be initialisers, not Identity.
    optimizer.fold_constants(graph, should_fold=lambda _node: True)
    optimizer.optimize(graph)
    ClearMetadataAndDocStringPass()(graph)  # opset 13 files have no metadata on nodes
    write_graph(path, ir.to_proto(graph), GraphMetadata(model.name, tuple(classes), input_size, "fp32"))


def read_graph(path: Path) -> tuple[ModelProto, GraphMetadata]:
    """An exported file. Raises ModelError when it is missing, truncated, not ONNX or another project's."""
    try:
        graph = onnx.load(path)
        onnx.checker.check_model(graph)
    except OSError as error:
        raise ModelError(f"{path}: expected an exported ONNX file, but it cannot be read ({error.strerror})") from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path}: expected a complete ONNX file, but it does not load ({reason})") from error
    return graph, GraphMetadata.from_props({prop.key: prop.value for prop in graph.metadata_props}, path)


def write_graph(path: Path, graph: ModelProto, metadata: GraphMetadata) -> None:
    """Check `graph`, shapes and types included, and write it with `metadata`, whole or not at all."""
    onnx.helper.set_model_props(graph, metadata.to_props())
    onnx.checker.check_model(graph, full_check=True)
    write_atomically(path, graph.SerializeToString(deterministic=True))


class DetectionGraph(nn.Module):
    """What the ONNX file computes: an image [1, 3, H, W], RGB 0..255, to boxes, scores and labels."""

    def __init__(self, model: CenterNet, k: int) -> None:
        super().__init__()
        self.model = model
        self.k = k

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = self.model(image)
        heatmap = output.heatmap_logits.sigmoid()
        found = decode(heatmap, output.size, output.offset, k=self.k, stride=self.model.stride)
        return found.boxes, found.scores, found.labels
