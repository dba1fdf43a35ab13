"""The agent's side of the self-test: starts it, waits for it, and judges what it says."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mobile_centernet.agent.config import Config
from mobile_centernet.agent.errors import SelfTestError, SelfTestInterruptedError
from mobile_centernet.bundle.manifest import Manifest

COMMAND = (sys.executable, "-m", "mobile_centernet.agent.selftest")
REFUSED = 2  # the exit code of a self-test that came to its end and says no


@dataclass(frozen=True)
class SelfTestResult:
    """What the self-test measured.

    latency_ms is the median per image; score (absolute) and box (pixels) are the largest differences from the golden
    detections.
    """

    provider: str
    latency_ms: float
    score: float
    box: float


SelfTest = Callable[[Path, Manifest, "Path | None"], SelfTestResult]
"""Takes a verified release's folder, its manifest, and the folder of its engine, None where it needs none."""


def run_self_test(config: Config, folder: Path, manifest: Manifest, engine: Path | None) -> SelfTestResult:
    """Run the self-test as the settings want it, in a process of its own: a `SelfTest` but for `config`.

    Raises:
        SelfTestError: the release does not run here, or the test never ends.
        SelfTestInterruptedError: the test was not started, or was cut off.
    """
    device, settings = config.device, config.proof
    command = [*(settings.command or COMMAND), str(folder)]
    command += ["--precision", device.precision, "--provider", device.provider, "--runs", str(settings.runs)]
    if engine is not None:
        command += ["--engine", str(engine)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=settings.timeout_s, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise SelfTestInterruptedError(f"self-test: {command[0]} cannot be started ({error.strerror})") from error
    except subprocess.TimeoutExpired as error:
        raise SelfTestError(f"self-test: expected an end within {settings.timeout_s:g} s, found none") from error
    last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1][:300]
    if done.returncode == REFUSED:
        raise SelfTestError(f"self-test: {last}")
    if done.returncode != 0:
        raise SelfTestInterruptedError(f"self-test: expected an end, found exit status {done.returncode}: {last}")

    try:
        found = json.loads(done.stdout)
        return SelfTestResult(
            str(found["provider"]), float(found["latency_ms"]), float(found["score"]), float(found["box"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SelfTestError(f"self-test: expected its result as JSON, found {done.stdout[:100]!r}") from error
