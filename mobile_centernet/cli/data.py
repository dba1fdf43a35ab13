"""`mobile-centernet data`: is this set fit for training, what does it look like, and hand it to other tools."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.check.checks import BOX_SIZES, NOTES, PROBLEMS, CheckReport, Problem
from mobile_centernet.data.check.checks import check as check_source
from mobile_centernet.data.readers.layouts import Layout, read_source
from mobile_centernet.data.store.formats import ExportFormat, export_set
from mobile_centernet.data.store.prepared import PreparedSet, StoredFrame
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.files import write_atomically
from mobile_centernet.reports.check_page import write_check_page
from mobile_centernet.reports.drawing import BoxedImage, contact_sheet

PROBLEMS_FOUND = 1
SOME_FAILED = 3
EXAMPLES = 3
IGNORED = "ignore region"


def check(
    source: Path, layout: str | None, categories: str | None, closer_than: int, as_json: bool, page: Path | None
) -> int:
    """Check a set in any layout, print the result and write it to `page`. Returns 1 where something is to be mended.

    `categories` are the expected ones, separated by commas. Raises UserError when there is no such set.
    """
    expected = None if categories is None else [each for each in categories.split(",") if each.strip()]
    if page is not None and not page.resolve().parent.is_dir():
        raise UserError(f"{page}: expected a page in an existing folder, found no {page.parent}")
    report = check_source(read_source(source, Layout(layout) if layout else None), expected, closer_than=closer_than)
    text = json.dumps(report.to_dict(), indent=2) if as_json else "\n".join(_summary(report))
    click.echo(text.encode(errors="backslashreplace").decode())  # file names need not be UTF-8
    if page is not None:
        write_check_page(page, report)
    return 0 if report.clean else PROBLEMS_FOUND


def _summary(report: CheckReport) -> list[str]:
    kinds = len({problem.finding.kind for problem in report.problems})
    verdict = "clean" if report.clean else f"{len(report.problems):,} problems of {_count(kinds, 'kind')}"
    frames = f"{_count(len(report.frames), 'frame')}, layout {report.source.layout}"
    rows = [f"{report.source.root}: {verdict} ({frames})", ""]
    columns = ("frames", "videos", *map(str, FrameState))
    splits = {name or "(none)": [str(row[key]) for key in columns] for name, row in report.splits().items()}
    rows += _table("split", columns, splits)
    columns = ("boxes", *BOX_SIZES, "ignored")
    categories = {
        name if row["known"] else f"{name} (unknown)": [str(row[key]) for key in columns]
        for name, row in report.categories().items()
    }
    rows += ["", *_table("category", columns, categories)]
    rows += ["small < 32² ≤ medium < 96² ≤ large, in the picture's own pixels"]
    for title, problems, meanings in (("problem", report.problems, PROBLEMS), ("note", report.notes, NOTES)):
        if problems:
            rows += ["", *_kinds(title, problems, meanings)]
    if unknown := [name for name, row in report.categories().items() if not row["known"]]:
        rows += ["", f"If these categories are right, name all that are: --categories ...,{','.join(unknown[:5])}"]
    return rows


def _kinds(title: str, problems: Sequence[Problem], meanings: Mapping[str, str]) -> list[str]:
    """Each kind with its number, what it means, and its first examples."""
    by_kind = defaultdict(list)
    for problem in problems:
        by_kind[problem.finding.kind].append(problem.finding)
    rows = [f"{title:<20}{'items':>7}"]
    for kind, findings in sorted(by_kind.items(), key=lambda item: -len(item[1])):
        rows.append(f"{kind:<20}{len(findings):>7}  {meanings[kind]}")
        rows += [f"{'':<29}{each.item}: expected {each.expected}, found {each.found}" for each in findings[:EXAMPLES]]
        if len(findings) > EXAMPLES:
            rows.append(f"{'':<29}… {len(findings) - EXAMPLES:,} more: --json or --html")
    return rows


def _table(first: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    """Rows under headings, the first column to the left, numbers to the right."""
    wide = max(len(first), *map(len, rows), 0) if rows else len(first)
    widths = [max(len(cell) for cell in column) for column in zip_longest(columns, *rows.values(), fillvalue="")]
    return [
        f"{name:<{wide}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        for name, cells in [(first, columns), *rows.items()]
    ]


def show(root: Path, out: Path, split: str | None, count: int, seed: int) -> int:
    """Draw `count` frames of a prepared set with their boxes. Returns 3 where some could not be read, else 0.

    Frames are chosen at random by `seed`, from those whose content is known where there are any.
    Raises UserError when there is no such set or split, or the picture cannot be written.
    """
    if out.suffix.lower() != ".png":
        raise UserError(f"{out}: expected a file name that ends in .png")
    split = split or _first_split(root)
    prepared = PreparedSet(root, split)
    frames, failures = _sheet(prepared, count, seed)
    if not frames:
        raise UserError(f"{root}: expected frames to show in split {split}, found none ({'; '.join(failures[:1])})")
    has_regions = any(len(prepared.classes) in frame.labels for frame in frames)
    sheet = contact_sheet(frames, (*prepared.classes, IGNORED) if has_regions else prepared.classes)
    encoded, content = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise UserError(f"{out}: OpenCV cannot write a picture of {sheet.shape[1]}x{sheet.shape[0]} pixels")
    _write(out, content.tobytes())
    click.echo(f"{_count(len(frames), 'frame')} of {len(prepared):,} in split {split} → {out}")
    for failure in failures:
        click.echo(f"not shown: {failure}", err=True)
    return SOME_FAILED if failures else 0


def _first_split(root: Path) -> str:
    found = sorted(path.stem.removeprefix("annotations_") for path in root.glob("annotations_*.json"))
    if not found:
        raise UserError(f"{root}: expected a prepared set (annotations_<split>.json), found none")
    return "train" if "train" in found else found[0]


def _sheet(prepared: PreparedSet, count: int, seed: int) -> tuple[list[BoxedImage], list[str]]:
    """The chosen frames, and why others of them cannot be shown."""
    order = np.random.default_rng(seed).permutation(len(prepared)).tolist()
    known = [number for number in order if prepared.frame(number).state is not FrameState.UNLABELLED]
    frames: list[BoxedImage] = []
    failures: list[str] = []
    for number in sorted((known or order)[:count]):
        try:
            frames.append(_boxed(prepared.image(number), prepared.frame(number), len(prepared.classes)))
        except DataError as error:
            failures.append(str(error))
    return frames, failures


def _boxed(image: NDArray[np.uint8], frame: StoredFrame, ignored: int) -> BoxedImage:
    """A frame whose ignore regions are drawn as one more class."""
    boxes = np.concatenate([frame.boxes, frame.ignore_boxes])
    labels = np.concatenate([frame.labels, np.full(len(frame.ignore_boxes), ignored, np.int64)])
    return BoxedImage(image, boxes, labels)


def export(root: Path, format: str, out: Path) -> int:
    """Write a prepared set in the files of another tool. Returns 3 where some pictures could not be read, else 0.

    Raises UserError when there is no such set, or `out` is not empty or cannot be written.
    """
    result = export_set(root, ExportFormat(format), out)
    for split, counts in result.splits.items():
        click.echo(f"{split}: {_count(counts.frames, 'frame')}, {_count(counts.boxes, 'box', 'boxes')}")
    for sentence in result.remarks():
        click.echo(sentence)
    click.echo(f"→ {out}")
    for item in result.damaged:
        click.echo(f"left out, because its picture is damaged: {item}", err=True)
    return SOME_FAILED if result.damaged else 0


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def _count(number: int, name: str, several: str = "") -> str:
    return f"{number:,} {name if number == 1 else several or name + 's'}"
