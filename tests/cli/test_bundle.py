"""`mobile-centernet bundle` as a user types it: output, exit codes, one sentence for what goes wrong."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from mobile_centernet.bundle.bundle import verify_bundle
from mobile_centernet.cli.main import main
from tests.helpers.tiny import tiny_detector


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for precision in ("fp32", "int8"):
        tiny_detector(folder / f"{precision}.onnx", precision)
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    cv2.imwrite(str(folder / "street.png"), picture)
    return folder


@pytest.fixture
def bundle(inputs: Path, tmp_path: Path) -> Path:
    result = build(inputs, tmp_path / "r3.tar", "--model", inputs / "int8.onnx")
    assert result.exit_code == 0, result.stderr
    return tmp_path / "r3.tar"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bundle", *map(str, arguments)], prog_name="mobile-centernet")


def build(inputs: Path, out: Path, *more: object) -> Result:
    fixed = ("--model", inputs / "fp32.onnx", "--picture", inputs / "street.png", "--version", "1.0")
    return run("build", out, *fixed, "--latency", 50, *more)


def refused(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_from_models_to_a_verified_bundle(bundle: Path) -> None:
    digest = json.loads(run("inspect", bundle, "--json").stdout) and verify_bundle(bundle).sha256
    alone = run("verify", bundle)
    assert alone.exit_code == 0 and f"whole, if this is what was signed: manifest {digest}" in alone.stdout
    verified = run("verify", bundle, "--manifest", digest)
    assert verified.exit_code == 0 and "verified: mobile-centernet 1.0, 6 files, as named" in verified.stdout
    assert f"expected the manifest {'0' * 64}, found {digest}" in refused(run("verify", bundle, "--manifest", "0" * 64))


def test_inspect_shows_what_is_in_it_and_promises_nothing(bundle: Path) -> None:
    shown = run("inspect", bundle)
    assert shown.exit_code == 0
    for said in ("was not asked", "vehicle from 0.3", "96x64", "default 50 ms", "model.int8.onnx"):
        assert said in shown.stdout
    assert json.loads(run("inspect", bundle, "--json").stdout)["name"] == "mobile-centernet"


def test_settings_reach_the_manifest(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("# Mine")
    options = ["--threshold", "0.4", "--threshold", "piéton=0.1", "--latency", "orin=20", "--name", "street"]
    result = build(inputs, tmp_path / "x.tar", *options, "--lineage", "git_commit=a=b", "--card", tmp_path / "card.md")
    assert result.exit_code == 0
    document = json.loads(run("inspect", tmp_path / "x.tar", "--json").stdout)
    assert document["thresholds"] == {"vehicle": 0.4, "piéton": 0.1}
    assert document["latency_ms"] == {"default": 50.0, "orin": 20.0}
    assert (document["lineage"], document["name"]) == ({"git_commit": "a=b"}, "street")
    assert document["files"]["MODEL_CARD.md"]["bytes"] == 6


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--threshold", "high"], "--threshold: expected a number or NAME=NUMBER, found 'high'"),
        (["--threshold", "tram=0.1"], "expected classes vehicle, piéton, found tram"),
        (["--latency", "orin=fast"], "--latency: expected a number or NAME=NUMBER, found 'orin=fast'"),
        (["--lineage", "abc"], "--lineage: expected NAME=VALUE, found 'abc'"),
        (["--card", "missing.md"], "missing.md: expected a model card"),
        (["--picture", "missing.png"], "missing.png: expected an image"),
        (["--model", "missing.onnx"], "missing.onnx: expected an ONNX file"),
        (["--name", "a street"], "name: expected 1 to 100 letters"),
    ],
)
def test_mistakes_are_one_sentence(inputs: Path, tmp_path: Path, options: list[str], sentence: str) -> None:
    assert sentence in refused(build(inputs, tmp_path / "x.tar", *options))
    assert not list(tmp_path.iterdir())


def test_damage_is_one_sentence(bundle: Path, tmp_path: Path) -> None:
    bundle.write_bytes(bundle.read_bytes()[:-1])
    assert "cut off" in refused(run("verify", bundle))
    assert "cut off" in refused(run("inspect", bundle))
    assert "cannot be read" in refused(run("verify", tmp_path / "missing"))
