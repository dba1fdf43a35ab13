"""report: one HTML page about the data, the training, the scores, the exported files and where they come from."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.evaluation.coco_eval import evaluate_map50
from mobile_centernet.evaluation.outcomes import box_outcomes, confusion_labels
from mobile_centernet.files import write_atomically
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.report import records
from mobile_centernet.mlops.report.content import ScoredModel, draw_figures, report_content
from mobile_centernet.mlops.tracking import tracking
from mobile_centernet.reports.page import write_page
from mobile_centernet.reports.run_page import verdict

logger = logging.getLogger(__name__)


def report(params: Params) -> None:
    """Write data/reports/index.html, and what `dvc plots` draws beside it; attach both to a run in MLflow."""
    threshold = params.report.score_threshold
    frames = PreparedSet(paths.PREPARED / "ivslab", params.evaluate.split)
    truth, models = frames.coco, {}
    for role in paths.ROLES:
        results = records.read_json(paths.EVALUATION / f"{role}.json")
        outcomes = box_outcomes(truth, results, score_threshold=threshold)
        models[role] = ScoredModel(results, evaluate_map50(truth, results, frames.classes), outcomes)
    figures = draw_figures(models, frames.classes, threshold)
    content = report_content(frames, models, figures, threshold)
    actual, predicted = [*frames.classes, "false alarm"], [*frames.classes, "missed"]
    labels = confusion_labels(models["student"].outcomes, frames.classes)
    rows = [(actual[true], predicted[found]) for true, found in labels]
    confusion = pd.DataFrame(rows, columns=["actual", "predicted"])
    curves = pd.DataFrame(
        {"training": training, "epoch": record["epoch"], "quantity": quantity, "value": value}
        for training in paths.TRAININGS
        for record in records.history(training)
        for quantity, value in record.items()
        if quantity != "epoch"
    )
    with tracking.run("report", params, ("evaluate.split", "report.score_threshold")) as tracker:
        write_page(
            paths.REPORT, "report.html.j2", content=content, verdict=verdict(content.scores, content.distillation)
        )
        write_atomically(paths.CONFUSION, confusion.to_csv(index=False).encode())
        write_atomically(paths.TRAINING_CURVES, curves.to_csv(index=False).encode())
        with TemporaryDirectory() as folder:
            drawn = [Path(folder, f"{name}.png") for name in figures]
            for path, figure in zip(drawn, figures.values(), strict=True):
                path.write_bytes(figure.data)
            tracker.finish([paths.REPORT, paths.CONFUSION, paths.TRAINING_CURVES, *drawn])
    logger.info("%s: %.1f MiB, one self-contained page", paths.REPORT, paths.REPORT.stat().st_size / 2**20)
