"""report: one HTML page about the data, the training, the scores, the exported files and where they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.evaluation.coco_eval import CocoDocument, CocoResult, MapResult, evaluate_map50
from mobile_centernet.evaluation.error_analysis import (
    FALSE_NEGATIVES,
    FALSE_POSITIVES,
    agreement,
    false_negatives,
    false_positives,
    operating_point,
)
from mobile_centernet.evaluation.outcomes import BoxOutcome, box_outcomes, confusion_matrix, confusion_rows
from mobile_centernet.evaluation.slices import slice_by_attribute, slice_by_size
from mobile_centernet.files import write_atomically
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.report import images, provenance, records
from mobile_centernet.mlops.report.records import DATA_SETS, MODELS, PHASES, read_json
from mobile_centernet.mlops.sources import read_dataset_source
from mobile_centernet.mlops.tracking import tracking
from mobile_centernet.models.checkpoint import load_model
from mobile_centernet.models.complexity import count
from mobile_centernet.reports import plots
from mobile_centernet.reports.page import Picture
from mobile_centernet.reports.run_page import ApRow, DataSection, ReportContent, Score, SliceGroup, write_report


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """One model's detections, what they score, and what becomes of each at the report's threshold."""

    results: list[CocoResult]
    measured: MapResult
    outcomes: list[BoxOutcome]


def report(params: Params) -> None:
    """Write data/reports/index.html, and what `dvc plots` draws beside it; attach both to a run in MLflow."""
    threshold = params.report.score_threshold
    frames = PreparedSet(paths.PREPARED / "ivslab", params.evaluate.split)
    truth = frames.coco
    judged = {who: _judge(who, truth, frames.classes, threshold) for who in MODELS}
    figures = _figures(judged, frames.classes, threshold)
    content = _content(frames, truth, judged, figures, threshold)
    with tracking.run("report", params, ("evaluate", "report")) as tracker:
        write_report(paths.REPORT, content)
        _write_table(paths.CONFUSION, _confusion(judged["student"], frames.classes))
        _write_table(paths.TRAINING_CURVES, _curves())
        with TemporaryDirectory() as folder:
            tables = (paths.CONFUSION, paths.TRAINING_CURVES)
            tracker.finish([paths.REPORT, *tables, *_files(figures, Path(folder))])
    print(f"{paths.REPORT}: {paths.REPORT.stat().st_size / 2**20:.1f} MiB, one self-contained page")


def _judge(who: str, truth: CocoDocument, classes: Sequence[str], threshold: float) -> _Judged:
    results = read_json(paths.EVALUATION / f"{who}.json")
    return _Judged(
        results, evaluate_map50(truth, results, classes), box_outcomes(truth, results, score_threshold=threshold)
    )


def _content(
    frames: PreparedSet,
    truth: CocoDocument,
    judged: Mapping[str, _Judged],
    figures: Mapping[str, Picture],
    threshold: float,
) -> ReportContent:
    student, classes = judged["student"], frames.classes
    splits = records.split_rows()
    rows, slices = _ap_rows(judged), _slices(frames, student)
    found = [outcome.found for outcome in student.outcomes if outcome.found]
    return ReportContent(
        title="Mobile CenterNet",
        classes=classes,
        scores=tuple(_score(who, judged[who], threshold) for who in MODELS),
        data=DataSection(
            splits=splits,
            classes=records.class_rows(classes),
            frequencies=figures["class_frequencies"],
            contact_sheet=images.training_sheet([PreparedSet(paths.PREPARED / name, "train") for name in DATA_SETS]),
        ),
        checked=records.checked_sets(),
        average_precision=rows,
        pr_curves=figures["precision_recall"],
        agreement=tuple(agreement(truth, judged["teacher"].outcomes, student.outcomes, classes)),
        slices=slices,
        training_curves=tuple(figures[f"training_{who}_{phase}"] for who in MODELS for phase in PHASES),
        confusion=figures["confusion"],
        false_alarms=images.gallery(
            false_positives(student.outcomes, truth, classes), FALSE_POSITIVES, frames, truth["annotations"]
        ),
        misses=images.gallery(
            false_negatives(student.outcomes, student.results, threshold), FALSE_NEGATIVES, frames, found
        ),
        detections=images.drawn_frames(frames, student.results, threshold),
        parity=records.parity_rows(),
        latency=records.latency(),
        engine_status=read_json(paths.PARITY)["engine"]["status"],
        card=provenance.model_card(_student_size(), splits, rows, slices, student.measured.map50),
        lineage=provenance.origin(),
    )


def _figures(judged: Mapping[str, _Judged], classes: Sequence[str], threshold: float) -> dict[str, Picture]:
    """Every plot by the name that its file has in MLflow."""
    measured = {who: model.measured for who, model in judged.items()}
    weighed = {row.name: row for row in records.class_rows(classes)}
    counts = {name: row.boxes for name, row in weighed.items()}
    weights = {name: row.weight for name, row in weighed.items() if row.weight is not None}
    confusion = confusion_matrix(judged["student"].outcomes, classes)
    training = {
        f"training_{who}_{phase}": _training_curves(who, phase, data_set)
        for who in MODELS
        for phase, data_set in PHASES.items()
    }
    return {
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
        **training,
    }


def _training_curves(who: str, phase: str, data_set: str) -> Picture:
    title = f"{who.capitalize()}, {phase} on {data_set}"
    return Picture(plots.training_curves(records.history(who, phase)), f"{title}: losses and mAP@0.5 by epoch", title)


def _score(who: str, judged: _Judged, threshold: float) -> Score:
    file = paths.MODELS / who / paths.MODEL_FILE
    loaded = load_model(file)
    complexity = count(loaded.model, loaded.input_size)
    return Score(
        role=who,
        model=loaded.model.name,
        map50=judged.measured.map50,
        frames=judged.measured.images,
        dataset=read_json(paths.METRICS)["measured_on"]["set"],
        synthetic=read_dataset_source(paths.RAW / "ivslab").source == "sample",
        params=complexity.params,
        conv_macs=complexity.conv_macs,
        file_bytes=file.stat().st_size,
        operating_point=operating_point(judged.outcomes, threshold),
    )


def _student_size() -> tuple[int, int]:
    return load_model(paths.STUDENT / paths.MODEL_FILE).input_size


def _ap_rows(judged: Mapping[str, _Judged]) -> tuple[ApRow, ...]:
    teacher, student = judged["teacher"].measured, judged["student"].measured
    return tuple(ApRow(name, boxes, teacher.ap50[name], student.ap50[name]) for name, boxes in student.counts.items())


def _slices(frames: PreparedSet, student: _Judged) -> tuple[SliceGroup, ...]:
    """By size on the test frames; by time of day and weather where frames state them, as BDD100K's do."""
    sizes = SliceGroup("Object size", tuple(slice_by_size(frames.coco, student.results, frames.classes)))
    stated = PreparedSet(paths.PREPARED / "bdd100k", "val")
    measured = [(frames, student.results), (stated, read_json(paths.ATTRIBUTED_RESULTS))]
    groups = [
        SliceGroup(f"{title}, {part.root.name} {part.split}", tuple(slices))
        for attribute, title in (("timeofday", "Time of day"), ("weather", "Weather"))
        for part, results in measured
        if (slices := slice_by_attribute(part.coco, results, part.classes, attribute))
    ]
    return (sizes, *groups)


def _confusion(student: _Judged, classes: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(confusion_rows(student.outcomes, classes), columns=["actual", "predicted"])


def _curves() -> pd.DataFrame:
    """One row a model, phase, epoch and quantity."""
    rows = [
        {"training": f"{who}, {phase}", "epoch": record["epoch"], "quantity": quantity, "value": value}
        for who in MODELS
        for phase in PHASES
        for record in records.history(who, phase)
        for quantity, value in record.items()
        if quantity != "epoch"
    ]
    return pd.DataFrame(rows)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    write_atomically(path, table.to_csv(index=False).encode())


def _files(figures: Mapping[str, Picture], folder: Path) -> list[Path]:
    """The figures as files of their own, for MLflow."""
    drawn = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(drawn, figures.values(), strict=True):
        path.write_bytes(figure.data)
    return drawn
