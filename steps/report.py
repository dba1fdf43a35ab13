"""report: one HTML page about the data, the training, the scores, the exported file and where they come from."""

import json
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.store import PreparedSet
from mobile_centernet.evaluation import plots
from mobile_centernet.evaluation.coco_eval import CocoResult, MapResult, evaluate_map50
from mobile_centernet.evaluation.confusion import confusion_matrix
from mobile_centernet.evaluation.drawing import BoxedImage, contact_sheet, draw_boxes
from mobile_centernet.evaluation.report import (
    ApRow,
    ClassRow,
    DataSection,
    DrawnFrame,
    Lineage,
    ParityRow,
    Picture,
    ReportContent,
    Score,
    SliceGroup,
    SplitRow,
    group_findings,
    write_report,
)
from mobile_centernet.evaluation.slices import slice_by_attribute, slice_by_size
from mobile_centernet.models.checkpoint import load_model
from mobile_centernet.models.complexity import count
from mobile_centernet.preprocessing import encode_jpeg
from steps import lineage, workspace
from steps.footage import read_footage
from steps.params import Params

DATA_SETS = ("bdd100k", "ivslab")
JPEG_QUALITY = 82
DRAWN_FRAMES = 6
SHEET_FRAMES = 12


def report(params: Params) -> None:
    """Write data/reports/index.html."""
    frames = PreparedSet(workspace.PREPARED / "ivslab", params.evaluate.split)
    results = {who: _read(workspace.EVALUATION / f"{who}.json") for who in ("teacher", "student")}
    ground_truth, classes = frames.coco, frames.classes
    measured = {who: evaluate_map50(ground_truth, found, classes) for who, found in results.items()}
    threshold = params.report.score_threshold
    confusion = confusion_matrix(ground_truth, results["student"], classes, score_threshold=threshold)
    content = ReportContent(
        title="Mobile CenterNet",
        classes=classes,
        scores=tuple(_score(who, measured[who]) for who in ("teacher", "student")),
        data=_data_section(classes),
        findings=group_findings([row for name in DATA_SETS for row in _prepare_report(name)["findings"]]),
        average_precision=_ap_rows(measured),
        ap_bars=Picture(plots.ap_bars(measured), "AP at IoU 0.5 per class, teacher and student"),
        slices=_slices(ground_truth, results["student"], classes),
        pr_curves=Picture(plots.pr_curves(measured), "Precision over recall per class, teacher and student"),
        training_curves=_training_curves(),
        confusion=Picture(
            plots.confusion_figure(confusion, classes),
            "Confusion matrix of the student",
            f"Student, detections with a score of at least {threshold}",
        ),
        detections=_drawn(frames, results["student"], threshold),
        parity=_parity(),
        engine_status=_read(workspace.PARITY)["engine"]["status"],
        lineage=_lineage(),
    )
    write_report(workspace.REPORT, content)
    print(f"{workspace.REPORT}: {workspace.REPORT.stat().st_size / 2**20:.1f} MiB, one self-contained page")


