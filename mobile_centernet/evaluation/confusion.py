"""Which class is taken for which: a confusion matrix at one IoU and one score threshold."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.evaluation.outcomes import Box, Outcome


def confusion_matrix(outcomes: Iterable[Outcome], classes: Sequence[str]) -> NDArray[np.int64]:
    """Counts int64 [C + 1, C + 1] of `match`'s outcomes: row = true class, column = predicted class, last = background.

    So the last column holds missed objects and the last row false alarms.
    """
    total = np.zeros((len(classes) + 1, len(classes) + 1), dtype=np.int64)
    for outcome in outcomes:
        total[_place(outcome.truth, classes), _place(outcome.found, classes)] += 1
    return total


def confusion_rows(outcomes: Iterable[Outcome], classes: Sequence[str]) -> list[tuple[str, str]]:
    """(actual, predicted) of every outcome, `missed` and `false alarm` for what has no partner; for `dvc plots`."""
    predicted, actual = [*classes, "missed"], [*classes, "false alarm"]
    return [(actual[_place(outcome.truth, classes)], predicted[_place(outcome.found, classes)]) for outcome in outcomes]


def _place(box: Box | None, classes: Sequence[str]) -> int:
    return len(classes) if box is None else int(box["category_id"]) - 1
