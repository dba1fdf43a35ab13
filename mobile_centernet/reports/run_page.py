"""What the report on a run says, and the sentence that it opens with. What was not measured says so."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from mobile_centernet.data.annotations import FINDING_KINDS
from mobile_centernet.evaluation.bootstrap import MapDifference
from mobile_centernet.evaluation.error_analysis import AgreementRow, OperatingPoint
from mobile_centernet.evaluation.slices import Slice
from mobile_centernet.reports.page import Picture, score, signed


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
    file_bytes: int | None = None
    operating_point: OperatingPoint | None = None


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
class CheckedSet:
    """What preparing one data set found: bad items by kind, and frames or videos that two splits share."""

    dataset: str
    findings: tuple[FindingGroup, ...]
    dropped_categories: Mapping[str, int]
    leaked_frames: int
    leaked_videos: int


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
    """One frame in several views, the ground truth first; each image's caption names its view."""

    name: str
    views: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Mistakes of one kind: how many there are for which reason (with what it means), and some of them drawn."""

    total: int
    reasons: tuple[tuple[str, str, int], ...]
    pictures: tuple[Picture, ...]


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
    status: str = "exported"  # or withdrawn: past its limits, not required, hence deleted


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """Milliseconds per image of one model, from JPEG bytes to boxes, and the medians of its parts."""

    model: str
    runs_on: str
    p50: float
    p95: float
    p99: float
    per_second: float
    peak_mib: float | None
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Latency:
    """Models timed in turns in one run; `measured_on` names machine, load and image."""

    rows: tuple[LatencyRow, ...]
    measured_on: str


@dataclass(frozen=True, slots=True)
class ParamsDifference:
    """One setting that differs from the paper's recipe."""

    name: str
    ours: str
    paper: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """What leads back to the exact inputs; `differences` is None where there was nothing to compare with."""

    git_commit: str
    params_digest: str
    data_digests: Mapping[str, str]
    others: Mapping[str, str]
    differences: tuple[ParamsDifference, ...] | None = None


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a person must know before using the model. Purpose and limits stand in the template; these are measured.

    input_size: (height, width)
    trained_on: each data set in a sentence
    synthetic:  whether it was measured on rendered clips alone
    weak_spots: each in a sentence
    """

    input_size: tuple[int, int]
    trained_on: tuple[str, ...]
    synthetic: bool
    weak_spots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DistillationGain:
    """Rows of the ablation on the frames that this run is scored on, as `reports.ablation` writes them.

    row, baseline: the distilled row of this run's student and teacher, and the row that it is compared with
    gain:          what it gains over that, measured with so many `seeds`
    tables:        headings and cells by title
    """

    row: str
    baseline: str
    gain: MapDifference
    seeds: int
    tables: Mapping[str, tuple[list[str], list[list[str]]]]
    note: str


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything the page shows. A part left None (or empty) is reported as not measured."""

    title: str
    classes: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    data: DataSection | None = None
    checked: tuple[CheckedSet, ...] = ()
    average_precision: tuple[ApRow, ...] = ()
    pr_curves: Picture | None = None
    agreement: tuple[AgreementRow, ...] = ()
    slices: tuple[SliceGroup, ...] = ()
    distillation: DistillationGain | None = None
    training_curves: tuple[Picture, ...] = ()
    confusion: Picture | None = None
    false_alarms: Gallery | None = None
    misses: Gallery | None = None
    detections: tuple[DrawnFrame, ...] = ()
    parity: tuple[ParityRow, ...] = ()
    latency: Latency | None = None
    engine_status: str | None = None
    card: ModelCard | None = None
    lineage: Lineage | None = None

    @property
    def mean(self) -> ApRow:
        """The last row of the table: every box, and mAP@0.5 where it was measured."""
        map50 = {score.role: score.map50 for score in self.scores}
        boxes = sum(row.boxes for row in self.average_precision)
        return ApRow("mean", boxes, map50.get("teacher"), map50.get("student"))

    @property
    def student(self) -> Score | None:
        """The student's score, if it was measured."""
        return next((score for score in self.scores if score.role == "student"), None)


def group_findings(findings: Iterable[Mapping[str, str]], examples: int = 3) -> tuple[FindingGroup, ...]:
    """The findings of a prepared set's `report.json`, counted by kind and action, most frequent first."""
    key = itemgetter("kind", "action")
    groups = [(kind, action, list(group)) for (kind, action), group in groupby(sorted(findings, key=key), key)]
    rows = [
        FindingGroup(
            kind,
            FINDING_KINDS.get(kind, ""),
            action,
            len(group),
            tuple(f"{item['item']}: {item['found']}" for item in group[:examples]),
        )
        for kind, action, group in groups
    ]
    return tuple(sorted(rows, key=lambda row: -row.count))


def verdict(scores: Iterable[Score], distillation: DistillationGain | None = None) -> str:
    """The run in one sentence: what was reached, on what, and what distillation brought where that was measured."""
    by_role = {score.role: score for score in scores}
    student, teacher = by_role.get("student"), by_role.get("teacher")
    if student is None:
        return "The student has not been measured."
    reached = f"The student reaches {score(student.map50)} mAP@0.5"
    if teacher is not None and (teacher.dataset, teacher.frames) == (student.dataset, student.frames):
        reached += f", its teacher {score(teacher.map50)},"
    kind = "synthetic" if student.synthetic else "real"
    sentence = f"{reached} on {student.frames:,} {kind} frames of {student.dataset}"
    if distillation is None:
        return f"{sentence}; what distillation brought is not measured in this run: make ablation does that."
    gain = distillation.gain
    certainty = f"95 %: {signed(gain.lower)} to {signed(gain.upper)}, {distillation.seeds} seeds"
    return f"{sentence}; in the ablation on these frames distillation brought {signed(gain.value)} ({certainty})."


def weak_spots(
    rows: Iterable[ApRow], slices: Iterable[SliceGroup], mean: float | None, least_boxes: int = 10
) -> tuple[str, ...]:
    """Classes and slices on which the student does worse than half its mAP@0.5, in words.

    Those with fewer than `least_boxes` boxes are named as hardly measured instead.
    """
    if mean is None:
        return ()
    named = [(row.name, row.boxes, row.student) for row in rows]
    for group in slices:
        named += [(f"{group.title.lower()} {part.name}", part.boxes, part.map50) for part in group.slices]
    weak = [
        f"Weak on {name}: {value:.3f}, measured on {boxes:,} boxes"
        for name, boxes, value in named
        if boxes >= least_boxes and value is not None and value < mean / 2
    ]
    thin = [f"{name} ({boxes})" for name, boxes, _ in named if boxes < least_boxes]
    return (*weak, *([f"Hardly measured, on fewer than {least_boxes} boxes each: {', '.join(thin)}"] if thin else []))