def _read(path: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _prepare_report(name: str) -> Any:
    return _read(workspace.PREPARED / name / "report.json")


def _score(who: str, measured: MapResult) -> Score:
    loaded = load_model(workspace.MODELS / who / workspace.MODEL_FILE)
    complexity = count(loaded.model, loaded.input_size)
    on = _read(workspace.METRICS)["measured_on"]
    synthetic = read_footage(workspace.RAW / "ivslab").source == "sample"
    return Score(
        role=who,
        model=loaded.model.name,
        map50=measured.map50,
        frames=measured.images,
        dataset=on["set"],
        synthetic=synthetic,
        params=complexity.params,
        conv_macs=complexity.conv_macs,
    )


def _data_section(classes: Sequence[str]) -> DataSection:
    weighed = _read(workspace.CLASS_WEIGHTS)["ivslab"]
    splits = tuple(
        SplitRow(
            dataset=name,
            split=split,
            labelled=counts["states"]["labelled"],
            empty=counts["states"]["empty"],
            unlabelled=counts["states"]["unlabelled"],
            boxes=sum(counts["boxes"].values()),
            ignored=counts["ignore_boxes"],
        )
        for name in DATA_SETS
        for split, counts in _prepare_report(name)["splits"].items()
    )
    frequencies = plots.class_frequencies(weighed["counts"], weighed["weights"])
    sheet = contact_sheet(_sample_frames(), classes, legend=False)
    return DataSection(
        splits=splits,
        classes=tuple(ClassRow(name, weighed["counts"][name], weighed["weights"][name]) for name in classes),
        frequencies=Picture(frequencies, "Boxes per class in ivslab's training frames, and their weights"),
        contact_sheet=Picture(encode_jpeg(sheet, JPEG_QUALITY), "Training frames with their boxes"),
    )


def _sample_frames() -> list[BoxedImage]:
    """Training frames spread over both sets."""
    sheet = []
    for name in DATA_SETS:
        prepared = PreparedSet(workspace.PREPARED / name, "train")
        for i in np.linspace(0, len(prepared) - 1, min(SHEET_FRAMES // 2, len(prepared)), dtype=int).tolist():
            frame = prepared.frame(i)
            sheet.append(BoxedImage(prepared.image(i), frame.boxes, frame.labels))
    return sheet


def _ap_rows(measured: dict[str, MapResult]) -> tuple[ApRow, ...]:
    teacher, student = measured["teacher"], measured["student"]
    return tuple(ApRow(name, boxes, teacher.ap50[name], student.ap50[name]) for name, boxes in student.counts.items())


def _slices(
    ground_truth: dict[str, Any], results: Sequence[CocoResult], classes: Sequence[str]
) -> tuple[SliceGroup, ...]:
    groups = [SliceGroup("Object size", tuple(slice_by_size(ground_truth, results, classes)))]
    for attribute, title in (("timeofday", "Time of day"), ("weather", "Weather")):
        slices = tuple(slice_by_attribute(ground_truth, results, classes, attribute))
        if len(slices) > 1:
            groups.append(SliceGroup(title, slices))
    return tuple(groups)


def _training_curves() -> tuple[Picture, ...]:
    pictures = []
    for who in ("teacher", "student"):
        lines = (workspace.MODELS / who / workspace.HISTORY_FILE).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        for phase, data_set in (("pretrain", "bdd100k"), ("finetune", "ivslab")):
            chosen = [
                {key: value for key, value in record.items() if key not in ("phase", "seconds", "learning_rate")}
                for record in records
                if record["phase"] == phase
            ]
            title = f"{who.capitalize()}, {phase} on {data_set}"
            pictures.append(Picture(plots.training_curves(chosen), f"{title}: losses and mAP@0.5 by epoch", title))
    return tuple(pictures)


def _drawn(frames: PreparedSet, results: Sequence[CocoResult], threshold: float) -> tuple[DrawnFrame, ...]:
    """Labelled frames spread over the set: ground truth beside the student's detections above the threshold."""
    with_boxes = [i for i in range(len(frames)) if frames.frame(i).state is FrameState.LABELLED]
    step = max(1, len(with_boxes) // DRAWN_FRAMES)
    return tuple(_drawn_frame(frames, i, results, threshold) for i in islice(with_boxes[::step], DRAWN_FRAMES))


def _drawn_frame(frames: PreparedSet, i: int, results: Sequence[CocoResult], threshold: float) -> DrawnFrame:
    frame, image = frames.frame(i), frames.image(i)
    found = [row for row in results if row["image_id"] == frame.id and row["score"] >= threshold]
    boxes = np.array([row["bbox"] for row in found], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([row["category_id"] - 1 for row in found], np.int64)
    scores = np.array([row["score"] for row in found], np.float32)
    truth = draw_boxes(image, frame.boxes, frame.labels, frames.classes)
    detected = draw_boxes(image, boxes, labels, frames.classes, scores)
    return DrawnFrame(
        frame.name,
        (
            Picture(encode_jpeg(truth, JPEG_QUALITY), f"{frame.name} with its labels", "Ground truth"),
            Picture(encode_jpeg(detected, JPEG_QUALITY), f"{frame.name} with the student's detections", "Student"),
        ),
    )


def _parity() -> tuple[ParityRow, ...]:
    """One row a precision that was exported or withdrawn, one an engine that was built."""
    report = _read(workspace.PARITY)
    rows = {name: report[name] for name in ("fp32", "fp16", "int8", "int8_cpu") if name in report}
    rows |= {f"engine, {name}": row for name, row in report["engine"]["measured"].items()}
    return tuple(
        ParityRow(
            precision=name,
            file=row["file"],
            bytes=row["bytes"],
            map50=row["map50"],
            map50_drop=row["map50_drop"],
            limit=row["limits"]["map50_drop"],
            passed=row["passed"],
            differences={f"{tensor['tensor']} ({tensor['unit']})": tensor["max_abs"] for tensor in row["tensors"]},
        )
        for name, row in rows.items()
    )


def _lineage() -> Lineage:
    return Lineage(
        git_commit=lineage.git_commit(),
        params_digest=lineage.params_digest(),
        data_digests=lineage.data_digests(),
        others=lineage.model_digests(),
    )
