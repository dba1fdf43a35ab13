"""The device part alone: what it asks for, how large it is, and that it works in an environment of its own."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest

from mobile_centernet.bundle.build import build_bundle
from mobile_centernet.bundle.bundle import verify_bundle
from mobile_centernet.inference.onnx import Detector
from tests.helpers.arrays import arrays
from tests.helpers.lab import Lab
from tests.helpers.offers import Bundle
from tests.helpers.tiny import tiny_detector

ROOT = Path(__file__).parents[2]
LIMIT_MB = {"3.11": 200, "3.10": 230}  # the last ONNX Runtime for 3.10 asks for sympy, 54 MB that it never imports
HEAVY = {
    "torch",
    "lightning",
    "pydantic",
    "mlflow",
    "dvc",
    "zenml",
    "onnx",
    "pandas",
    "matplotlib",
    "opencv-python-headless",
}


def project() -> dict[str, list[str]]:
    """By extra; '' is what everyone gets."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": table["dependencies"], **table["optional-dependencies"]}


def test_what_a_device_installs_is_named_apart_from_what_trains() -> None:
    wanted = project()
    assert HEAVY.isdisjoint(wanted[""]) and HEAVY.isdisjoint(wanted["edge"])
    assert {"torch", "mlflow", "dvc", "lightning"} <= set(wanted["train"])


USE = """
import json, sys
from pathlib import Path
from mobile_centernet import images
from mobile_centernet.bundle.golden import self_test
from mobile_centernet.bundle.bundle import extract
from mobile_centernet.inference.onnx import Detector

bundle, release = map(Path, sys.argv[1:])
manifest = extract(bundle, release, release.name)
answer = {"backend": images.BACKEND, "found": {}}
with Detector(release / manifest.variants["fp32"].model, threads=1) as detector:
    agreement = self_test(release, manifest, "fp32", detector.detect)
    frames = [images.read_image(release / name) for name in manifest.pictures]
    for result in detector.detect_stream(frames, drop_late=False):
        answer["found"][manifest.pictures[result.index]] = [
            array.tolist()
            for array in (result.detections.boxes, result.detections.scores, result.detections.labels)
        ]
answer["agreement"] = [agreement.score, agreement.box]
answer["modules"] = sorted(name for name in sys.modules if "." not in name)
print(json.dumps(answer))
"""


def interpreter(version: str) -> str:
    """Of that version; skips where there is none."""
    found = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}")]
    for path in filter(None, found):
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return str(path)
    pytest.skip(f"needs Python {version}, which is not here")


@pytest.fixture(scope="module", params=["3.11", "3.10"])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with `mobile-centernet[edge]`, built from a copy of the project.

    3.11 with the locked versions, 3.10 (JetPack 6) with the newest that there are for it.
    """
    base = sys.executable if request.param == "3.11" else interpreter(request.param)
    folder = tmp_path_factory.mktemp("device")
    parts = ["pyproject.toml", "README.md", "LICENSE", "mobile_centernet"]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *parts]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in listed:
        copy = folder / "source" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    subprocess.run([base, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    lock = ["-c", ROOT / "requirements.lock"] if request.param == "3.11" else []
    subprocess.run([*pip, *lock, f"{folder / 'source'}[edge]"], check=True)
    return python


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, made here, where OpenCV is."""
    folder = tmp_path_factory.mktemp("release")
    rng = np.random.default_rng(0)
    pictures = [folder / f"{number}.png" for number in range(3)]
    for path, size in zip(pictures, [(180, 320), (40, 300), (64, 96)], strict=True):
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8), size[::-1]))
    settings = {"name": "street", "version": "1", "pictures": pictures}
    build_bundle(
        folder / "street-1.tar",
        [tiny_detector(folder / "model.onnx")],
        thresholds={"default": 0.3},
        latency_ms={"default": 100.0},
        **settings,
    )
    return folder


