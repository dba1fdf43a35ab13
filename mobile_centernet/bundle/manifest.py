"""`manifest.json`: what a bundle says about itself. It pins every other file, and the signature pins it."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.tar import is_safe_name
from mobile_centernet.inference.graph import PRECISIONS

MANIFEST = "manifest.json"
SIGNATURES = "signatures/"
KIND = "mobile-centernet bundle"
FORMAT = 1
MAX_FILES = 256
DEFAULT_PROFILE = "default"

# The only preprocessing that the runtime does. It is in the manifest so that another one is refused, not ignored.
PREPROCESSING = {"colour": "RGB", "values": "0..255", "resize": "stretch; area when shrinking, else bilinear"}

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


@dataclass(frozen=True)
class PinnedFile:
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Tolerance:
    """How far a device's detections may lie from the golden ones: `score` absolute, `box` in pixels of the picture."""

    score: float
    box: float


@dataclass(frozen=True)
class Variant:
    """One precision: its ONNX file, what it found on the golden pictures, and how closely a device must agree."""

    model: str
    golden: str
    tolerance: Tolerance


@dataclass(frozen=True)
class Manifest:
    """A bundle's contents. All names of files are relative to the bundle.

    release:    grows by every release; a device takes no smaller one than it runs
    classes:    by label; input_size is (height, width)
    thresholds: the least score worth showing, by class
    latency_ms: the longest that one picture may take (median), by device profile; `default` is for all others
    variants:   by precision; pictures are the golden inputs
    lineage:    what leads back to code, params and data
    files:      every file of the bundle but the manifest and its signatures
    """

    name: str
    version: str
    release: int
    classes: tuple[str, ...]
    input_size: tuple[int, int]
    thresholds: Mapping[str, float]
    latency_ms: Mapping[str, float]
    variants: Mapping[str, Variant]
    pictures: tuple[str, ...]
    card: str
    lineage: Mapping[str, str]
    files: Mapping[str, PinnedFile]

    @property
    def sha256(self) -> str:
        """Of the one JSON text of this manifest: two bundles with it differ in their signatures only."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """The one JSON text of this manifest. Raises BundleError when a value breaks the format's rules."""
        for field in ("name", "version"):
            value = getattr(self, field)
            _require(_WORD.fullmatch(value), field, "1 to 100 letters, digits, '.', '_', '+' or '-'", value)
        _require(self.release >= 1, "release", "a number from 1", self.release)
        _require(min(self.input_size) >= 1, "input_size", "sides from 1", self.input_size)

        classes = self.classes
        is_list = len(set(classes)) == len(classes) > 0 and all(name and name.isprintable() for name in classes)
        _require(is_list, "classes", "different, printable names", classes)
        _require(set(self.thresholds) == set(classes), "thresholds", "one for each class", list(self.thresholds))
        for name, threshold in self.thresholds.items():
            _require(0 <= threshold <= 1, f"thresholds.{name}", "a score 0..1", threshold)

        _require(DEFAULT_PROFILE in self.latency_ms, "latency_ms", f"a {DEFAULT_PROFILE}", dict(self.latency_ms))
        for profile, limit in self.latency_ms.items():
            _require(_WORD.fullmatch(profile), "latency_ms", "profiles of letters and digits", profile)
            _require(math.isfinite(limit) and limit > 0, f"latency_ms.{profile}", "milliseconds above 0", limit)
        _require(self.variants, "variants", "at least one", "none")
        for precision, variant in self.variants.items():
            _require(precision in PRECISIONS, "variants", ", ".join(PRECISIONS), precision)
            for field, value in vars(variant.tolerance).items():
                _require(
                    math.isfinite(value) and value >= 0, f"{precision}: tolerance.{field}", "a number from 0", value
                )
        _require(self.pictures, "pictures", "at least one golden picture", "none")
        for key, text in self.lineage.items():
            _require(key.isprintable() and text.isprintable(), "lineage", "printable text", f"{key}={text}")

        variants = self.variants.values()
        named = [self.card, *self.pictures, *(v.model for v in variants), *(v.golden for v in variants)]
        for name in (*self.files, *named):
            _require(is_safe_name(name), "files", "plain relative names", name)
            _require(name != MANIFEST and not name.startswith(SIGNATURES), "files", "names that are not taken", name)
        folders = {name.split("/")[0] for name in named if "/" in name} | {SIGNATURES.rstrip("/")}
        _require(folders.isdisjoint(named), "files", "no file named like a folder", sorted(folders & set(named)))
        _require(len(set(named)) == len(named), "files", "each file in one role", named)
        _require(set(named) == set(self.files), "files", sorted(named), sorted(self.files))
        _require(len(named) <= MAX_FILES, "files", f"at most {MAX_FILES}", len(named))
        for name, file in self.files.items():
            _require(_SHA256.fullmatch(file.sha256), f"{name}: sha256", "64 hexadecimal digits", file.sha256)
            _require(file.bytes >= 0, f"{name}: bytes", "a number from 0", file.bytes)

        height, width = self.input_size
        document = {
            "kind": KIND,
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "release": self.release,
            "classes": list(self.classes),
            "preprocessing": {"input_size": {"height": height, "width": width}, **PREPROCESSING},
            "thresholds": {name: float(self.thresholds[name]) for name in self.classes},
            "latency_ms": {profile: float(self.latency_ms[profile]) for profile in sorted(self.latency_ms)},
            "variants": {
                precision: {
                    "model": variant.model,
                    "golden": variant.golden,
                    "tolerance": {"score": float(variant.tolerance.score), "box": float(variant.tolerance.box)},
                }
                for precision, variant in sorted(self.variants.items())
            },
            "pictures": list(self.pictures),
            "card": self.card,
            "lineage": dict(sorted(self.lineage.items())),
            "files": {name: vars(self.files[name]) for name in sorted(self.files)},
        }
        return f"{json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)}\n".encode()

    @classmethod
    def from_json(cls, content: bytes, where: str = MANIFEST) -> "Manifest":
        """The inverse of `to_json`. Raises BundleError, naming `where`, for any text that `to_json` never writes."""
        try:
            document = json.loads(content.decode())
            if not isinstance(document, dict) or document.get("kind") != KIND:
                raise BundleError(f"expected a {KIND}, found something else")
            if document.get("format") != FORMAT:
                raise BundleError(
                    f"expected format {FORMAT}, found {document.get('format')!r}: another version wrote it"
                )
            preprocessing = _take(document, "preprocessing", dict)
            known = {name: value for name, value in preprocessing.items() if name != "input_size"}
            if known != PREPROCESSING:
                raise BundleError(f"preprocessing: expected {PREPROCESSING}, the only one there is, found {known}")
            size = _take(preprocessing, "input_size", dict)
            variants = {}
            for precision, value in _each(document, "variants", dict).items():
                limits = _take(value, "tolerance", dict)
                tolerance = Tolerance(_take(limits, "score", float), _take(limits, "box", float))
                variants[precision] = Variant(_take(value, "model", str), _take(value, "golden", str), tolerance)
            manifest = cls(
                name=_take(document, "name", str),
                version=_take(document, "version", str),
                release=_take(document, "release", int),
                classes=_texts(document, "classes"),
                input_size=(_take(size, "height", int), _take(size, "width", int)),
                thresholds=_each(document, "thresholds", float),
                latency_ms=_each(document, "latency_ms", float),
                variants=variants,
                pictures=_texts(document, "pictures"),
                card=_take(document, "card", str),
                lineage=_each(document, "lineage", str),
                files={
                    name: PinnedFile(_take(value, "sha256", str), _take(value, "bytes", int))
                    for name, value in _each(document, "files", dict).items()
                },
            )
            written = manifest.to_json()
        except BundleError as error:
            raise BundleError(f"{where}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{where}: expected a manifest in JSON form, found none ({error})") from error
        if written != content:
            raise BundleError(f"{where}: expected the fields of format {FORMAT} in its form, found others or another")
        return manifest


def _take(document: dict[str, Any], name: str, kind: type[T]) -> T:
    return _typed(document.get(name), name, kind)


def _each(document: dict[str, Any], name: str, kind: type[T]) -> dict[str, T]:
    return {key: _typed(value, f"{name}.{key}", kind) for key, value in _take(document, name, dict).items()}


def _texts(document: dict[str, Any], name: str) -> tuple[str, ...]:
    return tuple(_typed(value, name, str) for value in _take(document, name, list))


def _typed(value: object, name: str, kind: type[T]) -> T:
    """Exactly this type: True is no number here."""
    if type(value) is not kind:
        raise BundleError(f"{name}: expected {kind.__name__}, found {type(value).__name__}")
    return value


def _require(holds: object, field: str, expected: object, found: object) -> None:
    if not holds:
        raise BundleError(f"{field}: expected {expected}, found {found!r}")
