"""Writes a prepared set: images resized once, boxes checked once, everything dropped or repaired on record.

The folder holds
- `images-00000.tar`, ...: the resized images (`mobile_centernet.data.store.shards`),
- `annotations_<split>.json`: a COCO document (`mobile_centernet.data.store.coco`),
- `report.json`: counts per split, and one finding for each item that was dropped or changed.

It is written in a work folder that outlives a kill: the next run continues after the last finished shard
(`mobile_centernet.data.prepare.journal`) and ends with the same bytes.
"""

import hashlib
import inspect
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mobile_centernet.data.annotations import Action, Boxes, Finding, Frame, FrameState, RawSet
from mobile_centernet.data.convert import ClassMap, convert
from mobile_centernet.data.parallel import in_order
from mobile_centernet.data.prepare.journal import Entry, Journal, KeptFrames, PreparedFrame
from mobile_centernet.data.readers.common import quarantined
from mobile_centernet.data.similarity.decoder_warnings import decoder_warnings
from mobile_centernet.data.similarity.duplicates import leakage, near_duplicates, videos_in_two_splits
from mobile_centernet.data.similarity.perceptual import NEAR_BITS, ImageHash, perceptual_hash
from mobile_centernet.data.store.coco import CocoWriter, Document, ImageEntry, annotations_name
from mobile_centernet.data.store.prepared import REPORT
from mobile_centernet.data.store.shards import ShardWriter
from mobile_centernet.errors import DataError
from mobile_centernet.files import write_json
from mobile_centernet.images import resize
from mobile_centernet.images.headers import jpeg_size, orientation
from mobile_centernet.images.opencv import decode_image, encode_jpeg

TRAIN = "train"
Size = tuple[int, int]


@dataclass
class SplitSummary:
    """What the report says about one split."""

    frames: int = 0
    videos: set[str] = field(default_factory=set)
    states: Counter[str] = field(default_factory=Counter)
    boxes: Counter[str] = field(default_factory=Counter)
    ignore_boxes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, frame: Frame, prepared: PreparedFrame, classes: Sequence[str]) -> None:
        """Count one frame."""
        self.frames += 1
        self.videos.add(frame.video)
        self.states[prepared.entry.state] += 1
        for label in prepared.entry.labels:
            self.boxes[classes[label]] += 1
        self.ignore_boxes += len(prepared.entry.regions)
        if prepared.dropped:
            self.dropped.update(prepared.dropped)

    def to_dict(self, classes: Sequence[str]) -> Document:
        """The counts as JSON, every class and state named even where it is 0."""
        return {
            "frames": self.frames,
            "videos": len(self.videos),
            "states": {str(state): self.states[state] for state in FrameState},
            "boxes": {name: self.boxes[name] for name in classes},
            "ignore_boxes": self.ignore_boxes,
            "dropped": dict(sorted(self.dropped.items())),
        }