@pytest.mark.slow
def test_it_installs_small_and_without_what_trains(python: Path) -> None:
    listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True)
    installed = {row["name"].lower() for row in json.loads(listed.stdout)} - {"pip", "setuptools"}
    assert HEAVY.isdisjoint(installed)
    packages = next((python.parents[1] / "lib").glob("python*/site-packages"))
    sizes = {}
    for entry in packages.iterdir():
        if not entry.name.startswith(("pip", "setuptools", "pkg_resources", "_distutils_hack")):
            inside = entry.rglob("*") if entry.is_dir() else [entry]
            sizes[entry.name] = sum(path.stat().st_size for path in inside if path.is_file()) / 1e6
    largest = ", ".join(f"{name} {size:.0f}" for name, size in sorted(sizes.items(), key=lambda row: -row[1])[:6])
    print(f"\n{len(installed)} distributions, {sum(sizes.values()):.0f} MB: {largest}")
    assert sum(sizes.values()) < LIMIT_MB[packages.parent.name.removeprefix("python")]


@pytest.mark.slow
def test_it_detects_what_is_detected_here(python: Path, release: Path, tmp_path: Path) -> None:
    """Another environment, no OpenCV: the same boxes and scores, bit for bit."""
    bundle = release / "street-1.tar"
    unpacked = tmp_path / verify_bundle(bundle).sha256
    command = [python, "-I", "-c", USE, bundle, unpacked]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["backend"] == "numpy" and HEAVY.isdisjoint(answer["modules"])
    assert max(answer["agreement"]) == 0
    detector = Detector(release / "model.onnx", threads=1)
    for name, found in answer["found"].items():
        picture = cv2.imread(str(unpacked / name))[..., ::-1]
        expected = arrays(detector.detect(np.ascontiguousarray(picture)))
        assert found == [array.tolist() for array in expected]


@pytest.mark.slow
def test_its_agent_installs_a_release(python: Path, releases: dict[int, Bundle], lab: Lab) -> None:
    """The installed command, its self-test in a process of its own, no OpenCV, nothing of this checkout."""
    edge = [python.with_name("mobile-centernet-edge"), "--config", lab.settings]
    for number in (12, 13):
        lab.offer(releases[number])
        with lab.application():
            done = subprocess.run(
                [*edge, "once"],
                capture_output=True,
                text=True,
                check=False,
                cwd=lab.folder,
                env={"HOME": str(lab.folder)},
            )
        assert done.returncode == 0, done.stderr
        assert lab.running() == releases[number].digest
    shown = subprocess.run([*edge, "status"], capture_output=True, text=True, check=True, cwd=lab.folder)
    assert "release   version 13 (statement 2" in shown.stdout and "problem   none" in shown.stdout


@pytest.mark.slow
def test_its_command_verifies_bundles(python: Path, release: Path) -> None:
    bundle = release / "street-1.tar"
    command = [python.with_name("mobile-centernet"), "bundle", "verify", bundle, "--manifest"]
    shown = subprocess.run([command[0], "--help"], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "") and "bundle" in shown.stdout
    good = subprocess.run([*command, verify_bundle(bundle).sha256], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr) == (0, "") and "verified: street 1, 6 files" in good.stdout
    bad = subprocess.run([*command, "0" * 64], capture_output=True, text=True, check=False)
    assert bad.returncode == 2 and bad.stderr.startswith("error: ")


@pytest.mark.slow
def test_the_device_part_is_python_3_10() -> None:
    """There is no 3.10 here to run it on: mypy knows what its standard library and its syntax have."""
    parts = [
        "-p",
        "mobile_centernet.agent",
        "-p",
        "mobile_centernet.bundle",
        "-p",
        "mobile_centernet.images",
        "-p",
        "mobile_centernet.inference",
        "-m",
        "mobile_centernet.cli.bundle",
        "-m",
        "mobile_centernet.cli.predict",
        "-m",
        "mobile_centernet.cli.bench",
        "-m",
        "mobile_centernet.cli.info",
    ]
    command = [sys.executable, "-m", "mypy", "--python-version", "3.10", "--config-file", "pyproject.toml", *parts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
