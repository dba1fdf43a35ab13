"""`manifest.json`: what a bundle says about itself. It pins every other file, and its own SHA-256 is the release."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.tar import is_safe_name
from mobile_centernet.inference.graph import PRECISIONS
from mobile_centernet.outside import parse_object, typed

MANIFEST = "manifest.json"
KIND = "mobile-centernet bundle"
FORMAT = 2
MAX_FILES = 256
DEFAULT_PROFILE = "default"

# The only preprocessing that the runtime does. It is in the manifest so that another one is refused, not ignored.
PREPROCESSING = {"colour": "RGB", "values": "0..255", "resize": "stretch; area when shrinking, else bilinear"}

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_WORD_RULE = "1 to 100 letters, digits, '.', '_', '+' or '-'"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PinnedFile:
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Tolerance:
    """How far a device's detections may lie from the golden ones: `score` absolute, `box` in pixels of the image."""

    score: float
    box: float


@dataclass(frozen=True)
class Variant:
    """One precision: its ONNX file, what it found on the golden images, and how closely a device must agree."""

    model: str
    golden: str
    tolerance: Tolerance


@dataclass(frozen=True)
class Manifest:
    """A bundle's contents. All names of files are relative to the bundle.

    classes:    by label; input_size is (height, width)
    thresholds: the least score worth showing, by class
    latency_ms: the longest that one image may take (median), by device profile; `default` is for all others
    variants:   by precision; `pictures` are the golden inputs
    lineage:    what leads back to code, params and data
    files:      every file of the bundle but the manifest
    """

    name: str
    version: str
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
        """Of the one JSON text of this manifest: the identity of a release."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """The one JSON text of this manifest. Raises BundleError when a value breaks the format's rules."""
        classes, variants = self.classes, self.variants.values()
        named = [self.card, *self.pictures, *(v.model for v in variants), *(v.golden for v in variants)]
        folders = {name.partition("/")[0] for name in named if "/" in name}
        limits = {f"{each}: tolerance": variant.tolerance for each, variant in self.variants.items()}
        are_names = len(set(classes)) == len(classes) > 0 and all(name and name.isprintable() for name in classes)
        size, words = self.input_size, {"name": self.name, "version": self.version}
        for holds, field, expected, found in (
            *((_WORD.fullmatch(word), field, _WORD_RULE, word) for field, word in words.items()),
            (len(size) == 2 and min(size) >= 1, "input_size", "sides from 1", size),
            (are_names, "classes", "different, printable names", classes),
            (set(self.thresholds) == set(classes), "thresholds", "one for each class", list(self.thresholds)),
            *((0 <= each <= 1, f"thresholds.{name}", "a score 0..1", each) for name, each in self.thresholds.items()),
            (DEFAULT_PROFILE in self.latency_ms, "latency_ms", f"a {DEFAULT_PROFILE}", dict(self.latency_ms)),
            *(
                (_WORD.fullmatch(name), "latency_ms", "profiles of letters and digits", name)
                for name in self.latency_ms
            ),
            *(
                (0 < limit < math.inf, f"latency_ms.{name}", "milliseconds above 0", limit)
                for name, limit in self.latency_ms.items()
            ),
            (self.variants, "variants", "at least one", "none"),
            *((each in PRECISIONS, "variants", ", ".join(PRECISIONS), each) for each in self.variants),
            *(
                (0 <= limit < math.inf, f"{where}.{field}", "a number from 0", limit)
                for where, tolerance in limits.items()
                for field, limit in vars(tolerance).items()
            ),
            (self.pictures, "pictures", "at least one golden image", "none"),
            *(
                (key.isprintable() and text.isprintable(), "lineage", "printable text", f"{key}={text}")
                for key, text in self.lineage.items()
            ),
            *((is_safe_name(name), "files", "plain relative names", name) for name in (*self.files, *named)),
            (MANIFEST not in named, "files", "names that are not taken", MANIFEST),
            (folders.isdisjoint(named), "files", "no file named like a folder", sorted(folders & set(named))),
            (len(set(named)) == len(named), "files", "each file in one role", named),
            (set(named) == set(self.files), "files", sorted(named), sorted(self.files)),
            (len(named) <= MAX_FILES, "files", f"at most {MAX_FILES}", len(named)),
            *(
                (_SHA256.fullmatch(file.sha256), f"{name}: sha256", "64 hexadecimal digits", file.sha256)
                for name, file in self.files.items()
            ),
            *((file.bytes >= 0, f"{name}: bytes", "a number from 0", file.bytes) for name, file in self.files.items()),
        ):
            if not holds:
                raise BundleError(f"{field}: expected {expected}, found {found!r}")
        document = {"kind": KIND, "format": FORMAT, "preprocessing": PREPROCESSING, **asdict(self)}
        return f"{json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, sort_keys=True)}\n".encode()

    @classmethod
    def from_json(cls, content: bytes, where: str = MANIFEST) -> "Manifest":
        """The inverse of `to_json`. Raises BundleError, naming `where`, for any text that `to_json` never writes."""
        try:
            document = parse_object(content)
            for name, value in (("kind", KIND), ("format", FORMAT), ("preprocessing", PREPROCESSING)):
                if (found := document.pop(name, None)) != value:
                    raise BundleError(f"{name}: expected {value}, the only one there is, found {found!r:.200}")
            manifest: Manifest = typed(document, cls)
            written = manifest.to_json()
        except BundleError as error:
            raise BundleError(f"{where}: {error}") from error
        except ValueError as error:
            raise BundleError(f"{where}: expected a manifest in JSON form: {error}") from error
        if written != content:
            raise BundleError(f"{where}: expected the fields of format {FORMAT} in its form, found another")
        return manifest
