"""Our TensorRT code against NVIDIA's real Python bindings of every generation that we promise.

The bindings are on PyPI and install without a GPU; stubs of NVIDIA's libraries let them be imported. What is proven:
every class, method, property and flag that we touch exists there, with the signature that we use. What is not: what
TensorRT makes of our graphs; for that there must be a GPU.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VERSIONS = {"8.6": "8.6.1", "10": "10.3.0", "11": "11.4.0.106"}
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of libraries that export what the bindings link to."""
    folder = tmp_path_factory.mktemp("stubs")
    compiler = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    assert compiler, "the contract tests need a C compiler (apt install gcc)"
    source = HERE / "bindings" / "stub.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "stub.so", source], check=True)
    for version in VERSIONS:
        for library in LIBRARIES:
            shutil.copy(folder / "stub.so", folder / f"lib{library}.so.{version.partition('.')[0]}")
    return folder


def installed(version: str) -> Path:
    """The bindings, in a folder of their own: all versions have the same module name. Kept between runs.

    From PyPI like everything in requirements.lock, at the version that `bindings/` pins; some MB each.
    """
    requirements = HERE / "bindings" / f"{version}.txt"
    place = ROOT / ".work" / "tensorrt-bindings" / VERSIONS[version]
    if not place.is_dir():
        unfinished = place.with_name(f"{place.name}.{os.getpid()}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--target", unfinished, "-r", requirements], check=True)
        unfinished.rename(place)
    return place


@pytest.fixture(scope="module", params=list(VERSIONS))
def contract(
    request: pytest.FixtureRequest, stubs: Path, exported: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What `run_contract` found with one version."""
    bindings = installed(request.param)
    folder = tmp_path_factory.mktemp("contract")
    paths = os.pathsep.join((str(bindings), str(ROOT)))
    env = {**os.environ, "PYTHONPATH": paths, "LD_LIBRARY_PATH": str(stubs)}
    command = [sys.executable, "-m", "tests.export.run_contract", exported, folder]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert report["version"] == VERSIONS[request.param]
    return report


def is_8(contract: dict[str, Any]) -> bool:
    return str(contract["version"]).startswith("8.")


def test_every_precision_is_built_with_what_this_version_has(contract: dict[str, Any]) -> None:
    builds = contract["builds"]
    network = ["EXPLICIT_BATCH"] if is_8(contract) else ["STRONGLY_TYPED"]
    flags = {"fp32": [], "fp16": ["FP16"], "int8": ["INT8"]} if is_8(contract) else {name: [] for name in builds}
    for precision, build in builds.items():
        assert build["network"] == network
        assert build["set"] == flags[precision]
        assert build["cleared"] == (["TF32"] if precision == "fp32" else [])
        assert build["parsed"]
        assert build["calls"][-1] == "Builder.build_serialized_network"


def test_timings_are_kept_and_started_afresh_when_refused(contract: dict[str, Any]) -> None:
    assert contract["timings"] == {"offered": [[""], ["built"], ["built", ""]], "kept": "built"}


def test_tensorrts_own_words_reach_the_user(contract: dict[str, Any], exported: Path) -> None:
    cannot_parse, cannot_build = contract["refusals"]
    assert cannot_parse == f"ModelError: {exported}: TensorRT {contract['version']} cannot parse it: error 0"
    assert "built no engine; its log says why" in cannot_build


def test_an_engine_is_run_by_calls_that_exist(contract: dict[str, Any]) -> None:
    found = contract["detections"]
    assert found["shapes"] == [[1, 100, 4], [1, 100], [1, 100]]
    assert found["types"] == ["float32", "float32", "int64"]
    assert sorted(found["addresses"]) == ["boxes", "image", "labels", "scores"]
    assert found["calls"][-1] == "IExecutionContext.execute_async_v3"
    assert "expected tensors ['image', 'boxes', 'scores', 'labels'], found ['tensor_0'" in found["foreign"]
    assert "cannot read it" in found["unreadable"]


def test_the_check_sees_mistakes(contract: dict[str, Any]) -> None:
    """Each is right for some version or for none; where it is wrong the check must say so."""
    right_in_8 = {"FP16 flag", "explicit batch", "workspace size"}
    right = {"8.6.1": right_in_8, "10.3.0": {"FP16 flag", "explicit batch", "strongly typed"}}
    right["11.4.0.106"] = {"strongly typed"}
    seen = {name for name, sentence in contract["mistakes"].items() if sentence}
    assert seen == contract["mistakes"].keys() - right[contract["version"]]
