"""The agent's side of the self-test: starts it, waits for it, and judges what it says."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobile_centernet.agent.config import Config
from mobile_centernet.bundle.errors import ProofError, ProofInterruptedError
from mobile_centernet.bundle.manifest import Manifest

SELF_TEST = (sys.executable, "-m", "mobile_centernet.agent.selftest")
REFUSED = 2  # the exit code of a self-test that came to its end and says no


@dataclass(frozen=True)
class Proof:
    """What the self-test measured: latency_ms is the median a picture, score and box the largest differences."""

    provider: str
    latency_ms: float
    score: float
    box: float


Prove = Callable[[Path, Manifest, "Path | None"], Proof]
"""Takes a verified release's folder, its manifest, and the folder of its engine, None where it needs none."""


def prover(config: Config) -> Prove:
    """The self-test as the settings want it, in a process of its own."""

    def prove(folder: Path, manifest: Manifest, engine: Path | None) -> Proof:
        device = config.device
        arguments = ["--precision", device.precision, "--provider", device.provider, "--runs", str(config.proof.runs)]
        if engine is not None:
            arguments += ["--engine", str(engine)]
        command = [*(config.proof.command or SELF_TEST), str(folder), *arguments]
        return read_proof(_run(command, config.proof.timeout_s))

    return prove


def check_latency(proof: Proof, manifest: Manifest, profile: str) -> None:
    """Raises ProofError where the device is slower than the release allows."""
    budget = manifest.latency_budget(profile)
    if not proof.latency_ms <= budget:
        raise ProofError(
            f"latency: expected at most {budget:g} ms a picture on profile {profile}, "
            f"found {proof.latency_ms:.1f} ms ({proof.provider})"
        )


def read_proof(said: str) -> Proof:
    """Raises ProofError where a self-test's output is none."""
    try:
        found = json.loads(said)
        return Proof(str(found["provider"]), float(found["latency_ms"]), float(found["score"]), float(found["box"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ProofError(f"self-test: expected its result as JSON, found {said[:100]!r}") from error


def _run(command: Sequence[str], timeout_s: float) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise ProofInterruptedError(f"self-test: {command[0]} cannot be started ({error.strerror})") from error
    except subprocess.TimeoutExpired as error:
        raise ProofError(f"self-test: expected an end within {timeout_s:g} s, found none") from error
    last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1][:300]
    if done.returncode == REFUSED:
        raise ProofError(f"self-test: {last}")
    if done.returncode != 0:
        raise ProofInterruptedError(f"self-test: expected an end, found exit status {done.returncode}: {last}")
    return done.stdout
