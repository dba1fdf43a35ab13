"""The agent's side of the self-test: starts it, waits for it, and judges what it says."""

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mobile_centernet.agent.config import Config
from mobile_centernet.agent.errors import SelfTestError, SelfTestInterruptedError, SlowSelfTestError
from mobile_centernet.agent.http import Hear
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.outside import MAX_TEXT, parse_object

COMMAND = (sys.executable, "-m", "mobile_centernet.agent.selftest")
_TICK = 0.2
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


def run_self_test(config: Config, hear: Hear, folder: Path, manifest: Manifest, engine: Path | None) -> SelfTestResult:
    """Run the self-test as the settings want it, in a process of its own: a `SelfTest` but for the first two.

    Args:
        config: the settings.
        hear: asked while it runs; what it raises ends the process.
        folder: of the verified release.
        manifest: its manifest.
        engine: folder of its engine, None where it needs none.

    Raises:
        SelfTestError: the release does not run here; a SlowSelfTestError where the test does not end in time.
        SelfTestInterruptedError: the test was not started, or was cut off.
    """
    device, settings = config.device, config.proof
    command = [*(settings.command or COMMAND), str(folder)]
    command += ["--precision", device.precision, "--provider", device.provider, "--runs", str(settings.runs)]
    if engine is not None:
        command += ["--engine", str(engine)]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as sentences:
        try:
            process = subprocess.Popen(command, stdout=output, stderr=sentences, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise SelfTestInterruptedError(f"self-test: {command[0]} cannot be started ({error.strerror})") from error
        late = time.monotonic() + settings.timeout_s
        try:
            while process.poll() is None:
                hear()
                if time.monotonic() > late:
                    raise SlowSelfTestError(f"self-test timed out after {settings.timeout_s:g} s")
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_TICK)
        finally:
            process.kill()
            process.wait()
        texts = []
        for file in (output, sentences):
            file.seek(0)
            texts.append(file.read(MAX_TEXT).decode(errors="replace"))
    said, complaint = texts
    last = (complaint.strip().splitlines() or ["it says nothing"])[-1][:300]
    if process.returncode == REFUSED:
        raise SelfTestError(f"self-test: {last}")
    if process.returncode != 0:
        raise SelfTestInterruptedError(f"self-test ended unexpectedly (exit status {process.returncode}): {last}")

    try:
        found = parse_object(said)
        numbers = [float(found[name]) for name in ("latency_ms", "score", "box")]
        if not all(map(math.isfinite, numbers)):
            raise ValueError("expected finite numbers")
        return SelfTestResult(str(found["provider"]), *numbers)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SelfTestError(f"self-test: expected its result as JSON, found {said[:100]!r}") from error
