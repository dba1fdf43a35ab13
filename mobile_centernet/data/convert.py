"""From a source's own categories to the classes of one model, and from dirty boxes to checked ones."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.data.annotations import Action, Box, Finding, Frame, FrameState, Xyxy, normalise
from mobile_centernet.errors import DataError

ROUNDING = 1.0
"""How far, in pixels, a box may reach outside the image before that is worth a finding."""
SMALLEST = 1.0
"""The least width and height, in pixels of the original image, that a box must have."""
SAME_ASPECT = 0.01
"""Relative difference of aspect ratios up to which two image sizes are the same image, resized."""

Size = tuple[int, int]


@dataclass(frozen=True)
class ClassMap:
    """Which class of the model each category of a source is.

    `mapping` gives a class, or None where the category has no class; such boxes are dropped (`unmapped="drop"`, as
    in the paper) or become ignore regions (`unmapped="ignore"`). A category that `mapping` does not know at all
    becomes an ignore region under both, because nobody has said that it is background.
    Raises DataError where the class list and the mapping contradict each other.
    """

    classes: tuple[str, ...]
    mapping: Mapping[str, str | None]
    unmapped: Literal["drop", "ignore"] = "drop"
    labels: Mapping[str, int | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known, used = set(self.classes), {name for name in self.mapping.values() if name is not None}
        if not self.classes:
            raise DataError("class map: expected at least one class, found none")
        if len(known) < len(self.classes):
            twice = sorted(name for name, count in Counter(self.classes).items() if count > 1)
            raise DataError(f"class map: expected every class once, found twice: {', '.join(twice)}")
        if unknown := sorted(used - known):
            raise DataError(
                f"class map: expected classes out of {', '.join(self.classes)}; "
                f"found the mapping to {', '.join(unknown)}"
            )
        if unreached := [name for name in self.classes if name not in used]:
            raise DataError(f"class map: expected a category for every class, found none for {', '.join(unreached)}")
        spellings = Counter(normalise(category) for category in self.mapping)
        if twice := sorted(category for category, count in spellings.items() if count > 1):
            raise DataError(f"class map: expected every category once, found twice: {', '.join(twice)}")
        if self.unmapped not in ("drop", "ignore"):
            raise DataError(f"class map: expected unmapped to be drop or ignore, found {self.unmapped!r}")

        index = {name: label for label, name in enumerate(self.classes)}
        labels = {normalise(category): None if name is None else index[name] for category, name in self.mapping.items()}
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "labels", labels)


@dataclass(frozen=True)
class CheckedBoxes:
    """A frame's checked boxes, xyxy in pixels of the original image, or of the stored one once that is shrunk."""

    state: FrameState
    boxes: NDArray[np.float64]  # [N, 4]
    labels: NDArray[np.int64]  # [N], 0-based
    ignore_boxes: NDArray[np.float64]  # [M, 4]
    findings: tuple[Finding, ...]
    dropped: Counter[str]  # boxes per category that has no class


def convert(frame: Frame, class_map: ClassMap, size: Size, orientation: int = 1) -> CheckedBoxes:
    """Check and map the boxes of one frame.

    - NaN or infinite: `nan_box`, quarantined. Inverted: `inverted_box`, repaired by swapping.
    - Outside the image: clipped; `outside_box`, repaired, where it reached out by more than `ROUNDING`. Boxes that
      touch the border or exceed it by up to one pixel are normal rounding of annotation tools: these are clipped
      without a finding. Nothing left inside: `outside_box`, quarantined.
    - Thinner than `SMALLEST`: `tiny_box`, quarantined.
    - The label file claims another image size: boxes are scaled if the aspect ratio agrees, otherwise all of the
      frame's boxes are quarantined and the frame is unlabelled. A claim of 0 x 0 says nothing and is ignored.

    A labelled frame without a box of our classes is a verified negative (`EMPTY`), unless a box was quarantined:
    that object may be anywhere in the image, nobody knows what is background, and the frame is `UNLABELLED`.

    Args:
        frame: the frame, its boxes in pixels of the size that its label file claims.
        class_map: what each category is.
        size: the (height, width) of its image, in pixels.
        orientation: EXIF's, 1 to 8; a claim of the sides that it swaps says that the labels are of the turned image.

    Returns:
        The boxes, in pixels of the image. Findings name `<frame>#<n>`, the n-th box (from 0) in the label file.
    """
    scale, findings = scale_of(frame, size, orientation)
    boxes: list[Xyxy] = []
    labels: list[int] = []
    ignore_boxes: list[Xyxy] = []
    dropped: Counter[str] = Counter()
    lost_object = False
    for number, box in enumerate(frame.boxes if scale else ()):
        item = f"{frame.name}#{number}"
        known = box.category in class_map.labels
        label = class_map.labels.get(box.category)
        if known and label is None and not box.ignore and class_map.unmapped == "drop":
            dropped[box.category] += 1
            continue
        xyxy, problems = _check_box(box, item, scale or (1.0, 1.0), size)
        findings += problems
        if xyxy is None:
            lost_object = True
            continue
        if not known and not box.ignore:
            expected = "a category of the class map"
            findings.append(Finding("unknown_category", Action.IGNORED, item, expected, box.category))
        if label is None or box.ignore:
            ignore_boxes.append(xyxy)
        else:
            boxes.append(xyxy)
            labels.append(label)

    state = frame.state
    if scale is None:
        state = FrameState.UNLABELLED
    elif state is FrameState.LABELLED and not boxes:
        state = FrameState.UNLABELLED if lost_object else FrameState.EMPTY
    return CheckedBoxes(
        state,
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(ignore_boxes, np.float64).reshape(-1, 4),
        tuple(findings),
        dropped,
    )


