"""pseudo_label: the teacher's boxes on unlabelled training frames, as COCO files that a person may look through."""

from collections.abc import Mapping
from pathlib import Path

import torch

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.loader import unlabelled_frames
from mobile_centernet.data.training.pseudo_labels import MODE, empty_document, pseudo_document
from mobile_centernet.errors import ModelError
from mobile_centernet.evaluation.detect import detect_frames
from mobile_centernet.files import file_digest, write_json
from mobile_centernet.inference.torch import TorchRunner
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params
from mobile_centernet.models.checkpoint import load_model

PSEUDO_LABELS = Path("data/pseudo_labels")
TEACHERS: Mapping[str, Path] = {
    "bdd100k": paths.TEACHER / "pretrained.safetensors",
    "ivslab": paths.TEACHER / paths.MODEL_FILE,
}
"""The teacher of the phase that trains on this data set."""


def pseudo_label(params: Params) -> None:
    """Write data/pseudo_labels/{bdd100k,ivslab}.json; in the modes skip and distill they only say so."""
    PSEUDO_LABELS.mkdir(parents=True, exist_ok=True)
    mode = params.unlabelled.mode
    for name in TEACHERS:
        prepared = PreparedSet(paths.PREPARED / name, "train")
        path = pseudo_labels_file(name)
        print(f"{name} train: {len(unlabelled_frames(prepared))} of {len(prepared)} frames are unlabelled, mode {mode}")
        if mode == MODE:
            _write(path, prepared, TEACHERS[name], params.unlabelled.score_threshold)
        else:
            write_json(path, empty_document(mode, prepared.classes))


def pseudo_labels_file(data_set: str) -> Path:
    """Where the pseudo-labels of a data set's training frames lie."""
    return PSEUDO_LABELS / f"{data_set}.json"


def _write(path: Path, prepared: PreparedSet, teacher_file: Path, score_threshold: float) -> None:
    teacher = load_model(teacher_file)
    if teacher.classes != prepared.classes:
        raise ModelError(f"{teacher_file}: expected the classes {prepared.classes}, found {teacher.classes}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    runner = TorchRunner(teacher.model.to(device))
    found = detect_frames(prepared, runner, teacher.input_size, unlabelled_frames(prepared), progress=True)
    facts = {"teacher": teacher_file.as_posix(), "teacher_sha256": file_digest(teacher_file)}
    document = pseudo_document(found, prepared.classes, score_threshold=score_threshold, teacher=facts)
    write_json(path, document)
    info, boxes = document["info"], len(document["annotations"])
    print(f"{path}: {boxes} boxes with a score of at least {score_threshold:g} on {info['frames']} frames")
    if info["boxes_under_one_pixel_left_out"]:
        print(f"{path}: {info['boxes_under_one_pixel_left_out']} boxes of less than one pixel left out")
    if info["frames_without_a_box"]:
        print(f"{path}: {info['frames_without_a_box']} frames without such a box stay unlabelled and are skipped")
