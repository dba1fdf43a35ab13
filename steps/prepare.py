"""prepare_bdd100k, prepare_ivslab: raw footage to the set that training reads."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobile_centernet.data.annotations import Action, Frame, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.prepare.subsample import split_by_video
from mobile_centernet.data.readers.bdd100k import read_bdd100k
from mobile_centernet.data.readers.ivslab import read_ivslab
from mobile_centernet.data.store.prepared import REPORT
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params, Prepare, Split
from mobile_centernet.mlops.sources import footage_root, read_footage
from mobile_centernet.mlops.tracking import tracking


def prepare_bdd100k(params: Params) -> None:
    """Every frame of BDD100K."""
    raw = _with_fetched_findings(read_bdd100k(footage_root(paths.RAW / "bdd100k")), paths.RAW / "bdd100k")
    _prepare("bdd100k", raw, raw.frames, params.prepare_bdd100k, params)


def prepare_ivslab(params: Params) -> None:
    """The kept training frames of ivslab and its whole test set."""
    raw = _with_fetched_findings(read_ivslab(footage_root(paths.RAW / "ivslab")), paths.RAW / "ivslab")
    kept = set(json.loads(paths.SUBSAMPLE.read_text(encoding="utf-8"))["kept"])
    frames = [frame for frame in raw.frames if frame.split != "train" or frame.name in kept]
    _prepare("ivslab", raw, frames, params.prepare_ivslab, params)


def _with_fetched_findings(raw: RawSet, folder: Path) -> RawSet:
    """What the fetch stage could not use (a damaged video, say) belongs into the same report."""
    return replace(raw, findings=(*read_footage(folder).findings, *raw.findings))


def _prepare(name: str, raw: RawSet, frames: Iterable[Frame], section: Prepare, params: Params) -> None:
    out, stage = paths.PREPARED / name, f"prepare_{name}"
    with tracking.run(stage, params, ("seed", "classes", stage, "store")) as tracker:
        report = prepare(
            raw,
            _split(frames, section.split, params.seed),
            ClassMap(params.classes, section.class_map, section.unmapped),
            out,
            max_size=params.store.max_size.hw,
            quality=params.store.jpeg_quality,
            work=paths.WORK / stage,
        )
        tracker.log(dict(_numbers(report)))
        tracker.finish([out / REPORT])
    _summarise(name, report)


def _numbers(report: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    """What the report counts, under names for MLflow."""
    for split, counts in report["splits"].items():
        yield f"{split}/frames", counts["frames"]
        yield f"{split}/boxes", sum(counts["boxes"].values())
        yield from ((f"{split}/{state}", count) for state, count in counts["states"].items())
        yield f"{split}/near_copies", report["alike"]["near_copies"][split]
        yield f"{split}/leaked_frames", report["alike"]["leaked_frames"][split]
    yield "leaked_videos", len(report["alike"]["leaked_videos"])
    for action in Action:
        yield from ((f"{action}/{kind}", count) for kind, count in report[action].items())


def _summarise(name: str, report: Mapping[str, Any]) -> None:
    alike = report["alike"]
    for split, counts in report["splits"].items():
        states = ", ".join(f"{count} {state}" for state, count in counts["states"].items() if count)
        print(f"{name} {split}: {counts['frames']} frames ({states}), boxes {counts['boxes']}")
        if leaked := alike["leaked_frames"][split]:
            print(f"warning: {name} {split}: {leaked} frames show a view that another split has too", file=sys.stderr)
    if videos := alike["leaked_videos"]:
        print(f"warning: {name}: {len(videos)} videos are in two splits ({', '.join(videos[:3])})", file=sys.stderr)
    for action in Action:
        if report[action]:
            print(f"{name} {action}: {report[action]} (each one is listed in {paths.PREPARED / name}/{REPORT})")


def _split(frames: Iterable[Frame], split: Split, seed: int) -> list[Frame]:
    """The source's own val and test splits stay; of all other videos, shares are set aside."""
    frames = list(frames)
    own = [frame for frame in frames if frame.split in ("val", "test")]
    rest = [frame for frame in frames if frame.split not in ("val", "test")]
    shares = {name: share for name, share in (("val", split.val), ("test", split.test)) if share > 0}
    of_video = split_by_video({frame.video for frame in rest}, shares, seed)
    for name in shares.keys() - of_video.values():
        videos = f"{len(of_video)} videos are too few for a share of {shares[name]:g}"
        print(f"warning: no video is set aside for {name}: {videos}", file=sys.stderr)
    return own + [replace(frame, split=of_video[frame.video]) for frame in rest]
