"""Whether a TensorRT engine may be used here. Imports no torch.

An engine runs only on the kind of GPU and the TensorRT version that built it. So beside each lies a JSON file of what
it was built from and on, and its own digest.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

from mobile_centernet.files import file_digest
from mobile_centernet.inference.onnx import Detector


@dataclass(frozen=True)
class Origin:
    """What an engine was built from and on, its sidecar file; all must be equal to use it."""

    tensorrt: str
    gpu: str
    precision: str
    onnx: str
    onnx_sha256: str

    @classmethod
    def of(cls, trt: ModuleType, gpu: str, onnx_path: Path) -> "Origin":
        """What an engine from this file would be here. Raises ModelError when the file is not ours."""
        precision = Detector(onnx_path, provider="cpu").metadata.precision
        return cls(trt.__version__, gpu, precision, onnx_path.name, file_digest(onnx_path))


ABSENT = "there was none"


def why_not(engine: Path, origin: Origin) -> str | None:
    """Why an engine may not be used where `origin` is what it should be; None when it may."""
    if not engine.is_file():
        return ABSENT
    try:
        found = json.loads(sidecar(engine).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{engine.name} was refused: expected {sidecar(engine).name} beside it, found none that can be read"
    for name, expected in asdict(origin).items():
        if not isinstance(found, dict) or found.get(name) != expected:
            value = found.get(name) if isinstance(found, dict) else None
            return f"{engine.name} was refused: expected {name} {expected}, found {value}"
    if found.get("engine_sha256") != file_digest(engine):
        return f"{engine.name} was refused: its content is not what {sidecar(engine).name} describes"
    return None


def sidecar(engine: Path) -> Path:
    """Where the origin of an engine is written down."""
    return engine.with_name(f"{engine.name}.json")
