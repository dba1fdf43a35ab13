"""Frames drawn for the report: what training sees, whole frames with detections, and mistakes from close by."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.boxes import xywh_to_xyxy
from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.evaluation.coco_eval import CocoResult
from mobile_centernet.evaluation.error_analysis import Mistake, spread
from mobile_centernet.evaluation.outcomes import Box, by_image
from mobile_centernet.images.opencv import encode_jpeg
from mobile_centernet.reports.drawing import BoxedImage, contact_sheet, draw_boxes, draw_closely
from mobile_centernet.reports.page import Picture
from mobile_centernet.reports.run_page import DrawnFrame, Gallery

JPEG_QUALITY = 82
DRAWN_FRAMES = 6
SHEET_FRAMES = 12
GALLERY_IMAGES = 12


def training_sheet(sets: Sequence[PreparedSet]) -> Picture:
    """Frames spread over every set, with their boxes."""
    frames = []
    for prepared in sets:
        count = min(SHEET_FRAMES // len(sets), len(prepared))
        for i in np.linspace(0, len(prepared) - 1, count, dtype=int).tolist():
            frame = prepared.frame(i)
            frames.append(BoxedImage(prepared.image(i), frame.boxes, frame.labels))
    return _jpeg(contact_sheet(frames, sets[0].classes, legend=False), "Training frames with their boxes")


def drawn_frames(frames: PreparedSet, results: Sequence[CocoResult], threshold: float) -> tuple[DrawnFrame, ...]:
    """Labelled frames spread over the set: ground truth beside the student's detections above the threshold."""
    with_boxes = [i for i in range(len(frames)) if frames.frame(i).state is FrameState.LABELLED]
    step = max(1, len(with_boxes) // DRAWN_FRAMES)
    drawn = []
    for i in with_boxes[::step][:DRAWN_FRAMES]:
        frame, image = frames.frame(i), frames.image(i)
        found = [row for row in results if row["image_id"] == frame.id and row["score"] >= threshold]
        labels = np.array([row["category_id"] - 1 for row in found], np.int64)
        scores = np.array([row["score"] for row in found], np.float32)
        truth = draw_boxes(image, frame.boxes, frame.labels, frames.classes)
        detected = draw_boxes(image, _corners(found), labels, frames.classes, scores)
        sides = (
            _jpeg(truth, f"{frame.name} with its labels", "Ground truth"),
            _jpeg(detected, f"{frame.name} with the student's detections", "Student"),
        )
        drawn.append(DrawnFrame(frame.name, sides))
    return tuple(drawn)


def gallery(
    mistakes: Sequence[Mistake], meanings: Mapping[str, str], frames: PreparedSet, around: Sequence[Box]
) -> Gallery:
    """Mistakes counted by why, and some of them drawn; `around` are the boxes shown beside them in white."""
    places = {frames.frame(i).id: i for i in range(len(frames))}
    others = by_image(around)
    drawn = []
    for mistake in spread(mistakes, GALLERY_IMAGES):
        image_id = mistake.box["image_id"]
        i = places[image_id]
        close = draw_closely(
            frames.image(i), _corners([mistake.box])[0], mistake.label, _corners(others.get(image_id, []))
        )
        name = frames.classes[mistake.label]
        score = f" {mistake.box['score']:.0%}" if "score" in mistake.box else ""
        why = f"{mistake.why} ({mistake.detail})" if mistake.detail else mistake.why
        drawn.append(_jpeg(close, f"{name} on {frames.frame(i).name}: {why}", f"{name}{score}: {why}"))
    counts = Counter(mistake.why for mistake in mistakes)
    most_frequent_first = sorted(meanings, key=lambda why: -counts[why])
    reasons = tuple((why, meanings[why], counts[why]) for why in most_frequent_first)
    return Gallery(len(mistakes), reasons, tuple(drawn))


def _corners(boxes: Sequence[Box]) -> NDArray[np.float32]:
    """xyxy [N, 4] of COCO's x, y, width, height."""
    return xywh_to_xyxy(np.array([box["bbox"] for box in boxes], np.float32).reshape(-1, 4))


def _jpeg(image: NDArray[np.uint8], alt: str, caption: str = "") -> Picture:
    return Picture(encode_jpeg(image, JPEG_QUALITY), alt, caption)
