"""`python -m mobile_centernet.agent.selftest`: can this device run a release? In a process of its own.

So an engine build that crashes the GPU's driver, eats the memory or never ends takes no agent with it, and the agent
itself never loads ONNX Runtime. Prints one JSON object; exit code 2 and one sentence on stderr where it cannot.
"""

import ctypes
import json
import signal
import sys
from pathlib import Path

import click

from mobile_centernet.bundle.golden import self_test
from mobile_centernet.bundle.manifest import MANIFEST, Manifest
from mobile_centernet.errors import UserError
from mobile_centernet.images import read_image
from mobile_centernet.inference.detector import median_latencies
from mobile_centernet.inference.onnx import Detector

_PR_SET_PDEATHSIG = 1


def prove_here(
    folder: Path, manifest: Manifest, precision: str, provider: str, engine: Path | None, runs: int
) -> dict[str, float | str]:
    """Load the model (building its engine into the folder `engine`), compare the golden detections, time it.

    `folder` was verified. Returns provider, latency_ms (median of `runs` pictures, preprocessing included), and the
    largest differences score and box. Raises UserError.
    """
    with Detector(folder / manifest.variants[precision].model, provider=provider, engine_cache=engine) as detector:
        agreement = self_test(folder, manifest, precision, detector.detect)
        image = read_image(folder / manifest.pictures[0])
        (latency,) = median_latencies([detector], [image] * runs)
        return {
            "provider": detector.provider,
            "latency_ms": latency,
            "score": agreement.score,
            "box": agreement.box,
        }


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--precision", required=True, help="Which variant.")
@click.option("--provider", default="auto", show_default=True, help="What must run it.")
@click.option("--engine", type=click.Path(path_type=Path), help="Existing folder for TensorRT's engine.")
@click.option("--runs", type=click.IntRange(min=1), default=20, show_default=True, help="Timed pictures.")
def main(folder: Path, precision: str, provider: str, engine: Path | None, runs: int) -> None:
    """Prove that the verified release in FOLDER runs here."""
    _end_with_parent()
    try:
        manifest = Manifest.from_bytes((folder / MANIFEST).read_bytes())
        click.echo(json.dumps(prove_here(folder, manifest, precision, provider, engine, runs)))
    except UserError as error:
        click.echo(str(error), err=True)
        sys.exit(2)


def _end_with_parent() -> None:
    """A killed agent leaves no build behind (Linux; elsewhere the build ends by itself)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
