"""subsample_ivslab: which of ivslab's near-copies are kept."""

import logging
from collections import Counter

from tqdm import tqdm

from mobile_centernet.data.parallel import in_order
from mobile_centernet.data.prepare.subsample import distinct, subsample
from mobile_centernet.data.readers.places import LEFT_TO_TRAIN
from mobile_centernet.data.similarity.duplicates import near_duplicates
from mobile_centernet.data.similarity.perceptual import hash_image
from mobile_centernet.errors import DataError
from mobile_centernet.files import write_json
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.footage import read_footage
from mobile_centernet.mlops.params import Params

logger = logging.getLogger(__name__)


def subsample_ivslab(params: Params) -> None:
    """Write the names of the kept training frames; the test set is kept whole."""
    video_from, split_file = params.prepare_ivslab.video_from, params.prepare_ivslab.split_file
    raw = read_footage(paths.RAW / "ivslab", video_from, split_file, labels=False)
    videos = [frame for frame in raw.frames if frame.split in LEFT_TO_TRAIN]
    if not videos:
        splits = ", ".join(sorted({frame.split for frame in raw.frames}))
        raise DataError(f"{raw.root}: expected training frames, found only the splits {splits}")
    section = params.subsample_ivslab
    by_number = section.mode == "stride"
    candidates = subsample(videos, section.stride) if by_number else videos  # only images that may stay are read
    results = tqdm(in_order(hash_image, candidates), "compare", len(candidates), disable=None)
    hashes = {frame.name: own for frame, own in zip(candidates, results, strict=True)}
    kept = candidates if by_number else distinct(candidates, hashes, section.min_distance)
    near_copies = len(near_duplicates(kept, [hashes[frame.name] for frame in kept], section.min_distance))
    write_json(
        paths.SUBSAMPLE,
        {
            **section.model_dump(),
            "frames_before": len(videos),
            "frames_kept": len(kept),
            "near_copies_kept": near_copies,
            "kept_per_video": dict(sorted(Counter(frame.video for frame in kept).items())),
            "kept": [frame.name for frame in kept],
        },
    )
    how = f"one of {section.stride} per video" if by_number else "those that show something new"
    logger.info("kept %d of %d frames, %s", len(kept), len(videos), how)
    near = f"nearer than {section.min_distance} bits to an earlier frame of their video"
    logger.info("%d of these are %s", near_copies, near)
