"""What `data check` found as one self-contained page: pictures inline, no links outward, no scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.data.annotations import Box, Frame
from mobile_centernet.data.check.checks import NOTES, PROBLEMS, CheckReport, Problem
from mobile_centernet.data.readers.layouts import SourceFrame
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.images.opencv import decode_image, encode_jpeg
from mobile_centernet.reports.drawing import draw_boxes
from mobile_centernet.reports.page import Picture, write_page
from mobile_centernet.reports.palette import class_colour

SHOWN = 6  # examples of each kind
WIDTH, QUALITY = 480, 80
MARGIN = 0.08  # of the width, around each picture: boxes that reach outside are seen
SOUND, AT_FAULT = 0, 5  # places in the palette: blue and vermilion


@dataclass(frozen=True, slots=True)
class Example:
    """One finding, with the pictures that show it, where there are any."""

    item: str
    expected: str
    found: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """Findings of one kind, with some of them as examples."""

    name: str
    meaning: str
    count: int
    examples: tuple[Example, ...]


def write_check_page(path: Path, report: CheckReport) -> None:
    """Write the page, whole or not at all. Raises UserError where it cannot be written."""
    try:
        write_page(
            path,
            "check.html.j2",
            report=report,
            problems=_kinds(report, report.problems, PROBLEMS),
            notes=_kinds(report, report.notes, NOTES),
            sound=class_colour(SOUND),
            at_fault=class_colour(AT_FAULT),
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def _kinds(report: CheckReport, problems: Sequence[Problem], meanings: Mapping[str, str]) -> list[Kind]:
    by_kind: dict[str, list[Problem]] = {}
    for problem in problems:
        by_kind.setdefault(problem.finding.kind, []).append(problem)
    return [
        Kind(kind, meanings[kind], len(found), tuple(_example(report, problem) for problem in _spread(found)))
        for kind, found in sorted(by_kind.items(), key=lambda item: -len(item[1]))
    ]


def _spread(problems: Sequence[Problem]) -> list[Problem]:
    """Some of them, from all over the set."""
    places = np.linspace(0, len(problems) - 1, min(SHOWN, len(problems))).round().astype(int).tolist()
    return [problems[place] for place in places]


def _example(report: CheckReport, problem: Problem) -> Example:
    entries = [report.source.entries[number] for number in problem.frames]
    pictures = (_picture(entry, problem.box if place == 0 else None) for place, entry in enumerate(entries))
    finding = problem.finding
    return Example(finding.item, finding.expected, finding.found, tuple(filter(None, pictures)))


def _picture(entry: SourceFrame, at_fault: int | None) -> Picture | None:
    """A frame with its boxes, the one at fault in its own colour; None where the picture cannot be decoded."""
    frame = entry.frame
    try:
        image = decode_image(entry.read(), frame.name)
    except (OSError, DataError):
        return None
    margin = round(image.shape[1] * MARGIN)
    framed = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=(238, 238, 238))
    corners, labels = _boxes(frame, at_fault, margin, image.shape[:2])
    drawn = draw_boxes(np.asarray(framed, np.uint8), corners, labels, [""] * 8, width=WIDTH, named=False)
    return Picture(encode_jpeg(drawn, QUALITY), f"{frame.name} with its boxes", f"{frame.split} {frame.name}".strip())


def _boxes(
    frame: Frame, at_fault: int | None, margin: int, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The boxes that can be drawn on a picture with a margin around it, and their places in the palette."""
    drawable = [(number, box) for number, box in enumerate(frame.boxes) if np.isfinite(box.xyxy).all()]
    corners = np.array([_sorted(box) for _, box in drawable], np.float64).reshape(-1, 4) + margin
    limits = np.array([size[1], size[0]] * 2) + 2 * margin - 1
    labels = [AT_FAULT if number == at_fault else SOUND for number, _ in drawable]
    return np.clip(corners, 0, limits).astype(np.float32), np.array(labels, np.int64)


def _sorted(box: Box) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box.xyxy
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
