"""What this device is, as far as an engine depends on it. Found without importing anything that needs a GPU."""

import ctypes
import ctypes.util
import hashlib
import json
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mobile_centernet.bundle.manifest import Manifest

_JETSON = Path("/proc/device-tree/model")


@dataclass(frozen=True)
class Device:
    """`gpu` and `tensorrt` as they call themselves, such as "Orin" and "10.3.0"; None where there is none."""

    gpu: str | None
    tensorrt: str | None

    @classmethod
    def here(cls) -> "Device":
        """The device that this process runs on."""
        gpu = tensorrt = None
        if _JETSON.is_file():
            gpu = _JETSON.read_bytes().rstrip(b"\0").decode(errors="replace")
        elif shutil.which("nvidia-smi"):
            command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
            with suppress(OSError, subprocess.TimeoutExpired):
                listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
                if listed.returncode == 0 and listed.stdout.strip():
                    gpu = listed.stdout.strip().splitlines()[0]

        if name := ctypes.util.find_library("nvinfer"):
            with suppress(OSError, AttributeError):
                number = int(ctypes.CDLL(name).getInferLibVersion())  # 8601 is 8.6.1, 100300 is 10.3.0
                base = 10000 if number >= 10000 else 1000
                tensorrt = f"{number // base}.{number % base // 100}.{number % 100}"
        return cls(gpu, tensorrt)

    def engine_key(self, precision: str, manifest: Manifest) -> str:
        """Name the engine of a release: another GPU, TensorRT, precision or graph needs another one.

        Raises:
            KeyError: the release has no variant of that precision.
        """
        model = manifest.variants[precision].model
        parts = [self.gpu, self.tensorrt, precision, manifest.files[model].sha256]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
