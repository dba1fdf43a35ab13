"""`mobile-centernet label`: frames that devices sent go to CVAT or Label Studio as COCO, and come back reviewed.

The folder in between is a COCO set that everything here reads: a frame that nobody has reviewed is unlabelled in it,
whatever boxes it has, so that no model trains on its own guesses.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path, PureWindowsPath
from typing import Any

import click
import fsspec
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.boxes import box_iou, xywh_to_xyxy, xyxy_to_xywh
from mobile_centernet.cli.options import MODEL_HELP
from mobile_centernet.cli.outputs import counted
from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.readers.layouts import read_source
from mobile_centernet.data.similarity.perceptual import (
    BITS,
    NEAR_BITS,
    Hashes,
    decode_reduced,
    nearest,
    perceptual_hash,
)
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.field.spool import parse_record
from mobile_centernet.files import new_folder, write_json
from mobile_centernet.images.opencv import decode_image
from mobile_centernet.inference.load import open_model
from mobile_centernet.trust.layout import DEVICE_NAME

DOCUMENT = Path("annotations/instances_field.json")
SAME_OBJECT, SAME_BOX = 0.5, 0.98  # IoU


@click.group()
def label() -> None:
    """Have frames that devices sent reviewed by people."""


@label.command("export")
@click.argument("inbox")
@click.option("--model", metavar="MODEL", required=True, help=f"Draws the boxes to begin with. {MODEL_HELP}")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New or empty folder to write.")
@click.option("--against", type=click.Path(path_type=Path), multiple=True, help="A set whose near-copies are left out.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Least score of a box.")
def export_(inbox: str, model: str, out: Path, against: tuple[Path, ...], threshold: float) -> None:
    """Write what devices have sent to INBOX (a folder, s3://..., gs://...) as COCO, for CVAT and Label Studio.

    Damaged frames and near-copies of the sets given are left out and counted; INBOX stays as it is.
    """
    try:
        files, root = fsspec.core.url_to_fs(inbox)
        names = sorted(name for name in files.find(root) if name.endswith(".json"))
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{inbox}: expected a folder or bucket of frames, found none ({error})") from error
    known: Hashes = np.array(
        [
            perceptual_hash(decode_reduced(entry.read(), entry.frame.name)[0])
            for folder in against
            for entry in read_source(folder).entries
        ],
        np.uint8,
    ).reshape(-1, BITS // 8)
    fates: Counter[str] = Counter()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with open_model(model) as detector, new_folder(out, "cannot be written", DataError) as folder:
        for place, record, data, image in _received(files, names, known, fates):
            path = folder / "images" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            images.append({
                "id": len(images) + 1, "file_name": place, "width": image.shape[1],
                "height": image.shape[0], "state": FrameState.UNLABELLED, "reason": record.get("reason"),
                "release": record.get("release"),
            })  # fmt: skip
            found = detector.detect(image).above(threshold)
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


def _received(
    files: fsspec.AbstractFileSystem, names: Iterable[str], known: Hashes, fates: Counter[str]
) -> Iterator[tuple[str, dict[str, Any], bytes, NDArray[np.uint8]]]:
    """Each frame that is whole and new: VIDEO/NAME.jpg, record, file and pixels; `fates` counts the rest."""
    seen: set[str] = set()
    for name in names:
        digest = name.rpartition("/")[2].removesuffix(".json")
        try:
            record = parse_record(files.cat_file(name), digest)
            data = files.cat_file(f"{name.removesuffix('.json')}.jpg")
            who = [str(record.get(key)) for key in ("device", "camera")]
            at = datetime.fromisoformat(str(record.get("at"))).astimezone(UTC)
            if sha256(data).hexdigest() != digest or not all(map(DEVICE_NAME.fullmatch, who)):
                raise ValueError("expected the bytes and names that its record says, found others")
            image = decode_image(data, name)
        except FileNotFoundError:
            fates["not whole yet"] += 1
            continue
        except (ValueError, OverflowError, DataError) as error:
            click.echo(f"left out: {name}: {error}", err=True)
            fates["damaged"] += 1
            continue
        if digest in seen:
            fates["twice"] += 1
        elif len(known) and nearest(perceptual_hash(image)[None], known)[0][0] < NEAR_BITS:
            fates["near-copies"] += 1
        else:
            seen.add(digest)
            video = "_".join([*who, f"{at:%Y-%m-%d}.mp4"])  # as the readers know a video's folder
            yield f"{video}/{video}_{at:%H%M%S}_{digest[:12]}.jpg", record, data, image


@label.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("reviewed", type=click.Path(path_type=Path))
@click.option("--by", required=True, help="Who has reviewed every image of the document.")
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
