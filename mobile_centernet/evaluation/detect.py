"""Run a network over a prepared set, frame by frame or as COCO results."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mobile_centernet.boxes import xyxy_to_xywh
from mobile_centernet.data.store.prepared import PreparedSet, StoredFrame
from mobile_centernet.detections import Detections
from mobile_centernet.evaluation.coco_eval import CocoResult
from mobile_centernet.images import to_input
from mobile_centernet.inference.detector import Runner, to_detections


def detect_frames(
    prepared: PreparedSet,
    run: Runner,
    input_size: tuple[int, int],
    indices: Sequence[int] | None = None,
    *,
    resized: NDArray[np.uint8] | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> Iterator[tuple[StoredFrame, Detections]]:
    """Every detection on every frame in turn, since footage can be larger than memory.

    Args:
        prepared: the frames.
        run: the network; a graph of fixed shape takes `batch_size` 1.
        input_size: its (height, width).
        indices: which frames; None for all.
        resized: all images of the set as the network sees them, uint8 [N, h, w, 3], where they are at hand.
        batch_size: how many at once; the last batch may be smaller.
        progress: whether to draw a bar, on a terminal.

    Yields:
        A frame and what was found on it, in its pixels and clipped to it; nothing is thresholded.

    Raises:
        ValueError: `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, found {batch_size}")
    wanted = range(len(prepared)) if indices is None else indices
    with tqdm(total=len(wanted), unit="frame", desc="detecting", disable=None if progress else True) as bar:
        for start in range(0, len(wanted), batch_size):
            chunk = wanted[start : start + batch_size]
            images = [prepared.image(i) for i in chunk] if resized is None else [resized[i] for i in chunk]
            frames = [prepared.frame(i) for i in chunk]
            batch = run(np.concatenate([to_input(image, input_size) for image in images]))
            sizes = [(frame.height, frame.width) for frame in frames]
            yield from zip(frames, to_detections(batch, sizes, input_size, prepared.classes), strict=True)
            bar.update(len(chunk))


def results_for(
    prepared: PreparedSet,
    run: Runner,
    input_size: tuple[int, int],
    *,
    resized: NDArray[np.uint8] | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> list[CocoResult]:
    """What `detect_frames` finds on all frames, as COCO results, in the frames' order."""
    frames = detect_frames(prepared, run, input_size, resized=resized, batch_size=batch_size, progress=progress)
    return [result for frame, detections in frames for result in coco_results(frame.id, detections)]


def coco_results(image_id: int, detections: Detections) -> list[CocoResult]:
    """As COCO has them, the best score first, equal ones by place. Scores keep the detector's precision.

    pycocotools ranks equal scores as they come: in this order it finds the same mAP as `evaluate_map50`. A box whose
    width or height comes out negative is kept with 0 there: it can match nothing and counts as a false positive.
    """
    bboxes = xyxy_to_xywh(detections.boxes.astype(np.float64))
    order = np.lexsort((*bboxes.T[::-1], -detections.scores))
    columns = (bboxes[order], detections.scores[order], detections.labels[order])
    return [
        {"image_id": image_id, "category_id": label + 1, "bbox": bbox, "score": score}
        for bbox, score, label in zip(*(column.tolist() for column in columns), strict=True)
    ]