def scale_of(frame: Frame, size: Size, orientation: int = 1) -> tuple[tuple[float, float] | None, list[Finding]]:
    """By what x and y of the frame's boxes are to be multiplied, and what is worth a finding about that.

    Args:
        frame: its boxes are in pixels of the size that its label file claims, if it does.
        size: the (height, width) of its image, in pixels.
        orientation: see `convert`.

    Returns:
        None where the claimed size is one of another aspect ratio, so that nobody knows where the boxes are.
    """
    if frame.declared_size is None or frame.declared_size == size:
        return (1.0, 1.0), []
    (height, width), (declared_height, declared_width) = size, frame.declared_size
    scale: tuple[float, float] | None = (1.0, 1.0)
    action = Action.IGNORED
    if declared_height > 0 and declared_width > 0:
        across, down = width / declared_width, height / declared_height
        is_usable = abs(across / down - 1) <= SAME_ASPECT
        scale, action = ((across, down), Action.REPAIRED) if is_usable else (None, Action.QUARANTINED)
    found = f"{declared_width}x{declared_height}"
    if orientation >= 5 and (declared_width > declared_height) != (width > height):
        found += (
            f": the labels are of the image as EXIF orientation {orientation} turns it, boxes here of stored pixels"
        )
    return scale, [Finding("size_mismatch", action, frame.name, f"{width}x{height}", found)]


def _check_box(box: Box, item: str, scale: tuple[float, float], size: Size) -> tuple[Xyxy | None, list[Finding]]:
    """The repaired box, or None where it is quarantined, and what was found."""
    x1, y1, x2, y2 = box.xyxy
    height, width = size

    def finding(kind: str, action: Action, expected: str) -> Finding:
        return Finding(kind, action, item, expected, ", ".join(f"{value:g}" for value in box.xyxy))

    if not all(map(math.isfinite, box.xyxy)):
        return None, [finding("nan_box", Action.QUARANTINED, "four finite numbers")]

    findings = []
    if x2 < x1 or y2 < y1:
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
        findings.append(finding("inverted_box", Action.REPAIRED, "x1 <= x2 and y1 <= y2"))

    x1, x2, y1, y2 = x1 * scale[0], x2 * scale[0], y1 * scale[1], y2 * scale[1]
    excess = max(-x1, -y1, x2 - width, y2 - height)
    x1, x2 = min(max(x1, 0.0), width), min(max(x2, 0.0), width)
    y1, y2 = min(max(y1, 0.0), height), min(max(y2, 0.0), height)
    too_small = x2 - x1 < SMALLEST or y2 - y1 < SMALLEST
    if excess > ROUNDING:
        action = Action.QUARANTINED if too_small else Action.REPAIRED
        findings.append(finding("outside_box", action, f"inside {width}x{height}"))
    elif too_small:
        findings.append(finding("tiny_box", Action.QUARANTINED, f"at least {SMALLEST:g} px each way"))
    return (None if too_small else (x1, y1, x2, y2)), findings
