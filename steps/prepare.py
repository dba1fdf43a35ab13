"""prepare_bdd100k, prepare_ivslab: raw footage to the set that training reads."""

import json
import logging
from collections import Counter
from collections.abc import Iterable

from mobile_centernet.data.annotations import Action, Frame, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.prepare.subsample import set_aside
from mobile_centernet.data.readers.places import LEFT_TO_TRAIN
from mobile_centernet.data.store.prepared import REPORT
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.footage import read_footage
from mobile_centernet.mlops.params import Params, Prepare
from mobile_centernet.mlops.tracking import tracking

logger = logging.getLogger(__name__)


def prepare_bdd100k(params: Params) -> None:
    """Every frame of BDD100K."""
    section = params.prepare_bdd100k
    raw = read_footage(paths.RAW / "bdd100k", section.video_from, section.split_file)
    _prepare("bdd100k", raw, raw.frames, section, params)


def prepare_ivslab(params: Params) -> None:
    """The kept training frames of ivslab and its whole test set."""
    section = params.prepare_ivslab
    raw = read_footage(paths.RAW / "ivslab", section.video_from, section.split_file)
    kept = set(json.loads(paths.SUBSAMPLE.read_text(encoding="utf-8"))["kept"])
    frames = [frame for frame in raw.frames if frame.split not in LEFT_TO_TRAIN or frame.name in kept]
    _prepare("ivslab", raw, frames, section, params)


def _prepare(name: str, raw: RawSet, frames: Iterable[Frame], section: Prepare, params: Params) -> None:
    out, stage, shares = paths.PREPARED / name, f"prepare_{name}", section.split
    with tracking.run(stage, params, ("seed", "classes", stage, "store", "input_size")) as tracker:
        report = prepare(
            raw,
            set_aside(frames, {"val": shares.val, "test": shares.test}, shares.own_val, params.seed),
            ClassMap(params.classes, section.class_map, section.unmapped),
            out,
            max_size=params.store.max_size.hw,
            input_size=params.input_size.hw,
            quality=params.store.jpeg_quality,
            work=paths.WORK / stage,
            keep=paths.WORK / f"{stage}_kept",
        )
        alike = report["alike"]
        numbers = {"leaked_videos": len(alike["leaked_videos"])}
        for split, counts in report["splits"].items():
            numbers[f"{split}/frames"] = counts["frames"]
            numbers[f"{split}/boxes"] = sum(counts["boxes"].values())
            numbers |= {f"{split}/{state}": count for state, count in counts["states"].items()}
            numbers[f"{split}/near_copies"] = alike["near_copies"][split]
            numbers[f"{split}/leaked_frames"] = alike["leaked_frames"][split]
        for action in Action:
            numbers |= {f"{action}/{kind}": count for kind, count in report[action].items()}
        tracker.log(numbers)
        tracker.finish([out / REPORT])

    if all(counts["states"]["unlabelled"] == counts["frames"] for counts in report["splits"].values()):
        unread = ", ".join(f"{count} {kind}" for kind, count in raw.unread.items()) or "none"
        logger.warning("%s: none of the frames has labels (files that are not read: %s)", name, unread)
    found = Counter(box.category for frame in raw.frames for box in frame.boxes if not box.ignore)
    if found and not any(sum(counts["boxes"].values()) for counts in report["splits"].values()):
        most = ", ".join(f"{count} {category}" for category, count in found.most_common(5))
        logger.warning("%s: none of the boxes has a class (found %s): %s.class_map gives them one", name, most, stage)
    for split, counts in report["splits"].items():
        states = ", ".join(f"{count} {state}" for state, count in counts["states"].items() if count)
        logger.info("%s %s: %d frames (%s), boxes %s", name, split, counts["frames"], states, counts["boxes"])
        if leaked := alike["leaked_frames"][split]:
            logger.warning("%s %s: %d frames show a view that another split has too", name, split, leaked)
    if videos := alike["leaked_videos"]:
        logger.warning("%s: %d videos are in two splits (%s)", name, len(videos), ", ".join(videos[:3]))
    for action in Action:
        if report[action]:
            logger.info("%s %s: %s (each one is listed in %s)", name, action, report[action], out / REPORT)
