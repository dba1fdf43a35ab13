"""`python -m mobile_centernet.agent.selftest`: can this device run a release? In a process of its own.

So an engine build that crashes the GPU's driver, eats the memory or never ends takes no agent with it, and the agent
itself never loads ONNX Runtime. Prints one JSON object; exit code 2 and one sentence on stderr where it cannot.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from mobile_centernet.agent.selftest_runner import REFUSED, SelfTestResult
from mobile_centernet.bundle.bundle import read_manifest, verify_folder
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.golden import self_test
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.errors import UserError
from mobile_centernet.images import read_image
from mobile_centernet.inference.detector import median_latencies
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.processes import end_with_parent


def check_release(
    folder: Path, manifest: Manifest, precision: str, provider: str, engine: Path | None, runs: int
) -> SelfTestResult:
    """Load the model (building its engine), compare the golden detections, time it.

    Args:
        folder: of a verified release.
        manifest: its manifest.
        precision: which variant.
        provider: what must run it, as `Detector`'s.
        engine: existing folder of TensorRT's engine, None for none.
        runs: images to time, preprocessing included.

    Raises:
        UserError: the model does not load, or finds something else.
        OSError: the disk did not let the files be read as they were verified, which says nothing about the release.
    """
    try:
        with Detector(folder / manifest.variants[precision].model, provider=provider, engine_cache=engine) as detector:
            agreement = self_test(folder, manifest, precision, detector.detect)
            image = read_image(folder / manifest.pictures[0])
            (latency,) = median_latencies([detector], [image] * runs)
            return SelfTestResult(detector.provider, latency, agreement.score, agreement.box)
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from error
        try:
            verify_folder(folder)
        except BundleError as damage:
            raise OSError(f"{damage}") from error
        raise


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--precision", required=True, help="Precision to test.")
@click.option("--provider", default="auto", show_default=True, help="Provider that must run the model.")
@click.option("--engine", type=click.Path(path_type=Path), help="Existing folder for TensorRT's engine.")
@click.option("--runs", type=click.IntRange(min=1), default=20, show_default=True, help="Timed images.")
def main(folder: Path, precision: str, provider: str, engine: Path | None, runs: int) -> None:
    """Test that the verified release in FOLDER runs here."""
    end_with_parent()  # a killed agent leaves no build behind
    try:
        result = check_release(folder, read_manifest(folder), precision, provider, engine, runs)
        click.echo(json.dumps(asdict(result)))
    except UserError as error:
        click.echo(str(error), err=True)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
