"""`mobile-centernet label`: frames that devices sent go to CVAT or Label Studio as COCO, and come back reviewed.

The folder in between is a COCO set that everything here reads: a frame that nobody has reviewed is unlabelled in it,
whatever boxes it has, so that no model trains on its own guesses.
"""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath
from typing import Any

import click
import numpy as np

from mobile_centernet.boxes import box_iou, xywh_to_xyxy, xyxy_to_xywh
from mobile_centernet.cli.options import MODEL_HELP
from mobile_centernet.cli.outputs import counted
from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.readers.layouts import read_source
from mobile_centernet.data.similarity.perceptual import decode_reduced, perceptual_hash
from mobile_centernet.errors import DataError, UserError, printable
from mobile_centernet.files import new_folder, write_json
from mobile_centernet.inference.load import open_model
from mobile_centernet.intake import DOCUMENT, LeftOut, Views, received

SAME_OBJECT, SAME_BOX = 0.5, 0.98  # IoU


@click.group()
def label() -> None:
    """Have frames that devices sent reviewed by people."""


@label.command("export")
@click.argument("inbox")
@click.option("--model", metavar="MODEL", required=True, help=f"Model for the initial boxes. {MODEL_HELP}")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New or empty folder to write.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Set whose near-duplicates are left out; repeatable.",
)
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Lowest score of an initial box."
)
def export_(inbox: str, model: str, out: Path, against: tuple[Path, ...], threshold: float) -> None:
    """Write what devices have sent to INBOX (a folder, s3://..., gs://...) as COCO, for CVAT and Label Studio.

    Damaged frames and near-copies of the sets given are left out and counted; INBOX stays as it is.
    """
    known = Views(
        perceptual_hash(decode_reduced(entry.read(), entry.frame.name)[0])
        for folder in against
        for entry in read_source(folder).entries
    )
    fates: Counter[str] = Counter()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with open_model(model) as detector, new_folder(out, "cannot be written", DataError) as folder:
        for each in received(inbox, known):
            if isinstance(each, LeftOut):
                fates[each.fate] += 1
                if each.found:
                    click.echo(printable(f"left out: {each.item}: {each.found}"), err=True)
                continue
            path = folder / "images" / each.place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(each.data)
            images.append({
                "id": len(images) + 1, "file_name": each.place, "width": each.image.shape[1],
                "height": each.image.shape[0], "state": FrameState.UNLABELLED, "reason": each.record.get("reason"),
                "release": each.record.get("release"),
            })  # fmt: skip
            found = detector.detect(each.image).above(threshold)
            for box, row, score in zip(xyxy_to_xywh(found.boxes), found.labels, found.scores, strict=True):
                annotations.append({
                    "id": len(annotations) + 1, "image_id": len(images), "category_id": int(row) + 1, "iscrowd": 0,
                    "bbox": [round(float(side), 1) for side in box], "area": round(float(box[2] * box[3]), 1),
                    "segmentation": [], "score": round(float(score), 4),
                })  # fmt: skip
        if not images:
            found_there = ", ".join(f"{count} {fate}" for fate, count in sorted(fates.items())) or "none"
            raise UserError(f"{inbox}: expected frames to label, found {found_there}")
        categories = [{"id": number, "name": each} for number, each in enumerate(detector.classes, start=1)]
        (folder / DOCUMENT).parent.mkdir()
        write_json(folder / DOCUMENT, {"categories": categories, "images": images, "annotations": annotations})
    said = "".join(f", {count} {fate}" for fate, count in sorted(fates.items()))
    click.echo(f"{counted(len(images), 'frame')}, {counted(len(annotations), 'box', 'boxes')}{said} → {out}")


@label.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("reviewed", type=click.Path(path_type=Path))
@click.option("--by", required=True, help="Name recorded as reviewer of every image in REVIEWED.")
def import_(folder: Path, reviewed: Path, by: str) -> None:
    """Take the boxes of REVIEWED, a COCO document, for the frames in FOLDER, which `label export` wrote.

    Its images are labelled from now on (without a box: verified empty); all others stay as they are.
    """
    own, theirs = _document(folder / DOCUMENT), _document(reviewed)
    labels = {each["name"]: each["id"] for each in own["categories"]}
    places = {each["file_name"].rpartition("/")[2]: each for each in own["images"]}
    categories = {each["id"]: each["name"] for each in theirs["categories"]}
    # Tools may cut folders off, or write them as Windows does.
    images = {each["id"]: places.get(PureWindowsPath(str(each["file_name"])).name) for each in theirs["images"]}
    if strangers := [each["file_name"] for each in theirs["images"] if images[each["id"]] is None]:
        raise DataError(f"{reviewed}: expected images of {folder}, found {', '.join(map(str, strangers[:3]))}")
    boxes: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in images.values() if image}
    for row in theirs["annotations"]:
        image, name = images.get(row.get("image_id")), categories.get(row.get("category_id"))
        box = row.get("bbox")
        is_box = isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)
        if image is None or name not in labels or not is_box or not np.isfinite(box).all() or min(box[2:]) <= 0:
            expected = f"a box of one of its images and of {', '.join(labels)}"
            raise DataError(f"{reviewed}: expected {expected}, found {json.dumps(row)[:200]}")
        boxes[image["id"]].append({
            "image_id": image["id"], "category_id": labels[name], "bbox": box, "area": box[2] * box[3],
            "iscrowd": int(bool(row.get("iscrowd"))), "segmentation": [],
        })  # fmt: skip
    changes: Counter[str] = Counter()
    for image_id, new in boxes.items():
        old = [row for row in own["annotations"] if row["image_id"] == image_id]
        sides = [np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4) for rows in (old, new)]
        sides = list(map(xywh_to_xyxy, sides))
        overlap = box_iou(sides[0][:, None], sides[1])
        same = np.array([[a["category_id"] == b["category_id"] for b in new] for a in old], bool).reshape(overlap.shape)
        overlap = np.where(same, overlap, 0)
        matched = 0
        while overlap.size and overlap.max() >= SAME_OBJECT:
            row_, column = np.unravel_index(overlap.argmax(), overlap.shape)
            changes["moved"] += bool(overlap[row_, column] < SAME_BOX)
            matched += 1
            overlap[row_], overlap[:, column] = 0, 0
        changes["added"] += len(new) - matched
        changes["removed"] += len(old) - matched
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    for image in own["images"]:
        if image["id"] in boxes:
            state = FrameState.LABELLED if boxes[image["id"]] else FrameState.EMPTY
            image.update(state=state, reviewed_by=by, reviewed_at=now)
    kept = [row for row in own["annotations"] if row["image_id"] not in boxes]
    rows = [*kept, *(row for each in boxes.values() for row in each)]
    own["annotations"] = [{**row, "id": number} for number, row in enumerate(rows, start=1)]
    write_json(folder / DOCUMENT, own)
    said = ", ".join(f"{changes[kind]} {kind}" for kind in ("added", "moved", "removed"))
    waiting = sum(image["state"] == FrameState.UNLABELLED for image in own["images"])
    click.echo(f"{counted(len(boxes), 'frame')} reviewed by {by}; boxes: {said}; {counted(waiting, 'frame')} left")


def _document(path: Path) -> dict[str, Any]:
    """A COCO document. Raises DataError where it is none."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected a COCO document, found none ({error})") from error
    needed = {"images": {"id", "file_name"}, "annotations": set(), "categories": {"id", "name"}}
    for part, keys in needed.items():
        rows = document.get(part) if isinstance(document, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= keys for row in rows):
            raise DataError(f"{path}: expected a COCO document with a list of {part}, found none")
    return dict(document)
