"""The manifest: one text for one content, and nothing else is read."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.manifest import Manifest, PinnedFile, Tolerance, Variant

DIGEST = "ab" * 32


def example(**changes: Any) -> Manifest:
    names = ("card.md", "golden/0.png", "golden/fp32.json", "model.onnx")
    manifest = Manifest(
        name="street",
        version="1.2+x",
        classes=("véhicule", "bicycle"),
        input_size=(320, 576),
        thresholds={"véhicule": 0.3, "bicycle": 0.2},
        latency_ms={"default": 50.0, "orin": 12.5},
        variants={"fp32": Variant("model.onnx", "golden/fp32.json", Tolerance(0.01, 1.0))},
        pictures=("golden/0.png",),
        card="card.md",
        lineage={"git_commit": "abc"},
        files={name: PinnedFile(DIGEST, 7) for name in names},
    )
    return replace(manifest, **changes)


def test_round_trip() -> None:
    assert Manifest.from_json(example().to_json()) == example()


@given(
    latency=st.floats(min_value=1e-3, max_value=1e9),
    thresholds=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    lineage=st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3),
)
def test_every_content_has_one_text(latency: float, thresholds: tuple[float, float], lineage: dict[str, str]) -> None:
    manifest = example(
        latency_ms={"default": latency},
        thresholds=dict(zip(("véhicule", "bicycle"), thresholds, strict=True)),
        lineage=lineage,
    )
    if not all(text.isprintable() for pair in lineage.items() for text in pair):
        with pytest.raises(BundleError, match="lineage"):
            manifest.to_json()
        return
    assert Manifest.from_json(manifest.to_json()) == manifest


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(example().to_json())
    change(document)
    return f"{json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True)}\n".encode()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(kind="cargo"), "kind: expected mobile-centernet bundle, .* found 'cargo'"),
        (lambda d: d.update(format=1), "format: expected 2, the only one there is, found 1"),
        (lambda d: d.update(extra=1), "expected a manifest in JSON form: expected name, .*, files, found extra"),
        (lambda d: d.pop("lineage"), ".*lineage: expected a value, found nothing"),
        (lambda d: d.update(version=7), ".*version: expected str, found int 7"),
        (lambda d: d.update(input_size=[320, True]), ".*input_size: expected int, found bool True"),
        (lambda d: d.update(input_size=[320, 576, 3]), "input_size: expected sides from 1"),
        (lambda d: d.update(name="../x"), "name: expected 1 to 100 letters"),
        (lambda d: d.update(version=""), "version: expected 1 to 100 letters"),
        (lambda d: d.update(classes=["a", "a"]), "classes: expected different"),
        (lambda d: d.update(classes=[]), "classes: expected different"),
        (lambda d: d.update(classes=["a\n", "b"]), "classes: expected different, printable"),
        (lambda d: d["thresholds"].pop("bicycle"), "thresholds: expected one for each class"),
        (lambda d: d["thresholds"].update(bicycle=1.5), "thresholds.bicycle: expected a score 0..1"),
        (lambda d: d["latency_ms"].pop("default"), "latency_ms: expected a default"),
        (lambda d: d["latency_ms"].update(default=0.0), "latency_ms.default: expected milliseconds above 0"),
        (lambda d: d["latency_ms"].update(default=float("nan")), "latency_ms.default: expected milliseconds"),
        (lambda d: d["latency_ms"].update(default=5), "expected the fields of format 2 in its form"),
        (lambda d: d["preprocessing"].update(colour="BGR"), "preprocessing: expected .*the only one there is"),
        (lambda d: d.update(input_size=[320, 0]), "input_size: expected sides from 1"),
        (lambda d: d.update(variants={}), "variants: expected at least one"),
        (lambda d: d["variants"].update(fp8=d["variants"]["fp32"]), "variants: expected fp32, fp16, int8, found 'fp8'"),
        (lambda d: d["variants"]["fp32"]["tolerance"].update(box=-1.0), "fp32: tolerance.box: expected a number"),
        (lambda d: d.update(pictures=[]), "pictures: expected at least one"),
        (lambda d: d.update(pictures=["golden/0.png"] * 2), "files: expected each file in one role"),
        (lambda d: d.update(card="other.md"), "files: expected "),
        (lambda d: d.update(card="../../x"), "files: expected plain relative names, found '../../x'"),
        (lambda d: d.update(card="/etc/passwd"), "files: expected plain relative names"),
        (lambda d: d.update(card="manifest.json"), "files: expected names that are not taken"),
        (lambda d: d.update(card="golden"), "files: expected no file named like a folder"),
        (lambda d: d["files"].update({"../../x": {"sha256": DIGEST, "bytes": 1}}), "files: expected plain relative"),
        (lambda d: d["files"].update({"more": {"sha256": DIGEST, "bytes": 1}}), "files: expected "),
        (lambda d: d["files"]["card.md"].update(sha256="AB" * 32), "card.md: sha256: expected 64 hexadecimal"),
        (lambda d: d["files"]["card.md"].update(bytes=-1), "card.md: bytes: expected a number from 0"),
        (lambda d: d["files"]["card.md"].update(mode=1), ".*files.card.md: expected sha256, bytes, found mode"),
    ],
)
def test_broken_manifests_are_refused(change: Callable[[dict[str, Any]], object], sentence: str) -> None:
    with pytest.raises(BundleError, match=f"^manifest.json: {sentence}"):
        Manifest.from_json(edited(change))


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{", b"\xff\xfe", b'"' + b"x" * 99, b"[" * 99_999, b"NaN", b"1" * 5000],
)
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"^manifest.json: (expected a manifest in JSON|kind: expected)"):
        Manifest.from_json(content)


def test_the_same_content_in_another_form_is_refused() -> None:
    text = example().to_json().decode()
    for other in (
        text.rstrip(),
        f"{text}\n",
        json.dumps(json.loads(text)),
        text.replace('"version": "1.2+x"', '"version": "1",\n  "version": "1.2+x"'),
        text.replace("0.3", "0.30"),
        text.replace("é", "\\u00e9"),
    ):
        with pytest.raises(BundleError, match="expected the fields of format 2 in its form"):
            Manifest.from_json(other.encode())
