"""evaluate: mAP@0.5 of teacher and student on ivslab frames that no training saw."""

import logging
from typing import Any

import pandas as pd

from mobile_centernet.data.store.coco import annotations_name
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.evaluation.coco_eval import count_boxes, evaluate_map50, evaluated_images, restricted
from mobile_centernet.evaluation.detect import results_for
from mobile_centernet.files import file_digest, write_atomically, write_json
from mobile_centernet.inference.torch import TorchRunner, best_device
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.sources import describe_source
from mobile_centernet.mlops.tracking import tracking
from mobile_centernet.models.checkpoint import load_model

logger = logging.getLogger(__name__)


def evaluate(params: Params) -> None:
    """Write metrics.json, the PR curves and, as COCO has them, every detection on the scored frames and their truth.

    On reviewed frames from the field both networks are scored apart, once there are some.
    """
    prepared = PreparedSet(paths.PREPARED / "ivslab", params.evaluate.split)
    ground_truth = restricted(prepared.coco, evaluated_images(prepared.coco))
    scored = {image["id"] for image in ground_truth["images"]}
    attributed = PreparedSet(paths.PREPARED / "bdd100k", "val")
    paths.EVALUATION.mkdir(parents=True, exist_ok=True)
    write_json(paths.GROUND_TRUTH, {"info": {}, **ground_truth})
    metrics: dict[str, Any] = {}
    curves = []
    field = None
    if (prepared.root / annotations_name(paths.FIELD)).is_file():
        field = PreparedSet(prepared.root, paths.FIELD)
        field = field if any(count_boxes(field.coco, field.classes).values()) else None
    if field is None:
        logger.info("no boxes on frames from the field were reviewed yet, so no score on these")
    with tracking.run("evaluate", params, ("evaluate.split",)) as tracker:
        for role in paths.ROLES:
            loaded = load_model(paths.MODELS / role / paths.MODEL_FILE)
            detect = TorchRunner(loaded.model.to(best_device()))
            found = results_for(prepared, detect, loaded.input_size, progress=True)
            results = [row for row in found if row["image_id"] in scored]
            measured = evaluate_map50(ground_truth, results, prepared.classes)
            write_json(paths.EVALUATION / f"{role}.json", results)
            if role == "student":
                write_json(paths.ATTRIBUTED_RESULTS, results_for(attributed, detect, loaded.input_size, progress=True))
            metrics[role] = {
                "map50": measured.map50,
                "map50_95": measured.map50_95,
                "ar100": measured.ar100,
                "ap50": dict(measured.ap50),
            }
            curves += [
                pd.DataFrame({"model": role, "class": label, "recall": measured.recall, "precision": precision})
                for label, precision in measured.precision.items()
            ]
            if field:
                own = evaluate_map50(
                    field.coco, results_for(field, detect, loaded.input_size, progress=True), field.classes
                )
                facts = {"frames": own.images, "boxes": dict(own.counts)}
                metrics.setdefault(paths.FIELD, facts)[role] = {"map50": own.map50, "ap50": dict(own.ap50)}
                tracker.log({f"{role}.{paths.FIELD}.map50": own.map50})
                logger.info("%s: mAP@0.5 %.3f on %d frames from the field", role, own.map50, own.images)
            known = {f"{role}.ap50.{label}": value for label, value in measured.ap50.items() if value is not None}
            tracker.log({f"{role}.map50": measured.map50, **known})
            logger.info("%s: mAP@0.5 %.3f on %d frames", role, measured.map50, measured.images)
        metrics["measured_on"] = {
            "set": f"ivslab {params.evaluate.split}",
            "source": describe_source(paths.RAW / "ivslab"),
            "frames": measured.images,
            "boxes": dict(measured.counts),
        }
        write_json(paths.METRICS, metrics)
        write_atomically(paths.PR_CURVES, pd.concat(curves).to_csv(index=False).encode())
        student_digest = file_digest(paths.STUDENT / paths.MODEL_FILE)
        tracker.finish((paths.METRICS, paths.PR_CURVES), student_digest=student_digest)