def prepare(
    raw: RawSet,
    frames: Iterable[Frame],
    class_map: ClassMap,
    out: Path,
    *,
    max_size: Size = (360, 640),
    input_size: Size = (1, 1),
    quality: int = 90,
    workers: int | None = None,
    progress: bool = True,
    work: Path | None = None,
    keep: Path | None = None,
) -> Document:
    """Write `frames` to the folder `out`, which appears only when it is complete and replaces an older prepared set.

    Args:
        raw: what a reader found; its findings go into the report.
        frames: those of `raw` to store, each with its final split.
        class_map: which class each category is.
        out: a new folder, an empty one or an older prepared set.
        max_size, input_size: (height, width) that training images are shrunk towards, and not below: see `fit`.
        quality: of these JPEGs. Other splits keep their files' own bytes: what is scored is what a device sees.
        workers: processes that share the work (default: one per core), on whose number no byte depends.
        progress: show a progress bar, on a terminal.
        work: what a killed run had finished here (default: `.<name>.partial` beside `out`) is used again if frames,
            images (by size and time of change), settings and code are the same; only a failure leaves it.
        keep: a folder. What the last prepare left there of the same frames is taken as it is, and this one's is left.

    Returns:
        What `report.json` holds.

    Raises:
        DataError: `out` cannot be written or holds something else, a frame comes twice, or no frame can be used.
    """
    if not (frames := list(frames)):
        raise DataError("prepare: expected frames, found none")
    if odd := next((frame for frame in frames if not re.fullmatch(r"[\w-]+", frame.split)), None):
        raise DataError(f"{odd.name}: expected a split such as train, val or test, found {odd.split!r}")
    if twice := [name for name, count in Counter(frame.name for frame in frames).items() if count > 1]:
        raise DataError(f"prepare: expected every frame once, found {twice[0]} twice")

    splits = list(dict.fromkeys(frame.split for frame in frames))
    ordered = sorted(frames, key=lambda frame: splits.index(frame.split))
    settings = {"class_map": class_map, "max_size": max_size, "input_size": input_size, "quality": quality}
    store = partial(_store, root=raw.root, **settings)  # type: ignore[arg-type]
    classes, findings, summaries = class_map.classes, list(raw.findings), {split: SplitSummary() for split in splits}
    stored: list[tuple[Frame, ImageHash]] = []
    keys, kept = _keys(ordered, raw.root, settings), KeptFrames(keep)
    with _new_folder(out, keys, work, keep) as journal, ShardWriter(journal.set, journal.shards) as shards:
        left = list(zip(ordered, keys, strict=True))[journal.frames :]
        results = in_order(store, [frame for frame, key in left if key not in kept], workers)
        entries = chain(journal.entries(), _place(left, kept, results, shards, journal))
        shown = tqdm(zip(ordered, entries, strict=True), "prepare", len(ordered), disable=None if progress else True)
        for split, members in groupby(shown, key=lambda pair: pair[0].split):
            with CocoWriter(journal.set / annotations_name(split), classes) as coco:
                for frame, entry in members:
                    if isinstance(entry, Finding):
                        findings.append(entry)
                        continue
                    place, prepared = entry
                    coco.add(place, prepared.entry)
                    summaries[split].add(frame, prepared, classes)
                    stored.append((frame, prepared.hash))
                    findings += prepared.findings
        if not stored:
            raise DataError(f"{raw.root}: expected readable images, found none in {len(frames)} frames")
        report = {
            "classes": list(classes),
            "max_size": list(max_size),
            "input_size": list(input_size),
            "quality": quality,
            "splits": {split: summary.to_dict(classes) for split, summary in summaries.items()},
            "alike": _near_duplicates(stored, splits),
        }
        kinds = sorted((finding.kind, finding.action) for finding in findings)
        report |= {str(action): dict(Counter(kind for kind, how in kinds if how is action)) for action in Action}
        report["findings"] = [asdict(finding) for finding in findings]
        write_json(journal.set / REPORT, report)
    return report


def fit(size: Size, max_size: Size, input_size: Size = (1, 1)) -> Size:
    """The (height, width) that an image of `size` is stored with for training.

    The network's input is the whole frame stretched to `input_size`. A frame of another shape than `max_size` keeps at
    least as many pixels for each of the input's (two are enough), since it is stored as JPEG and shrunk once more.
    Only whole factors shrink, since pixels that are averaged in whole groups can be averaged once more with hardly a
    loss, while 640 → 542 → 320 blurs. So an image may be more than twice as large as `max_size`, either way up.
    """
    wanted = max(max(size) / max(max_size), min(size) / min(max_size))
    spare = max(1, min(2, max_size[0] / input_size[0], max_size[1] / input_size[1]))
    factor = max(1, int(min(wanted, size[0] / (spare * input_size[0]), size[1] / (spare * input_size[1]))))
    return max(1, round(size[0] / factor)), max(1, round(size[1] / factor))


def _keys(frames: Iterable[Frame], root: Path, settings: Mapping[str, object]) -> list[str]:
    """By frame, a digest of everything that its stored image and its entry in the journal depend on."""
    common = hashlib.sha256(repr((settings, cv2.__version__, np.__version__)).encode())
    for code in (
        prepare,
        decode_image,
        jpeg_size,
        decoder_warnings,
        perceptual_hash,
        convert,
        CocoWriter,
        ShardWriter,
        Journal,
    ):
        common.update(Path(inspect.getfile(code)).read_bytes())
    keys, above = [], f"{root}{os.sep}"
    for frame in frames:
        try:
            status = frame.image.stat()
            picture = (status.st_size, status.st_mtime_ns)
        except OSError:
            picture = None  # reported when its turn comes
        boxes = frame.boxes if isinstance(frame.boxes, Boxes) else Boxes(frame.boxes)
        facts = (frame.name, frame.video, frame.split, str(frame.state), frame.declared_size, dict(frame.attributes))
        line = repr((str(frame.image).removeprefix(above), picture, facts))
        digest = common.copy()
        digest.update(line.encode(errors="surrogateescape"))
        digest.update(boxes.packed())
        keys.append(digest.hexdigest())
    return keys


def _place(
    frames: Iterable[tuple[Frame, str]],
    kept: KeptFrames,
    results: Iterator[tuple[bytes, PreparedFrame] | Finding],
    shards: ShardWriter,
    journal: Journal,
) -> Iterator[Entry]:
    """Put images, `kept` ones or the next of `results`, into their shards, and note what is known about each frame."""
    for frame, key in frames:
        if key in kept:
            member, nbytes, text = kept.take(key)
            place = shards.add_member(member, nbytes)
            journal.add(key, place, text)
            yield place, PreparedFrame.decode(text)
            continue
        result = next(results)
        if isinstance(result, Finding):
            journal.add(key, None, json.dumps(asdict(result)))
            yield result
        else:
            data, prepared = result
            place = shards.add(_file_name(frame), data)
            journal.add(key, place, prepared.encode())
            yield place, prepared
    if any(True for _ in results):
        raise AssertionError("expected one result for each frame that is not kept, found more")


