"""prepare_bdd100k, prepare_ivslab: raw footage to the set that training reads."""

import json
from collections.abc import Iterable
from dataclasses import replace

from mobile_centernet.data.annotations import Frame, RawSet
from mobile_centernet.data.bdd100k import read_bdd100k
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.ivslab import read_ivslab
from mobile_centernet.data.prepare import prepare
from mobile_centernet.data.subsample import split_by_video
from steps import workspace
from steps.footage import footage_root
from steps.params import Params, Prepare, Split


def prepare_bdd100k(params: Params) -> None:
    """Every frame of BDD100K."""
    raw = read_bdd100k(footage_root(workspace.RAW / "bdd100k"))
    _prepare("bdd100k", raw, raw.frames, params.prepare_bdd100k, params)


def prepare_ivslab(params: Params) -> None:
    """The kept training frames of ivslab and its whole test set."""
    raw = read_ivslab(footage_root(workspace.RAW / "ivslab"))
    kept = set(json.loads(workspace.SUBSAMPLE.read_text(encoding="utf-8"))["kept"])
    frames = [frame for frame in raw.frames if frame.split != "train" or frame.name in kept]
    _prepare("ivslab", raw, frames, params.prepare_ivslab, params)


def _prepare(name: str, raw: RawSet, frames: Iterable[Frame], section: Prepare, params: Params) -> None:
    report = prepare(
        raw,
        _split(frames, section.split, params.seed),
        ClassMap(params.classes, section.class_map, section.unmapped),
        workspace.PREPARED / name,
        max_size=params.store.max_size.hw,
        quality=params.store.jpeg_quality,
    )
    for split, counts in report["splits"].items():
        print(f"{name} {split}: {counts['frames']} frames, boxes {counts['boxes']}")
    for action in ("quarantined", "repaired", "ignored"):
        if report[action]:
            print(f"{name} {action}: {report[action]} (each one is listed in {workspace.PREPARED / name}/report.json)")


def _split(frames: Iterable[Frame], split: Split, seed: int) -> list[Frame]:
    """The source's own val and test splits stay; of all other videos, shares are set aside."""
    frames = list(frames)
    own = [frame for frame in frames if frame.split in ("val", "test")]
    rest = [frame for frame in frames if frame.split not in ("val", "test")]
    shares = {name: share for name, share in (("val", split.val), ("test", split.test)) if share > 0}
    of_video = split_by_video({frame.video for frame in rest}, shares, seed)
    return own + [replace(frame, split=of_video[frame.video]) for frame in rest]
