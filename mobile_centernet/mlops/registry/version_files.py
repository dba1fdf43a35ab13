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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from mobile_centernet.bundle.manifest import PinnedFile
from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.store.coco import read_document
from mobile_centernet.data.store.prepared import image_digests
from mobile_centernet.files import file_digest, write_json
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.registry.registry import RegistryError
from mobile_centernet.outside import parse_object, typed

MANIFEST, TRAINING_IDS, WEIGHTS = "manifest.json", "seen.json", "student.safetensors"
KIND, FORMAT = "mobile-centernet version", 1
TRAINING_SPLITS = ("train", "val")  # the best epoch is chosen on val, so val was seen too
RECORDS = (paths.PARAMS, paths.METRICS, paths.PARITY)
OF_MLFLOW = ("MLmodel", "registered_model_meta")
"""Files that MLflow adds to a version and nobody pins."""
MOST_ALIASES = 20
"""Of YAML in params: each may double what they stand for."""


@dataclass(frozen=True, slots=True)
class VersionManifest:
    """What manifest.json says; `files` are all others."""

    kind: str
    format: int
    model: str
    classes: tuple[str, ...]
    input_size: Mapping[str, int]
    lineage: Mapping[str, str]
    files: Mapping[str, PinnedFile]


@dataclass(frozen=True, slots=True)
class TrainingIds:
    """What training used: videos as `ivslab/1_40_00.mp4`, images by the first 16 digits of their JPEG's SHA-256."""

    videos: frozenset[str]
    images: frozenset[str]


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """A folder that `pack` made, checked."""

    folder: Path
    manifest: VersionManifest

    @classmethod
    def checked(cls, folder: Path, manifest_digest: str | None) -> "VersionFiles":
        """What was downloaded to `folder`; MLflow's own files, which nobody pins, are deleted there.

        Raises:
            RegistryError: a file is missing, is not the one that was registered, or is one that never was.
        """
        path = folder / MANIFEST
        if manifest_digest is None or not path.is_file():
            raise RegistryError(f"{folder}: expected a version with {MANIFEST}, as `python -m steps register` makes it")
        for name in OF_MLFLOW:
            (folder / name).unlink(missing_ok=True)
        present = {each.relative_to(folder).as_posix() for each in folder.rglob("*") if not each.is_dir()}
        pinned = {MANIFEST: manifest_digest}
        if file_digest(path) == manifest_digest:
            try:
                manifest: VersionManifest = typed(parse_object(path.read_bytes()), VersionManifest)
            except ValueError as error:
                raise RegistryError(f"{path}: expected what `python -m steps register` writes: {error}") from error
            pinned |= {name: file.sha256 for name, file in manifest.files.items()}
        for name, expected in pinned.items():
            found = file_digest(folder / name) if name in present else "no such file"
            if found != expected:
                raise RegistryError(f"{folder / name}: expected the registered file, sha256 {expected}, found {found}")
        if strange := sorted(present - set(pinned)):
            raise RegistryError(f"{folder}: expected no files but the registered ones, found {', '.join(strange)}")
        return cls(folder, manifest)

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
        return self.manifest.lineage.get("student_sha256", "")

    @property
    def params(self) -> Any:
        """Raises RegistryError where they are no YAML, or YAML that grows without bounds."""
        path = self.folder / paths.PARAMS.name
        try:
            text = path.read_text(encoding="utf-8")
            aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader))
            if aliases > MOST_ALIASES:
                raise RegistryError(f"{path}: expected at most {MOST_ALIASES} aliases, found {aliases}")
            return yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise RegistryError(f"{path}: expected the params of a pipeline, found none ({error!s:.200})") from error


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
    manifest = VersionManifest(
        kind=KIND,
        format=FORMAT,
        model=some.metadata.model,
        classes=some.classes,
        input_size={"height": some.input_size[0], "width": some.input_size[1]},
        lineage=lineage,
        files={path.name: PinnedFile(file_digest(path), path.stat().st_size) for path in files},
    )
    write_json(folder / MANIFEST, asdict(manifest))
    return file_digest(folder / MANIFEST)


def video_key(data_set: str, image: Mapping[str, Any]) -> str:
    return f"{data_set}/{image['video']}"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
