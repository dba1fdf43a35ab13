"""The frames of a raw data set, as its sections of params.yaml say."""

import logging
from dataclasses import replace
from pathlib import Path

from mobile_centernet.data.annotations import RawSet
from mobile_centernet.data.readers.raw import Layout, read_raw
from mobile_centernet.data.readers.regroup import regroup
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
