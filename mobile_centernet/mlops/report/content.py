"""The report's content: figures, tables and drawn frames, from other stages' outputs."""

from collections.abc import Mapping
from dataclasses import dataclass

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.evaluation.coco_eval import CocoResult, MapResult
from mobile_centernet.evaluation.error_analysis import (
    FALSE_NEGATIVES,
    FALSE_POSITIVES,
    agreement,
    false_negatives,
    false_positives,
    operating_point,
)
from mobile_centernet.evaluation.outcomes import BoxOutcome, confusion_matrix
from mobile_centernet.evaluation.slices import SIZES, measure_slice, slice_by_attribute
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.ablation import kept_comparison
from mobile_centernet.mlops.report import images, provenance, records
from mobile_centernet.mlops.report.records import read_json
from mobile_centernet.mlops.sources import read_dataset_source
from mobile_centernet.models.checkpoint import load_model
from mobile_centernet.models.complexity import count
from mobile_centernet.reports import plots
from mobile_centernet.reports.page import Picture
from mobile_centernet.reports.run_page import ApRow, DataSection, ReportContent, Score, SliceGroup


@dataclass(frozen=True, slots=True, eq=False)
class ScoredModel:
    """One network's detections, what they score, and what becomes of each at the report's threshold."""

    results: list[CocoResult]
    measured: MapResult
    outcomes: list[BoxOutcome]


def draw_figures(models: Mapping[str, ScoredModel], classes: tuple[str, ...], threshold: float) -> dict[str, Picture]:
    """Every plot by the name that its file has in MLflow."""
    measured = {role: model.measured for role, model in models.items()}
    weighed = {row.name: row for row in records.class_rows(classes)}
    counts = {name: row.boxes for name, row in weighed.items()}
    weights = {name: row.weight for name, row in weighed.items() if row.weight is not None}
    confusion = confusion_matrix(models["student"].outcomes, classes)
    figures = {
        "average_precision": Picture(plots.ap_bars(measured), "AP at IoU 0.5 per class, teacher and student"),
        "precision_recall": Picture(plots.pr_curves(measured), "Precision over recall per class, teacher and student"),
        "confusion": Picture(
            plots.confusion_figure(confusion, classes),
            "Confusion matrix of the student",
            f"Detections with a score of at least {threshold}, matched at IoU 0.5",
        ),
        "class_frequencies": Picture(
            plots.class_frequencies(counts, weights), "Boxes per class in ivslab's training frames, and their weights"
        ),
    }
    for training, data_set in paths.TRAININGS.items():
        title = f"{training.replace('_', ', ').capitalize()} on {data_set}"
        if not (history := records.history(training)):  # the champion took its place
            continue
        drawn = plots.training_curves(history)
        figures[f"training_{training}"] = Picture(drawn, f"{title}: losses and mAP@0.5 by epoch", title)
    return figures


def report_content(
    frames: PreparedSet, models: Mapping[str, ScoredModel], figures: Mapping[str, Picture], threshold: float
) -> ReportContent:
    """All that the page shows.

    Args:
        frames: the frames that the scores are measured on.
        models: teacher and student, by role, on these frames.
        figures: see `draw_figures`.
        threshold: score from which a detection is drawn and counted, 0 to 1.
    """
    truth, classes, student = frames.coco, frames.classes, models["student"]
    teacher_ap50, measured = models["teacher"].measured.ap50, student.measured
    splits = records.split_rows()
    rows = tuple(ApRow(name, boxes, teacher_ap50[name], measured.ap50[name]) for name, boxes in measured.counts.items())
    scores, input_size = [], (0, 0)
    for role, model in models.items():
        file = paths.MODELS / role / paths.MODEL_FILE
        loaded = load_model(file)
        input_size = loaded.input_size  # in the end the student's
        complexity = count(loaded.model, input_size)
        score = Score(
            role=role,
            model=loaded.model.name,
            map50=model.measured.map50,
            frames=model.measured.images,
            dataset=read_json(paths.METRICS)["measured_on"]["set"],
            synthetic=read_dataset_source(paths.RAW / "ivslab").source == "sample",
            params=complexity.params,
            conv_macs=complexity.conv_macs,
            file_bytes=file.stat().st_size,
            operating_point=operating_point(model.outcomes, threshold),
        )
        scores.append(score)

    by_role = {each.role: each for each in scores}
    # By size on the test frames; by time of day and weather where frames have these attributes, as BDD100K's do.
    sizes = (measure_slice(name, truth, student.results, classes, area) for name, area in SIZES.items())
    slices = [SliceGroup("Object size", tuple(sizes))]
    attributed = PreparedSet(paths.PREPARED / "bdd100k", "val")
    sets = ((frames, student.results), (attributed, read_json(paths.ATTRIBUTED_RESULTS)))
    for attribute, title in (("timeofday", "Time of day"), ("weather", "Weather")):
        for part, results in sets:
            if found := tuple(slice_by_attribute(part.coco, results, part.classes, attribute)):
                slices.append(SliceGroup(f"{title}, {part.root.name} {part.split}", found))

    wrong = false_positives(student.outcomes, truth, classes)
    missed = false_negatives(student.outcomes, student.results, threshold)
    detected = [outcome.found for outcome in student.outcomes if outcome.found]
    return ReportContent(
        title="Mobile CenterNet",
        classes=classes,
        scores=tuple(scores),
        data=DataSection(
            splits=splits,
            classes=records.class_rows(classes),
            frequencies=figures["class_frequencies"],
            contact_sheet=images.training_sheet(
                [PreparedSet(paths.PREPARED / name, "train") for name in paths.DATA_SETS]
            ),
        ),
        checked=records.checked_sets(),
        average_precision=rows,
        pr_curves=figures["precision_recall"],
        agreement=tuple(agreement(truth, models["teacher"].outcomes, student.outcomes, classes)),
        slices=tuple(slices),
        distillation=kept_comparison(
            frames.root / f"annotations_{frames.split}.json", *(by_role[role].model for role in ("student", "teacher"))
        ),
        training_curves=tuple(picture for name, picture in figures.items() if name.startswith("training_")),
        confusion=figures["confusion"],
        false_alarms=images.gallery(wrong, FALSE_POSITIVES, frames, truth["annotations"]),
        misses=images.gallery(missed, FALSE_NEGATIVES, frames, detected),
        detections=images.drawn_frames(frames, student.results, threshold),
        parity=records.parity_rows(),
        latency=records.latency(),
        engine_status=read_json(paths.PARITY)["engine"]["status"],
        card=provenance.model_card(input_size, splits, rows, slices, measured.map50),
        lineage=provenance.model_lineage(),
    )
