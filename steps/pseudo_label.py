"""pseudo_label: the teacher's boxes on unlabelled training frames, as COCO files that a person may look through."""

import logging

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.loader import unlabelled_frames
from mobile_centernet.data.training.pseudo_labels import MODE, coco_document, pseudo_document
from mobile_centernet.evaluation.detect import detect_frames
from mobile_centernet.files import file_digest, write_json
from mobile_centernet.inference.torch import TorchRunner, best_device
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params
from mobile_centernet.models.checkpoint import load_model

logger = logging.getLogger(__name__)


def pseudo_label(params: Params) -> None:
    """Write data/pseudo_labels/{bdd100k,ivslab}.json; empty in the modes skip and distill.

    Raises:
        ModelError: the teacher knows other classes than the prepared set.
    """
    paths.PSEUDO_LABELS.mkdir(parents=True, exist_ok=True)
    mode, score_threshold = params.unlabelled.mode, params.unlabelled.score_threshold
    for trained in (paths.TEACHER_PRETRAINED, paths.TEACHER):  # each labels the set that it was trained on
        name = paths.TRAININGS[trained.name]
        prepared = PreparedSet(paths.PREPARED / name, "train")
        path = paths.PSEUDO_LABELS / f"{name}.json"
        unlabelled = unlabelled_frames(prepared)
        logger.info("%s train: %d of %d frames are unlabelled, mode %s", name, len(unlabelled), len(prepared), mode)
        if mode != MODE:
            description = f"No pseudo-labels: unlabelled frames are used in mode '{mode}'."
            write_json(path, coco_document({"description": description, "mode": mode}, prepared.classes))
            continue

        teacher_file = trained / paths.MODEL_FILE
        teacher = load_model(teacher_file, prepared.classes)
        runner = TorchRunner(teacher.model.to(best_device()))
        found = detect_frames(prepared, runner, teacher.input_size, unlabelled, progress=True)
        facts = {"teacher": teacher_file.as_posix(), "teacher_sha256": file_digest(teacher_file)}
        document = pseudo_document(found, prepared.classes, score_threshold=score_threshold, teacher=facts)
        write_json(path, document)

        info, boxes = document["info"], len(document["annotations"])
        least = f"a score of at least {score_threshold:g}"
        logger.info("%s: %d boxes with %s on %d frames", path, boxes, least, info["frames"])
        if small := info["boxes_under_one_pixel_left_out"]:
            logger.info("%s: %d boxes of less than one pixel left out", path, small)
        if without := info["frames_without_a_box"]:
            logger.info("%s: %d frames without such a box stay unlabelled and are skipped", path, without)
