"""The frames of a raw data set, as its sections of params.yaml say."""

import json
import logging
from dataclasses import replace
from pathlib import Path

from mobile_centernet.data.annotations import Frame, RawSet
from mobile_centernet.data.readers.places import LEFT_TO_TRAIN
from mobile_centernet.data.readers.raw import Layout, read_raw
from mobile_centernet.data.readers.regroup import regroup
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Grouping
from mobile_centernet.mlops.sources import read_dataset_source

logger = logging.getLogger(__name__)


def read_footage(folder: Path, video_from: str | None, split_file: str | None, *, labels: bool = True) -> RawSet:
    """Read what a fetch stage left in `folder`, with what that stage found.

    `video_from` and `split_file`: see `regroup`. `labels` False spares ivslab's XML; all its frames are unlabelled.
    """
    source = read_dataset_source(folder)
    layout = None if source.format == "auto" else Layout(source.format)
    _, raw = read_raw(folder / source.root, layout, labels=labels)
    for kind, count in raw.unread.items():
        logger.info("%s: files that are not read: %d %s", folder.name, count, kind)
    raw = regroup(raw, video_from, split_file)
    return replace(raw, findings=(*source.findings, *raw.findings))


def read_ivslab(grouping: Grouping, *, labels: bool = True) -> tuple[RawSet, list[Frame]]:
    """All of ivslab, and of it the training frames that were kept and every frame of the other splits."""
    raw = read_footage(paths.RAW / "ivslab", grouping.video_from, grouping.split_file, labels=labels)
    kept = set(json.loads(paths.SUBSAMPLE.read_text(encoding="utf-8"))["kept"])
    return raw, [frame for frame in raw.frames if frame.split not in LEFT_TO_TRAIN or frame.name in kept]
