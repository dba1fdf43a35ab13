"""What `data check` found as one self-contained page: images inline, no links outward, no scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mobile_centernet.data.check.checks import NOTES, PROBLEMS, CheckReport, Problem
from mobile_centernet.data.readers.layouts import SourceFrame
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.images.opencv import decode_image, encode_jpeg
from mobile_centernet.reports.drawing import draw_boxes
from mobile_centernet.reports.page import Picture, write_page
from mobile_centernet.reports.style import class_colour

SHOWN = 6  # examples of each kind
WIDTH, QUALITY = 480, 80
MARGIN = 0.08  # of the width, around each image: boxes that reach outside are seen
SOUND, AT_FAULT = 0, 5  # places among the classes' colours: blue and vermilion


@dataclass(frozen=True, slots=True)
class Example:
    """One finding, with the images that show it, where there are any."""

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
    """The problems by kind, the most frequent first, each kind with examples from all over the set."""
    by_kind: dict[str, list[Problem]] = {}
    for problem in problems:
        by_kind.setdefault(problem.finding.kind, []).append(problem)
    kinds = []
    for kind, found in sorted(by_kind.items(), key=lambda item: -len(item[1])):
        examples = []
        for place in np.linspace(0, len(found) - 1, min(SHOWN, len(found))).round().astype(int).tolist():
            problem, finding = found[place], found[place].finding
            entries = [report.source.entries[number] for number in problem.frames]
            pictures = [_picture(entry, problem.box if nth == 0 else None) for nth, entry in enumerate(entries)]
            examples.append(Example(finding.item, finding.expected, finding.found, tuple(filter(None, pictures))))
        kinds.append(Kind(kind, meanings[kind], len(found), tuple(examples)))
    return kinds


def _picture(entry: SourceFrame, at_fault: int | None) -> Picture | None:
    """A frame with its boxes, the one at fault in its own colour; None where the image cannot be decoded."""
    frame = entry.frame
    try:
        image = decode_image(entry.read(), frame.name)
    except (OSError, DataError):
        return None
    margin = round(image.shape[1] * MARGIN)
    framed = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=(238, 238, 238))

    # What can be drawn of the boxes: numbers, corners in order, no farther out than the margin.
    drawable = [(number, box) for number, box in enumerate(frame.boxes) if np.isfinite(box.xyxy).all()]
    ends = np.array([box.xyxy for _, box in drawable], np.float64).reshape(-1, 2, 2)
    corners = np.concatenate([ends.min(axis=1), ends.max(axis=1)], axis=1) + margin
    corners = np.clip(corners, 0, np.array([image.shape[1], image.shape[0]] * 2) + 2 * margin - 1)
    labels = np.array([AT_FAULT if number == at_fault else SOUND for number, _ in drawable], np.int64)
    pixels = np.asarray(framed, np.uint8)
    drawn = draw_boxes(pixels, corners.astype(np.float32), labels, [""] * 8, width=WIDTH, named=False)
    return Picture(encode_jpeg(drawn, QUALITY), f"{frame.name} with its boxes", f"{frame.split} {frame.name}".strip())
