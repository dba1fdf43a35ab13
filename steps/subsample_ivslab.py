"""subsample_ivslab: which of ivslab's near-copies are kept."""

from collections import Counter

from mobile_centernet.data.ivslab import read_ivslab
from mobile_centernet.data.subsample import subsample
from mobile_centernet.files import write_json
from steps import workspace
from steps.footage import footage_root
from steps.params import Params


def subsample_ivslab(params: Params) -> None:
    """Write the names of the kept training frames; the test set is kept whole."""
    frames = read_ivslab(footage_root(workspace.RAW / "ivslab")).frames
    videos = [frame for frame in frames if frame.split == "train"]
    stride = params.subsample_ivslab.stride
    kept = subsample(videos, stride)
    write_json(
        workspace.SUBSAMPLE,
        {
            "stride": stride,
            "frames_before": len(videos),
            "frames_kept": len(kept),
            "kept_per_video": dict(sorted(Counter(frame.video for frame in kept).items())),
            "kept": [frame.name for frame in kept],
        },
    )
    print(f"kept {len(kept)} of {len(videos)} frames, one of {stride} per video")