def _store(
    frame: Frame, *, root: Path, class_map: ClassMap, max_size: Size, input_size: Size, quality: int
) -> tuple[bytes, PreparedFrame] | Finding:
    """Read, check and, for training, shrink one frame: its file and what is known about it, or why it is not used."""
    item = os.path.relpath(frame.image, root)
    try:
        data = frame.image.read_bytes()
    except OSError as error:
        found = error.strerror or "an unreadable file"
        return quarantined("missing_image", item, "an image", found)
    original, reduction = jpeg_size(data), 1
    if original is not None:  # a JPEG may be shrunk while it is decoded, unless that ends up smaller than wanted
        wanted = fit(original, max_size, input_size)
        factor = min(original[0] / wanted[0], original[1] / wanted[1])
        # Of sides that it does not divide, the decoder rounds up, and shrinking that by 1.005 blurs every edge.
        exact = [each for each in (4, 2) if factor >= each and not (original[0] % each or original[1] % each)]
        reduction = exact[0] if exact else 1
    try:
        with decoder_warnings() as warnings:
            image = decode_image(data, item, reduction)
    except DataError as error:
        found = str(error).removeprefix(f"{item}: ").partition("found ")[2]
        return quarantined("unreadable_image", item, "an image that decodes completely", found)
    height, width = original or image.shape[:2]
    small = fit((height, width), max_size, input_size)
    size = small if frame.split == TRAIN else (height, width)
    scale = np.array([size[1] / width, size[0] / height] * 2)
    turned = orientation(data) if frame.declared_size not in (None, (height, width)) else 1
    checked = convert(frame, class_map, (height, width), turned)
    expected = "an image that decodes without errors"
    damage = [Finding("damaged_image", Action.IGNORED, item, expected, line) for line in warnings[:1]]
    scaled = replace(checked, boxes=checked.boxes * scale, ignore_boxes=checked.ignore_boxes * scale)
    resized = resize(image, small)
    stored = encode_jpeg(resized, quality) if frame.split == TRAIN else data
    entry = ImageEntry.of(frame, _file_name(frame), size, scaled)
    return stored, PreparedFrame(entry, perceptual_hash(resized), (*damage, *checked.findings), checked.dropped)


def _file_name(frame: Frame) -> str:
    """In the set: what is stored as it came keeps its kind."""
    return f"{frame.name}{'.jpg' if frame.split == TRAIN else frame.image.suffix.lower()}"


def _near_duplicates(stored: Sequence[tuple[Frame, ImageHash]], splits: Sequence[str]) -> Document:
    """How many frames of each split are near-copies of another of their video, or leaked from another split."""
    frames, hashes = [frame for frame, _ in stored], [own for _, own in stored]
    copies = Counter(frames[copy.frame].split for copy in near_duplicates(frames, hashes, NEAR_BITS))
    leaks = Counter(frames[copy.frame].split for copy in leakage(frames, hashes, [None] * len(frames), NEAR_BITS))
    return {
        "closer_than": NEAR_BITS,
        "near_copies": {split: copies[split] for split in splits},
        "leaked_frames": {split: leaks[split] for split in splits},
        "leaked_videos": [video for video, _ in videos_in_two_splits(frames)],
    }


@contextmanager
def _new_folder(out: Path, keys: Sequence[str], work: Path | None, keep: Path | None) -> Iterator[Journal]:
    """A journal whose set takes the place of `out`, and whose shards stay in `keep`, only when everything went well."""
    beside, replaced = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.replaced")
    folder = work or beside
    try:
        if out.exists() and not (out / REPORT).is_file() and not (out.is_dir() and not any(out.iterdir())):
            raise DataError(f"{out}: expected a new folder or an older prepared set, found something else")
        shutil.rmtree(replaced, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        journal = Journal(folder, hashlib.sha256("".join(keys).encode()).hexdigest())
        yield journal
        if keep:
            journal.keep(keep)
        complete = out.with_name(f".{out.name}.complete")
        shutil.rmtree(complete, ignore_errors=True)
        shutil.move(journal.set, complete)  # a copy where `work` is on another disk; renamed below, at once
        if out.exists():
            out.rename(replaced)
        complete.rename(out)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{out}: expected a folder that can be written ({error})") from error
    finally:
        shutil.rmtree(replaced, ignore_errors=True)
        if work is None:
            shutil.rmtree(beside, ignore_errors=True)
