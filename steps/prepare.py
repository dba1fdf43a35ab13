"""prepare_bdd100k, prepare_ivslab: raw footage to the set that training reads."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mobile_centernet.data.annotations import Action, Frame, FrameState, RawSet, normalise
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import TRAIN, prepare
from mobile_centernet.data.prepare.subsample import place_of, set_aside
from mobile_centernet.data.store.prepared import REPORT
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.footage import read_footage, read_ivslab
from mobile_centernet.mlops.params import Params, Prepare
from mobile_centernet.mlops.sources import read_dataset_source
from mobile_centernet.mlops.tracking import tracking

logger = logging.getLogger(__name__)


def prepare_bdd100k(params: Params) -> None:
    """Every frame of BDD100K."""
    section = params.prepare_bdd100k
    raw = read_footage(paths.RAW / "bdd100k", section.video_from, section.split_file)
    _prepare("bdd100k", raw, raw.frames, section, params)


def prepare_ivslab(params: Params) -> None:
    """The kept training frames of ivslab and its whole test set, and the frames from the field, all of them.

    Of the latter's videos a share, by the hash of their names, is for testing: their reviewed frames are the split
    `field`, and the others are left out. So it grows with what is reviewed, and nothing changes sides.
    """
    section = params.prepare_ivslab
    raw, frames = read_ivslab(section)
    joining: list[Frame] = []
    if read_dataset_source(paths.RAW / paths.FIELD).files:
        field = read_footage(paths.RAW / paths.FIELD, None, None)
        raw = replace(raw, findings=(*raw.findings, *field.findings))
        for frame in field.frames:
            if place_of(frame.video, params.seed) >= params.fetch_field.test_share:
                joining.append(replace(frame, split=TRAIN))
            elif frame.state is not FrameState.UNLABELLED:
                joining.append(replace(frame, split=paths.FIELD))
        found = Counter(frame.split for frame in joining)
        left = len(field.frames) - len(joining)
        message = "ivslab: frames from the field: %d train, %d are for testing, %d are left until they are reviewed"
        logger.info(message, found[TRAIN], found[paths.FIELD], left)
        known = set(map(normalise, section.class_map))  # devices call their classes as we do
        ours = {name: name for name in params.classes if normalise(name) not in known}
        section = section.model_copy(update={"class_map": {**section.class_map, **ours}})
    _prepare("ivslab", raw, frames, section, params, joining)


def _prepare(
    name: str,
    raw: RawSet,
    frames: Iterable[Frame],
    section: Prepare,
    params: Params,
    joining: Sequence[Frame] = (),
) -> None:
    """Write the set of `frames`, with videos set aside, and of `joining`, whose splits are final."""
    out, stage, shares = paths.PREPARED / name, f"prepare_{name}", section.split
    keys = ("seed", "classes", stage, "store", "input_size", *(["fetch_field.test_share"] if name == "ivslab" else []))
    with tracking.run(stage, params, keys) as tracker:
        report = prepare(
            raw,
            [*set_aside(frames, {"val": shares.val, "test": shares.test}, shares.own_val, params.seed), *joining],
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
    boxes = (box for frame in (*raw.frames, *joining) for box in frame.boxes)
    found = Counter(box.category for box in boxes if not box.ignore)
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
