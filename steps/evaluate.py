"""evaluate: mAP@0.5 of teacher and student on ivslab frames that no training saw."""

from pathlib import Path
from typing import Any

import pandas as pd

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.evaluation.coco_eval import CocoResult, MapResult, evaluate_map50
from mobile_centernet.evaluation.detect import results_for
from mobile_centernet.files import file_digest, write_atomically, write_json
from mobile_centernet.inference.torch import TorchRunner
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.sources import described
from mobile_centernet.mlops.tracking import tracking
from mobile_centernet.models.checkpoint import load_model

MODELS = {"teacher": paths.TEACHER, "student": paths.STUDENT}
STATED = "student_bdd100k_val"


def evaluate(params: Params) -> None:
    """Write metrics.json, the PR curves and every detection as COCO results."""
    prepared = PreparedSet(paths.PREPARED / "ivslab", params.evaluate.split)
    ground_truth = prepared.coco
    paths.EVALUATION.mkdir(parents=True, exist_ok=True)
    metrics: dict[str, Any] = {}
    curves = []
    with tracking.run("evaluate", params, ("evaluate",)) as tracker:
        for name, folder in MODELS.items():
            loaded = load_model(folder / paths.MODEL_FILE)
            results = results_for(prepared, TorchRunner(loaded.model), loaded.input_size, progress=True)
            measured = evaluate_map50(ground_truth, results, prepared.classes)
            write_json(paths.EVALUATION / f"{name}.json", results)
            metrics[name] = {"map50": measured.map50, "ap50": dict(measured.ap50)}
            curves.append(_curves(name, measured))
            tracker.log({f"{name}.map50": measured.map50, **_known(name, measured)})
            print(f"{name}: mAP@0.5 {measured.map50:.3f} on {measured.images} frames", flush=True)
        write_json(paths.EVALUATION / f"{STATED}.json", _on_stated_frames())
        metrics["measured_on"] = {
            "set": f"ivslab {params.evaluate.split}",
            "source": described(paths.RAW / "ivslab"),
            "frames": measured.images,
            "boxes": dict(measured.counts),
        }
        write_json(paths.METRICS, metrics)
        table = paths.REPORTS / "pr_curves.csv"
        write_atomically(table, pd.concat(curves).to_csv(index=False).encode())
        tracker.finish((paths.METRICS, table), student_digest=_digest(paths.STUDENT))


def _on_stated_frames() -> list[CocoResult]:
    """The student's detections on BDD100K's own validation frames, which say what weather and time of day they show."""
    prepared = PreparedSet(paths.PREPARED / "bdd100k", "val")
    loaded = load_model(paths.STUDENT / paths.MODEL_FILE)
    return results_for(prepared, TorchRunner(loaded.model), loaded.input_size, progress=True)


def _known(name: str, measured: MapResult) -> dict[str, float]:
    return {f"{name}.ap50.{label}": value for label, value in measured.ap50.items() if value is not None}


def _curves(name: str, measured: MapResult) -> pd.DataFrame:
    return pd.concat(
        pd.DataFrame({"model": name, "class": label, "recall": measured.recall, "precision": precision})
        for label, precision in measured.precision.items()
    )


def _digest(folder: Path) -> str:
    return file_digest(folder / paths.MODEL_FILE)
