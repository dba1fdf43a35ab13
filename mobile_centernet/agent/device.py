"""What this device is, as far as an engine depends on it. Found without importing anything that needs a GPU."""

import ctypes
import ctypes.util
import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_JETSON = Path("/proc/device-tree/model")


@dataclass(frozen=True)
class Device:
    """`gpu` and `tensorrt` as they call themselves, such as "Orin" and "10.3.0"; None where there is none."""

    gpu: str | None
    tensorrt: str | None

    @classmethod
    def here(cls) -> "Device":
        return cls(_gpu(), _tensorrt())

    def builds_engines(self, provider: str) -> bool:
        """Whether a release needs an engine before it runs here; `provider` as in the settings."""
        return provider == "tensorrt" or (provider == "auto" and bool(self.gpu and self.tensorrt))

    def engine_key(self, precision: str, onnx_sha256: str) -> str:
        """Names an engine: another GPU, TensorRT, precision or graph needs another one."""
        parts = [self.gpu, self.tensorrt, precision, onnx_sha256]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _gpu() -> str | None:
    if _JETSON.is_file():
        return _JETSON.read_bytes().rstrip(b"\0").decode(errors="replace")
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return listed.stdout.strip().splitlines()[0] if listed.returncode == 0 and listed.stdout.strip() else None


def _tensorrt() -> str | None:
    """From libnvinfer itself, which tells 8.6.1 as 8601 and 10.3.0 as 100300."""
    name = ctypes.util.find_library("nvinfer")
    if name is None:
        return None
    try:
        number = int(ctypes.CDLL(name).getInferLibVersion())
    except (OSError, AttributeError):
        return None
    base = 10000 if number >= 10000 else 1000
    return f"{number // base}.{number % base // 100}.{number % 100}"
