"""Run a detector over a prepared set and collect its boxes as COCO results."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mobile_centernet.boxes import boxes_to_original
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.evaluation.coco_eval import CocoResult
from mobile_centernet.images import to_input
from mobile_centernet.inference.graph import Detect


def results_for(
    prepared: PreparedSet,
    detect: Detect,
    input_size: tuple[int, int],
    batch_size: int = 8,
    progress: bool = False,
) -> list[CocoResult]:
    """Every detection on every frame of the set, as COCO results in pixels of the stored frame.

    `input_size` = (height, width); the last batch may be smaller, so a graph of fixed shape takes
    `batch_size=1`. Scores keep the detector's precision; nothing is thresholded. A detection whose width or
    height comes out negative is kept with 0 there: it can match nothing and counts as a false alarm.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, found {batch_size}")
    results: list[CocoResult] = []
    with tqdm(total=len(prepared), unit="frame", desc="detecting", disable=not progress) as bar:
        for indices in _batches(len(prepared), batch_size):
            images = [to_input(prepared.image(i), input_size) for i in indices]
            boxes, scores, labels = detect(np.concatenate(images))
            for row, i in enumerate(indices):
                frame = prepared.frame(i)
                in_frame = boxes_to_original(boxes[row], input_size, (frame.height, frame.width))
                results += _coco_results(frame.id, in_frame, scores[row], labels[row])
            bar.update(len(indices))
    return results


def _batches(count: int, batch_size: int) -> Iterator[range]:
    return (range(start, min(start + batch_size, count)) for start in range(0, count, batch_size))


def _coco_results(
    image_id: int, boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64]
) -> list[CocoResult]:
    corners = boxes.astype(np.float64)
    sizes = np.maximum(corners[:, 2:] - corners[:, :2], 0.0)
    bboxes = np.concatenate([corners[:, :2], sizes], axis=1)
    return [
        {"image_id": image_id, "category_id": int(label) + 1, "bbox": bbox.tolist(), "score": float(score)}
        for bbox, score, label in zip(bboxes, scores, labels, strict=True)
    ]
