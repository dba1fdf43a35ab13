"""One self-contained HTML page about a run. What was not measured says so; nothing is fetched from anywhere."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from mobile_centernet.data.annotations import KINDS
from mobile_centernet.evaluation.palette import STUDENT, TEACHER, class_colour
from mobile_centernet.evaluation.slices import Slice
from mobile_centernet.files import write_atomically

_MIME_TYPES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG or JPEG file's bytes; `alt` says what it shows, for those who cannot see it."""

    data: bytes
    alt: str
    caption: str = ""

    @property
    def uri(self) -> str:
        """The picture as a data URI. Raises ValueError when it is neither PNG nor JPEG."""
        for start, mime_type in _MIME_TYPES.items():
            if self.data.startswith(start):
                return f"data:{mime_type};base64,{base64.b64encode(self.data).decode('ascii')}"
        raise ValueError(f"picture {self.alt!r}: expected PNG or JPEG, found {self.data[:8]!r}")


@dataclass(frozen=True, slots=True)
class Score:
    """mAP@0.5 of one model, with what it was measured on: `frames` frames of `dataset`."""

    role: str  # teacher or student
    model: str
    map50: float
    frames: int
    dataset: str
    synthetic: bool
    params: int | None = None
    conv_macs: int | None = None


@dataclass(frozen=True, slots=True)
class SplitRow:
    """Frames by state, and boxes, of one split of one data set."""

    dataset: str
    split: str
    labelled: int
    empty: int
    unlabelled: int
    boxes: int
    ignored: int = 0


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class of the training set with its weight in the focal loss, None where it is not balanced."""

    name: str
    boxes: int
    weight: float | None


@dataclass(frozen=True, slots=True)
class DataSection:
    """What the models learn from. Draw the contact sheet without its legend: the page has one."""

    splits: tuple[SplitRow, ...]
    classes: tuple[ClassRow, ...] = ()
    frequencies: Picture | None = None
    contact_sheet: Picture | None = None


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """Findings of one kind and action, with the first of them as `item: found`."""

    kind: str
    meaning: str
    action: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApRow:
    """AP at IoU 0.5 of one class; None where there is no ground truth or no such model."""

    name: str
    boxes: int
    teacher: float | None
    student: float | None

    @property
    def difference(self) -> float | None:
        """Student minus teacher."""
        return None if self.teacher is None or self.student is None else self.student - self.teacher


@dataclass(frozen=True, slots=True)
class SliceGroup:
    """The student's slices of one kind, such as object size or time of day."""

    title: str
    slices: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class DrawnFrame:
    """One frame in several views, the ground truth first; each picture's caption names its view."""

    name: str
    views: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class ParityRow:
    """One exported graph against torch: largest absolute difference per output and the change in mAP@0.5."""

    precision: str
    file: str
    bytes: int
    map50: float | None
    map50_drop: float | None
    limit: float | None
    passed: bool
    differences: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Lineage:
    """What leads back to the exact inputs."""

    git_commit: str
    params_digest: str
    data_digests: Mapping[str, str]
    others: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything the page shows. A part left None (or empty) is reported as not measured."""

    title: str
    classes: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    data: DataSection | None = None
    findings: tuple[FindingGroup, ...] | None = None  # empty: looked for, nothing found
    average_precision: tuple[ApRow, ...] = ()
    ap_bars: Picture | None = None
    slices: tuple[SliceGroup, ...] = ()
    pr_curves: Picture | None = None
    training_curves: tuple[Picture, ...] = ()
    confusion: Picture | None = None
    detections: tuple[DrawnFrame, ...] = ()
    parity: tuple[ParityRow, ...] = ()
    engine_status: str | None = None
    lineage: Lineage | None = None

    @property
    def mean(self) -> ApRow:
        """The last row of the table: every box, and mAP@0.5 where it was measured."""
        map50 = {score.role: score.map50 for score in self.scores}
        boxes = sum(row.boxes for row in self.average_precision)
        return ApRow("mean", boxes, map50.get("teacher"), map50.get("student"))


def write_report(path: Path, content: ReportContent) -> None:
    """Write the page to `path`, whole or not at all: pictures inline, no links outward, no scripts."""
    environment = Environment(
        loader=PackageLoader("mobile_centernet.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": score,
        "signed": signed,
        "number": number,
        "scale": scale,
        "class_colour": class_colour,
    }
    page = environment.get_template("report.html.j2").render(
        content=content, verdict=verdict(content.scores), teacher=TEACHER, student=STUDENT
    )
    write_atomically(path, page.encode())


def group_findings(findings: Iterable[Mapping[str, str]], examples: int = 3) -> tuple[FindingGroup, ...]:
    """The findings of a prepared set's `report.json`, counted by kind and action, most frequent first."""
    key = itemgetter("kind", "action")
    groups = [(kind, action, list(group)) for (kind, action), group in groupby(sorted(findings, key=key), key)]
    rows = [
        FindingGroup(
            kind,
            KINDS.get(kind, ""),
            action,
            len(group),
            tuple(f"{item['item']}: {item['found']}" for item in group[:examples]),
        )
        for kind, action, group in groups
    ]
    return tuple(sorted(rows, key=lambda row: -row.count))


def verdict(scores: Iterable[Score]) -> str:
    """The run in one sentence, with what it was measured on."""
    by_role = {score.role: score for score in scores}
    student, teacher = by_role.get("student"), by_role.get("teacher")
    if student is None:
        return "The student has not been measured."
    kind = "synthetic" if student.synthetic else "real"
    sentence = f"The student reaches {score(student.map50)} mAP@0.5 on {student.frames:,} {kind} frames"
    if teacher is None or (teacher.dataset, teacher.frames) != (student.dataset, student.frames):
        return f"{sentence} of {student.dataset}."
    difference = student.map50 - teacher.map50
    if abs(difference) < 0.0005:
        return f"{sentence} of {student.dataset}; its teacher reaches the same."
    direction = "above" if difference > 0 else "below"
    return f"{sentence} of {student.dataset}, {abs(difference):.3f} {direction} its teacher."


def score(value: float | None) -> str:
    """Three decimals; a dash for what does not exist."""
    return "–" if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Three decimals with a sign, no sign on zero."""
    if value is None:
        return "–"
    return "0.000" if round(value, 3) == 0 else f"{value:+.3f}".replace("-", "−")


def number(value: int) -> str:
    """Thousands separated."""
    return f"{value:,}"


def scale(value: float) -> str:
    """Three significant digits with k, M or G."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g} "
