"""What goes wrong, sorted by why: false alarms and missed objects, and which of them are worth looking at."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from mobile_centernet.evaluation.coco_eval import CocoDocument, CocoResult, count_boxes, is_ignored
from mobile_centernet.evaluation.outcomes import IOU_THRESHOLD, Box, Outcome, by_image, overlaps

NEAR = 0.1  # IoU from which a box is a bad attempt at an object rather than at nothing, as in TIDE
NOTICED = 0.05  # score from which a box under the threshold shows that the model saw something

FALSE_ALARMS: Mapping[str, str] = {
    "wrong class": "an object is there, of another class",
    "double": "one more box on an object that was found already",
    "misplaced": f"near an object, but overlapping it too little (IoU {NEAR} to {IOU_THRESHOLD})",
    "nothing there": "no labelled object near",
}
MISSES: Mapping[str, str] = {
    "scored too low": "a box of its class is there, with a score under the threshold",
    "shared": "one box for two objects, which stands for its neighbour",
    "misplaced": f"its box overlaps too little (IoU {NEAR} to {IOU_THRESHOLD})",
    "not seen": "no box of its class near",
}


@dataclass(frozen=True, slots=True, eq=False)
class Mistake:
    """One false alarm or one missed object, and why: a key of FALSE_ALARMS or MISSES.

    `detail` is what there is to say about this one, such as the score of a box that was not trusted.
    """

    box: Box
    why: str
    detail: str = ""

    @property
    def label(self) -> int:
        """Class of the box, 0-based: of the detection for a false alarm, of the object for a miss."""
        return int(self.box["category_id"]) - 1


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a user sees at one score threshold: `correct` of `objects` found, `correct` of `reported` boxes right."""

    threshold: float
    objects: int
    reported: int
    correct: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Objects of one class by who finds them, at one score threshold."""

    name: str
    both: int
    teacher_only: int
    student_only: int
    neither: int


def operating_point(outcomes: Sequence[Outcome], threshold: float) -> OperatingPoint:
    """Counts over all classes."""
    return OperatingPoint(
        threshold,
        objects=sum(outcome.truth is not None for outcome in outcomes),
        reported=sum(outcome.found is not None for outcome in outcomes),
        correct=sum(outcome.correct for outcome in outcomes),
    )


def false_alarms(outcomes: Sequence[Outcome], ground_truth: CocoDocument, classes: Sequence[str]) -> list[Mistake]:
    """Every detection that is wrong, the surest first."""
    truths = by_image(box for box in ground_truth["annotations"] if not is_ignored(box))
    wrong = [outcome for outcome in outcomes if outcome.found and not outcome.correct]
    wrong.sort(key=lambda outcome: -outcome.found["score"] if outcome.found else 0)
    return [_false_alarm(outcome, truths.get(outcome.image_id, []), classes) for outcome in wrong]


def misses(outcomes: Sequence[Outcome], results: Sequence[CocoResult], threshold: float) -> list[Mistake]:
    """Every object that no detection stands for, the largest first.

    `results` are all of the model's; those under the `threshold` that was matched with tell why.
    """
    detections = by_image(results)
    missed = [outcome.truth for outcome in outcomes if outcome.truth and not outcome.found]
    missed.sort(key=lambda box: -float(box["bbox"][2] * box["bbox"][3]))
    return [_miss(box, detections.get(box["image_id"], []), threshold) for box in missed]


def count_reasons(mistakes: Sequence[Mistake], meanings: Mapping[str, str]) -> dict[str, int]:
    """How many there are of every kind, the most frequent first."""
    counts = Counter(mistake.why for mistake in mistakes)
    return {why: counts[why] for why in sorted(meanings, key=lambda why: -counts[why])}


def spread(mistakes: Sequence[Mistake], count: int) -> list[Mistake]:
    """The first `count` of them, taking turns between the classes so that no frequent class hides the others."""
    by_class: dict[int, list[Mistake]] = {}
    for mistake in mistakes:
        by_class.setdefault(mistake.label, []).append(mistake)
    rounds = zip_longest(*(by_class[label] for label in sorted(by_class)))
    return [mistake for turn in rounds for mistake in turn if mistake is not None][:count]


def agreement(
    ground_truth: CocoDocument, teacher: Sequence[Outcome], student: Sequence[Outcome], classes: Sequence[str]
) -> list[Agreement]:
    """Who finds which objects, per class that has some; both models matched against the same ground truth."""
    objects = count_boxes(ground_truth, classes)
    rows = []
    for label, name in enumerate(classes):
        by_teacher, by_student = (_found(side, label + 1) for side in (teacher, student))
        both, either = len(by_teacher & by_student), len(by_teacher | by_student)
        if objects[name]:
            alone = (len(by_teacher) - both, len(by_student) - both)
            rows.append(Agreement(name, both, *alone, neither=objects[name] - either))
    return rows


def _found(outcomes: Sequence[Outcome], category_id: int) -> set[int]:
    """Ids of the objects of one class that were found and named."""
    truths = [outcome.truth for outcome in outcomes if outcome.truth and outcome.correct]
    return {int(truth["id"]) for truth in truths if truth["category_id"] == category_id}


def _false_alarm(outcome: Outcome, truths: Sequence[Box], classes: Sequence[str]) -> Mistake:
    assert outcome.found is not None  # noqa: S101  # for the type checker
    if outcome.truth is not None:
        return Mistake(outcome.found, "wrong class", f"it is a {classes[outcome.truth['category_id'] - 1]}")
    overlap = float(overlaps([outcome.found], truths).max(initial=0))
    if overlap >= IOU_THRESHOLD:
        return Mistake(outcome.found, "double")
    if overlap >= NEAR:
        return Mistake(outcome.found, "misplaced", f"IoU {overlap:.2f}")
    return Mistake(outcome.found, "nothing there")


def _miss(truth: Box, detections: Sequence[CocoResult], threshold: float) -> Mistake:
    same = [box for box in detections if box["category_id"] == truth["category_id"] and box["score"] >= NOTICED]
    overlap = overlaps(same, [truth])[:, 0]
    there = [box["score"] for box, value in zip(same, overlap, strict=True) if value >= IOU_THRESHOLD]
    if there and max(there) < threshold:
        return Mistake(truth, "scored too low", f"{max(there):.0%}")
    if there:
        return Mistake(truth, "shared")
    if overlap.max(initial=0) >= NEAR:
        return Mistake(truth, "misplaced", f"IoU {overlap.max():.2f}")
    return Mistake(truth, "not seen")
