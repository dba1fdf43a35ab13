"""Frames that devices sent, as a folder or a bucket holds them: DEVICE/NAME/DAY/DIGEST.jpg, DIGEST.json beside it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.boxes import xyxy_to_xywh
from mobile_centernet.data.annotations import Box, Finding, Frame, FrameState
from mobile_centernet.data.readers.coco import read_coco
from mobile_centernet.data.readers.common import quarantined
from mobile_centernet.data.similarity.perceptual import BITS, NEAR_BITS, ImageHash, perceptual_hash
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.field.spool import parse_record
from mobile_centernet.files import write_atomically, write_json
from mobile_centernet.images.opencv import decode_image
from mobile_centernet.trust.layout import DEVICE_NAME

DOCUMENT = Path("annotations/instances_field.json")
"""In the COCO folders that hold such frames."""

SHORT = 12
"""Digits of its digest at the end of a frame's name."""


class Views:
    """What was seen already, by perceptual hash."""

    def __init__(self, hashes: Iterable[ImageHash] = ()) -> None:
        self._hashes = np.array(list(hashes), np.uint8).reshape(-1, BITS // 8)

    def are_new_with(self, image: NDArray[np.uint8]) -> bool:
        """Whether an RGB image [H, W, 3] is nobody's near-copy; then it is remembered."""
        own = perceptual_hash(image)
        if (np.bitwise_count(self._hashes ^ own).sum(axis=1, dtype=np.int64) < NEAR_BITS).any():
            return False
        self._hashes = np.vstack([self._hashes, own])
        return True


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedFrame:
    """A frame that is whole.

    Attributes:
        place: as VIDEO/NAME.jpg; a video is all of one device, camera and day (UTC), as the readers know its folder.
        digest: SHA-256 of the file.
        record: what the device says about it.
        data: the file.
        image: RGB uint8 [H, W, 3].
    """

    place: str
    digest: str
    record: Mapping[str, Any]
    data: bytes
    image: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A record whose frame is not used: `fate` is one of "not whole yet", "damaged", "twice" and "near-copies"."""

    item: str
    digest: str
    fate: str
    found: str = ""


def records_in(inbox: str) -> tuple[fsspec.AbstractFileSystem, str, list[str]]:
    """The file system of an inbox (a folder, s3://..., gs://...), its root there, and the records below it, sorted.

    Raises UserError where there is none.
    """
    try:
        files, root = fsspec.core.url_to_fs(inbox)
        return files, root, sorted(name for name in files.find(root) if name.endswith(".json"))
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{inbox}: expected a folder or bucket of frames, found none ({error})") from error


def received(inbox: str, known: Views, keep: Path | None = None) -> Iterator[ReceivedFrame | LeftOut]:
    """Each frame that is whole and shows something new, and what is left out. The inbox stays as it is.

    Args:
        inbox: a folder, s3://..., gs://...
        known: views of which no near-copy is wanted; the frames' own are added.
        keep: a folder for what was fetched, so that it is not fetched again; None: none.

    Raises:
        UserError: there is no inbox, or it cannot be read.
    """
    files, root, names = records_in(inbox)
    seen: set[str] = set()
    for name in names:
        item, digest = name.removeprefix(root).lstrip("/"), name.rpartition("/")[2].removesuffix(".json")
        try:
            record = parse_record(files.cat_file(name), digest)
            kept = keep / f"{digest}.jpg" if keep else None
            is_kept = kept is not None and kept.is_file()
            data = kept.read_bytes() if kept and is_kept else files.cat_file(f"{name.removesuffix('.json')}.jpg")
            who = [str(record.get(key)) for key in ("device", "camera")]
            at = datetime.fromisoformat(str(record.get("at"))).astimezone(UTC)
            if sha256(data).hexdigest() != digest or not all(map(DEVICE_NAME.fullmatch, who)):
                raise ValueError("expected the bytes and names that its record says, found others")
            image = decode_image(data, item)
        except FileNotFoundError:
            yield LeftOut(item, digest, "not whole yet")
            continue
        except (ValueError, OverflowError, DataError) as error:
            yield LeftOut(item, digest, "damaged", str(error))
            continue
        except OSError as error:
            raise UserError(f"{inbox}: expected {item}, found none ({error})") from error
        if kept and not is_kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, data)
        if digest in seen:
            yield LeftOut(item, digest, "twice")
            continue
        seen.add(digest)
        if not known.are_new_with(image):
            yield LeftOut(item, digest, "near-copies")
            continue
        video = "_".join([*who, f"{at:%Y-%m-%d}.mp4"])
        yield ReceivedFrame(f"{video}/{video}_{at:%H%M%S}_{digest[:SHORT]}.jpg", digest, record, data, image)


@dataclass
class Collected:
    """What `collect` wrote and left out.

    Attributes:
        files: SHA-256 of each image, by its place.
        fates: frames by state, and by why they were left out.
        findings: about what is damaged.
    """

    files: dict[str, str] = field(default_factory=dict)
    fates: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


def collect(inbox: str, reviewed: Path, known: Views, out: Path, keep: Path | None = None) -> Collected:
    """Write a COCO set of an inbox's frames and of those that people reviewed, the latter first and with their boxes.

    Args:
        inbox, known, keep: see `received`.
        reviewed: folder below which the folders of `mobile-centernet label` lie. Where several have a frame reviewed,
            the last one's boxes count, in the order of their paths. What is no folder holds none.
        out: the set; without any frame it is not written.

    Raises:
        UserError: the inbox cannot be read.
        DataError: a folder of labels, or an image in it.
    """
    done = Collected()
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    categories: dict[str, int] = {}

    def store(place: str, data: bytes, image: NDArray[np.uint8], state: FrameState, boxes: Iterable[Box] = ()) -> None:
        path = out / "images" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        done.files[place] = sha256(data).hexdigest()
        done.fates[state] += 1
        height, width = image.shape[:2]
        number = len(images) + 1
        images.append({"id": number, "file_name": place, "height": height, "width": width, "state": state})
        for box in boxes:
            category = categories.setdefault(box.category, len(categories) + 1)
            xywh = [float(side) for side in xyxy_to_xywh(np.array(box.xyxy))]
            row = {"id": len(rows) + 1, "image_id": number, "category_id": category, "bbox": xywh}
            rows.append({**row, "iscrowd": int(box.ignore), "area": xywh[2] * xywh[3], "segmentation": []})

    labelled: dict[str, Frame] = {}
    for document in sorted(reviewed.glob(f"**/{DOCUMENT}")) if reviewed.is_dir() else ():
        queue = read_coco(document.parents[1])
        done.findings += queue.findings
        labelled |= {each.image.name: each for each in queue.frames if each.state is not FrameState.UNLABELLED}
    digests = set()
    for name, frame in sorted(labelled.items()):
        data = frame.image.read_bytes()
        digest = sha256(data).hexdigest()
        if frame.image.stem.rpartition("_")[2] != digest[:SHORT]:
            expected = f"the file that `mobile-centernet label` wrote, SHA-256 {frame.image.stem.rpartition('_')[2]}..."
            done.findings.append(quarantined("unreadable_image", str(frame.image), expected, digest))
            done.fates["damaged"] += 1
            continue
        if not np.isfinite([box.xyxy for box in frame.boxes]).all():
            raise DataError(f"{frame.image}: expected boxes of finite numbers, found others")
        digests.add(digest)
        image = decode_image(data, name)
        if known.are_new_with(image):
            store(f"{frame.image.parent.name}/{name}", data, image, frame.state, frame.boxes)
        else:
            done.fates["near-copies"] += 1
    for each in received(inbox, known, keep):
        if each.digest in digests:
            continue
        if isinstance(each, ReceivedFrame):
            store(each.place, each.data, each.image, FrameState.UNLABELLED)
            continue
        done.fates[each.fate] += 1
        if each.fate == "damaged":
            expected = "a frame of the bytes that its record says"
            done.findings.append(quarantined("unreadable_image", each.item, expected, each.found))
    if images:
        named = [{"id": number, "name": name} for name, number in categories.items()]
        (out / DOCUMENT).parent.mkdir(parents=True)
        write_json(out / DOCUMENT, {"categories": named, "images": images, "annotations": rows})
    return done
