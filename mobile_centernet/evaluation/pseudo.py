"""Run a teacher over the unlabelled frames of a prepared set and keep what it is sure of."""

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from mobile_centernet.boxes import boxes_to_original
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.loader import unlabelled_frames
from mobile_centernet.data.training.pseudo_labels import FoundObjects
from mobile_centernet.images import to_input
from mobile_centernet.inference.graph import Detect


def confident_objects(
    prepared: PreparedSet,
    detect: Detect,
    input_size: tuple[int, int],
    *,
    score_threshold: float,
    batch_size: int = 8,
    progress: bool = False,
) -> Iterator[FoundObjects]:
    """Every unlabelled frame in turn, with the boxes that score at least `score_threshold`.

    `input_size` = (height, width); boxes come in pixels of the stored frame, clipped to it. Frame by frame, since
    unlabelled footage can be much larger than the labelled part.
    """
    frames = unlabelled_frames(prepared)
    starts = range(0, len(frames), batch_size)
    for start in tqdm(starts, "pseudo-labels", unit="batch", disable=not progress):
        chunk = frames[start : start + batch_size]
        found = detect(np.concatenate([to_input(prepared.image(i), input_size) for i in chunk]))
        for i, boxes, scores, labels in zip(chunk, *found, strict=True):
            frame, sure = prepared.frame(i), scores >= score_threshold
            in_frame = boxes_to_original(boxes[sure], input_size, (frame.height, frame.width))
            yield FoundObjects(frame, in_frame, scores[sure], labels[sure])
