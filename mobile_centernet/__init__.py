"""Mobile CenterNet: a small, distilled traffic detector for embedded devices.

    from mobile_centernet import Detector

    detections = Detector("model.fp32.onnx")("street.jpg").above(0.3)

Every name is imported when it is first used, so that a device without torch can use those that need none: Detector,
LiveDetector and Detections.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobile_centernet.agent.live import LiveDetector
    from mobile_centernet.detections import Detections
    from mobile_centernet.evaluation.coco_eval import evaluate_map50
    from mobile_centernet.export.onnx import export_onnx
    from mobile_centernet.inference.onnx import Detector
    from mobile_centernet.models.checkpoint import load_model

__all__ = ["Detections", "Detector", "LiveDetector", "__version__", "evaluate_map50", "export_onnx", "load_model"]
__version__ = "0.1.0"

_HOMES = {
    "Detections": "detections",
    "Detector": "inference.onnx",
    "LiveDetector": "agent.live",
    "evaluate_map50": "evaluation.coco_eval",
    "export_onnx": "export.onnx",
    "load_model": "models.checkpoint",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
