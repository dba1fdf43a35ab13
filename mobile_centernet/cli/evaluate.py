"""`mobile-centernet evaluate`: mAP@0.5 of any model file on any labelled set."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import cv2
from tqdm import tqdm

from mobile_centernet.cli.options import device_option, json_option, threads_option
from mobile_centernet.cli.outputs import RESULTS, SOME_FAILED, TRUTH, make_writable, write_files
from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.readers.labelled import EvaluationSet, read_set
from mobile_centernet.errors import DataError, UserError, printable
from mobile_centernet.evaluation.coco_eval import CocoResult, evaluate_map50
from mobile_centernet.evaluation.detect import coco_results
from mobile_centernet.inference.detector import BaseDetector
from mobile_centernet.inference.load import open_model
from mobile_centernet.tables import text_table

UNREADABLE = frozenset({"missing_image", "missing_label", "unreadable_image", "unreadable_label"})
"""Findings that cost a whole frame."""


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--split", help="Split to score.  [default: test, else val, of a prepared set; all of any other set]")
@click.option("--images", type=click.Path(path_type=Path), help="Folder with the images of a COCO file.")
@click.option("--map", "mappings", multiple=True, metavar="CATEGORY=CLASS", help="Score as CLASS; CATEGORY= drops it.")
@click.option(
    "--unmapped",
    type=click.Choice(["refuse", "drop", "ignore"]),
    default="refuse",
    show_default=True,
    help="Categories that MODEL does not have.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for results.json and its ground_truth.json.")
@threads_option
@device_option
@json_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    model: str,
    data: Path,
    split: str | None,
    images: Path | None,
    mappings: Sequence[str],
    unmapped: Any,
    out: Path | None,
    threads: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Print mAP@0.5 and AP by class of MODEL on DATA: a prepared set, a raw one in any layout, or a COCO file.

    MODEL is a .onnx, .safetensors or .engine file or models:/NAME@ALIAS. Every detection counts, whatever its score;
    unlabelled frames are left out. Exit code 3: some frames could not be read.

    OUT/results.json holds every detection and OUT/ground_truth.json the scored frames and their boxes, in pixels of
    the frames and in MODEL's classes: pycocotools finds the same mAP with both.
    """
    # What OpenCV prints about a broken image, our own error says in one sentence.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    if not data.exists():
        raise DataError(f"{data}: expected a data set, found nothing")
    pairs = [text.partition("=") for text in mappings]
    for category, sign, _ in pairs:
        if not category or not sign:
            raise UserError(f"--map: expected CATEGORY=CLASS, or CATEGORY= to drop one, found {category + sign!r}")
    table = {category: name or None for category, _, name in pairs}
    with open_model(model, threads=threads, device=device) as opened:
        if out is not None:
            make_writable(out)
        frames = read_set(data, opened.classes, split, images, table, unmapped)
        truth, results, errors = detect_all(opened, frames)
        measured = evaluate_map50(truth, results, opened.classes)
        lost = [finding for finding in frames.findings if finding.kind in UNREADABLE]
        dirty = [finding for finding in frames.findings if finding.kind not in UNREADABLE]
        errors += [{"file_name": each.item, "error": f"expected {each.expected}, found {each.found}"} for each in lost]
        document = {
            "model": opened.name,
            "runs_on": opened.runs_on,
            "input_size": {"width": opened.input_size[1], "height": opened.input_size[0]},
            "data": frames.name,
            "frames": measured.images,
            "map50": measured.map50,
            "ap50": dict(measured.ap50),
            "boxes": dict(measured.counts),
            "no_class": dict(frames.no_class),
            "taken_as": dict(frames.taken_as),
            "errors": errors,
            "findings": [asdict(each) for each in dirty],
        }
    if out is not None:
        write_files(out, {RESULTS: results, TRUTH: truth})
    click.echo(json.dumps(document, indent=2, ensure_ascii=False) if as_json else _table(document))
    for row in errors[:3] if not as_json else ():
        click.echo(printable(f"left out: {row['file_name']}: {row['error']}"), err=True)
    if len(errors) > 3 and not as_json:
        click.echo(f"… {len(errors) - 3} more: --json", err=True)
    ctx.exit(SOME_FAILED if errors else 0)


def detect_all(
    model: BaseDetector, frames: EvaluationSet
) -> tuple[dict[str, Any], list[CocoResult], list[dict[str, str]]]:
    """The truth and the detections of all frames of which something is known, as COCO has them, and what failed.

    Raises DataError where not one frame could be read, and where labels were found that are of no use.
    """
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(model.classes)]
    truth: dict[str, Any] = {"info": {}, "images": [], "annotations": [], "categories": categories}
    results: list[CocoResult] = []
    errors: list[dict[str, str]] = []
    for number, frame in enumerate(tqdm(frames.frames, "evaluating", unit="frame", disable=None), start=1):
        try:
            image = frame.read()
        except DataError as error:
            errors.append({"file_name": frame.name, "error": str(error)})
            continue
        state, annotations = frame.annotate((image.shape[0], image.shape[1]))
        if state is FrameState.UNLABELLED:
            continue
        truth["images"].append(
            {"id": number, "file_name": frame.name, "width": image.shape[1], "height": image.shape[0]}
        )
        for annotation in annotations:
            width, height = annotation["bbox"][2:]
            ids = {"id": len(truth["annotations"]) + 1, "image_id": number}
            truth["annotations"].append(annotation | ids | {"area": width * height})
        results += coco_results(number, model.detect(image))
    if not truth["images"] and errors:
        raise DataError(f"{frames.name}: no frame could be read, of {len(errors)} tried; first {errors[0]['error']}")
    if not truth["annotations"] and frames.findings:
        kinds = Counter(each.kind for each in frames.findings)
        first = frames.findings[0]
        several = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        raise DataError(
            f"{frames.name}: mAP is undefined without ground truth, found none in {len(truth['images'])} labelled "
            f"frames, but {several}; first {first.item}: expected {first.expected}, found {first.found}"
        )
    return truth, results, errors


def _table(document: dict[str, Any]) -> str:
    size = "{width}x{height}".format(**document["input_size"])
    boxes = document["boxes"]
    cells = [("class", "AP@0.5", "boxes")]
    for name, value in document["ap50"].items():
        cells.append((name, f"{value:.4f}" if value is not None else "-", f"{boxes[name]:,}"))
    cells.append(("mAP@0.5", f"{document['map50']:.4f}", f"{sum(boxes.values()):,}"))
    rows = [
        f"{document['model']} ({document['runs_on']}, {size}) on {document['data']}, {document['frames']:,} frames",
        text_table(cells, "<>"),
    ]
    if document["taken_as"]:
        rows.append("taken as: " + ", ".join(f"{category} → {name}" for category, name in document["taken_as"].items()))
    if document["no_class"]:
        names = ", ".join(f"{name} ({count:,})" for name, count in document["no_class"].items())
        rows.append(f"boxes of no class of the model: {names}")
    kinds = Counter(finding["kind"] for finding in document["findings"])
    rows += [f"labels: {count:,} {kind}" for kind, count in kinds.most_common()]
    return "\n".join(rows)
