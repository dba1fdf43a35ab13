"""The files of one registered version: exported graphs, what they were trained on, params and reports, all pinned.

manifest.json    every other file's SHA-256 and size; the version's tag `manifest_sha256` pins it
model.*.onnx     the exported graphs, byte for byte
student.safetensors   the weights that were exported, to train or export again from
seen.json        videos and images that training used, so that nobody scores the model on them later, and which of the
                 images had no labels
params.yaml, metrics.json, parity.json   as they were
dvc.lock         which data, weights and files they were made of; by its digests `dvc pull` finds them
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.store.coco import read_document
from mobile_centernet.data.store.prepared import image_digests
from mobile_centernet.files import file_digest, write_json
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.registry.registry import RegistryError

MANIFEST, TRAINING_IDS, WEIGHTS = "manifest.json", "seen.json", "student.safetensors"
KIND, FORMAT = "mobile-centernet version", 1
TRAINING_SPLITS = ("train", "val")  # the best epoch is chosen on val, so val was seen too
RECORDS = (paths.PARAMS, paths.METRICS, paths.PARITY)


@dataclass(frozen=True, slots=True)
class TrainingIds:
    """What training used: videos as `ivslab/1_40_00.mp4`, images by the first 16 digits of their JPEG's SHA-256."""

    videos: frozenset[str]
    images: frozenset[str]


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """A folder that `pack` made, checked."""

    folder: Path

    @classmethod
    def checked(cls, folder: Path, manifest_digest: str | None) -> "VersionFiles":
        """Raises RegistryError, naming the file, where one is missing or not the one that was registered."""
        path = folder / MANIFEST
        if manifest_digest is None or not path.is_file():
            raise RegistryError(f"{folder}: expected a version with {MANIFEST}, as `python -m steps register` makes it")
        _check(path, manifest_digest)
        for name, pinned in _read(path)["files"].items():
            _check(folder / name, pinned["sha256"])
        return cls(folder)

    def model(self, precision: str) -> Path:
        """The exported graph of that precision, which may not be there."""
        return self.folder / f"model.{precision}.onnx"

    @property
    def parity(self) -> dict[str, bool | str]:
        """By precision and engine: whether it is within its limits, or in words why there is nothing to compare."""
        report = _read(self.folder / paths.PARITY.name)
        rows = {name: row for name, row in report.items() if isinstance(row, dict) and "passed" in row}
        engine = report["engine"]
        rows |= {f"engine {name}": row for name, row in engine.get("measured", {}).items()}
        verdicts = {
            name: "withdrawn" if row.get("status") == "withdrawn" else row["passed"] for name, row in rows.items()
        }
        return {**verdicts, "engine": str(engine["status"])}

    @property
    def training_ids(self) -> TrainingIds:
        found = _read(self.folder / TRAINING_IDS)
        return TrainingIds(frozenset(found["videos"]), frozenset(found["pictures"]))

    @property
    def weights(self) -> str:
        """Digest of the trained network that the files were exported from; empty where nobody wrote it down."""
        return str(_read(self.folder / MANIFEST)["lineage"].get("student_sha256", ""))

    @property
    def params(self) -> Any:
        return yaml.safe_load((self.folder / paths.PARAMS.name).read_text(encoding="utf-8"))


def pack(folder: Path, models: Sequence[Path], lineage: Mapping[str, str]) -> str:
    """Fill the empty `folder` from the workspace; returns the digest of its manifest."""
    for path in (*models, *RECORDS, *([paths.DVC_LOCK] if paths.DVC_LOCK.is_file() else [])):
        shutil.copyfile(path, folder / path.name)
    shutil.copyfile(paths.STUDENT / paths.MODEL_FILE, folder / WEIGHTS)
    videos: set[str] = set()
    images: set[str] = set()
    unlabelled: set[str] = set()
    for data_set in paths.DATA_SETS:
        for split in TRAINING_SPLITS:
            root = paths.PREPARED / data_set
            document = read_document(root, split)
            videos.update(video_key(data_set, image) for image in document["images"])
            digests = image_digests(root, document)
            images.update(digests.values())
            states = {image["id"]: image.get("state") for image in document["images"]}
            unlabelled.update(digest for image, digest in digests.items() if states[image] == FrameState.UNLABELLED)
    seen = {"videos": videos, "pictures": images, "unlabelled": unlabelled}
    write_json(folder / TRAINING_IDS, {name: sorted(each) for name, each in seen.items()})

    some = Detector(models[0], provider="cpu")
    files = sorted(folder.iterdir())
    manifest = {
        "kind": KIND,
        "format": FORMAT,
        "model": some.metadata.model,
        "classes": list(some.classes),
        "input_size": {"height": some.input_size[0], "width": some.input_size[1]},
        "lineage": dict(lineage),
        "files": {path.name: {"sha256": file_digest(path), "bytes": path.stat().st_size} for path in files},
    }
    write_json(folder / MANIFEST, manifest)
    return file_digest(folder / MANIFEST)


def video_key(data_set: str, image: Mapping[str, Any]) -> str:
    return f"{data_set}/{image['video']}"


def _check(path: Path, expected: str) -> None:
    found = file_digest(path) if path.is_file() else "no such file"
    if found != expected:
        raise RegistryError(f"{path}: expected the registered file, sha256 {expected}, found {found}")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
