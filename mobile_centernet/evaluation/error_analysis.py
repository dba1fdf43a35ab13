"""What goes wrong, sorted by why: false positives and false negatives, and which of them are worth looking at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from mobile_centernet.evaluation.coco_eval import CocoDocument, CocoResult, count_boxes, is_ignored
from mobile_centernet.evaluation.outcomes import IOU_THRESHOLD, Box, BoxOutcome, by_image, overlaps

NEAR = 0.1  # IoU from which a box is a bad attempt at an object rather than at nothing, as in TIDE
NOTICED = 0.05  # score from which a box under the threshold shows that the model saw something

FALSE_POSITIVES: Mapping[str, str] = {
    "wrong class": "an object is there, of another class",
    "double": "one more box on an object that was found already",
    "misplaced": f"near an object, but overlapping it too little (IoU {NEAR} to {IOU_THRESHOLD})",
    "nothing there": "no labelled object near",
}
FALSE_NEGATIVES: Mapping[str, str] = {
    "scored too low": "a box of its class is there, with a score under the threshold",
    "shared": "one box for two objects, which stands for its neighbour",
    "misplaced": f"its box overlaps too little (IoU {NEAR} to {IOU_THRESHOLD})",
    "not seen": "no box of its class near",
}


@dataclass(frozen=True, slots=True, eq=False)
class Mistake:
    """One false positive or one false negative, and why: a key of FALSE_POSITIVES or FALSE_NEGATIVES.

    `detail` is what there is to say about this one, such as the score of a box that was not trusted.
    """

    box: Box
    why: str
    detail: str = ""

    @property
    def label(self) -> int:
        """Class of the box, 0-based: of the detection for a false positive, of the object for a false negative."""
        return int(self.box["category_id"]) - 1


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a user sees at one score threshold: `correct` of `objects` found, `correct` of `reported` boxes right."""

    threshold: float
    objects: int
    reported: int
    correct: int


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """Objects of one class by who finds them, at one score threshold."""

    name: str
    both: int
    teacher_only: int
    student_only: int
    neither: int


def operating_point(outcomes: Sequence[BoxOutcome], threshold: float) -> OperatingPoint:
    """Counts over all classes."""
    return OperatingPoint(
        threshold,
        objects=sum(outcome.truth is not None for outcome in outcomes),
        reported=sum(outcome.found is not None for outcome in outcomes),
        correct=sum(outcome.correct for outcome in outcomes),
    )


def false_positives(
    outcomes: Sequence[BoxOutcome], ground_truth: CocoDocument, classes: Sequence[str]
) -> list[Mistake]:
    """Every detection that is wrong, the surest first."""
    truths = by_image(box for box in ground_truth["annotations"] if not is_ignored(box))
    mistakes = []
    for outcome in outcomes:
        if outcome.found is None or outcome.correct:
            continue
        overlap = float(overlaps([outcome.found], truths.get(outcome.image_id, [])).max(initial=0))
        if outcome.truth is not None:
            mistake = Mistake(outcome.found, "wrong class", f"it is a {classes[outcome.truth['category_id'] - 1]}")
        elif overlap >= IOU_THRESHOLD:
            mistake = Mistake(outcome.found, "double")
        elif overlap >= NEAR:
            mistake = Mistake(outcome.found, "misplaced", f"IoU {overlap:.2f}")
        else:
            mistake = Mistake(outcome.found, "nothing there")
        mistakes.append(mistake)
    return sorted(mistakes, key=lambda mistake: -mistake.box["score"])


def false_negatives(outcomes: Sequence[BoxOutcome], results: Sequence[CocoResult], threshold: float) -> list[Mistake]:
    """Every object that no detection stands for, the largest first.

    `results` are all of the model's; those under the `threshold` that was matched with tell why.
    """
    detections = by_image(result for result in results if result["score"] >= NOTICED)
    mistakes = []
    for outcome in outcomes:
        truth = outcome.truth
        if truth is None or outcome.found is not None:
            continue
        same = [box for box in detections.get(truth["image_id"], []) if box["category_id"] == truth["category_id"]]
        overlap = overlaps(same, [truth])[:, 0]
        there = [box["score"] for box, value in zip(same, overlap, strict=True) if value >= IOU_THRESHOLD]
        if there and max(there) < threshold:
            mistake = Mistake(truth, "scored too low", f"{max(there):.0%}")
        elif there:
            mistake = Mistake(truth, "shared")
        elif overlap.max(initial=0) >= NEAR:
            mistake = Mistake(truth, "misplaced", f"IoU {overlap.max():.2f}")
        else:
            mistake = Mistake(truth, "not seen")
        mistakes.append(mistake)
    return sorted(mistakes, key=lambda mistake: -float(mistake.box["bbox"][2] * mistake.box["bbox"][3]))


def spread(mistakes: Sequence[Mistake], count: int) -> list[Mistake]:
    """The first `count` of them, taking turns between the classes so that no frequent class hides the others."""
    by_class: dict[int, list[Mistake]] = {}
    for mistake in mistakes:
        by_class.setdefault(mistake.label, []).append(mistake)
    rounds = zip_longest(*(by_class[label] for label in sorted(by_class)))
    return [mistake for turn in rounds for mistake in turn if mistake is not None][:count]


def agreement(
    ground_truth: CocoDocument, teacher: Sequence[BoxOutcome], student: Sequence[BoxOutcome], classes: Sequence[str]
) -> list[AgreementRow]:
    """Who finds which objects, per class that has some; both models matched against the same ground truth."""
    objects = count_boxes(ground_truth, classes)
    rows = []
    for label, name in enumerate(classes):
        by_teacher, by_student = (
            {
                int(outcome.truth["id"])
                for outcome in outcomes
                if outcome.truth and outcome.correct and outcome.truth["category_id"] == label + 1
            }
            for outcomes in (teacher, student)
        )
        both, either = len(by_teacher & by_student), len(by_teacher | by_student)
        if objects[name]:
            alone = (len(by_teacher) - both, len(by_student) - both)
            rows.append(AgreementRow(name, both, *alone, neither=objects[name] - either))
    return rows
