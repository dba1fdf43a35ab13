"""A synthetic BDD100K: the folders, the three label layouts and the two vocabularies of the real one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sample import files, traffic
from sample.camera import Floats
from sample.clip import Clip
from sample.painter import VisibleObject

Json = dict[str, object]
_NAMES_2020: Mapping[str, str] = {"person": "pedestrian"}
_NAMES_2018: Mapping[str, str] = {"bicycle": "bike", "motorcycle": "motor"}
_SIGNALS_2018 = {"G": "green", "Y": "yellow", "R": "red", "NA": "none"}
DET_20, DET_20_NULL, DET_20_ABSENT, LIST_2018, SINGLE, NO_ENTRY = range(6)


@dataclass(frozen=True, slots=True)
class _FrameTask:
    folder: Path
    seed: np.random.SeedSequence
    size: tuple[int, int]
    quality: int


@dataclass(frozen=True, slots=True)
class _Shot:
    """What a worker hands back about the image that it wrote."""

    stem: str
    attributes: dict[str, str]
    objects: list[VisibleObject]
    lanes: list[tuple[str, Floats]]


def write_bdd100k(
    root: Path,
    *,
    seed: int,
    train_frames: int,
    val_frames: int,
    size: tuple[int, int] = (720, 1280),
    jpeg_quality: int = 85,
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Write a synthetic set in BDD100K's raw layouts; every frame comes from a clip of its own.

    Most entries are in `labels/det_20` (2020); a tenth of the train frames each is in the 2018 list and in one
    file per frame (before August 2018). A few train frames have `labels` null or missing, or no entry at all.
    Same arguments, same bytes, whatever `workers` is. Label files are written last.

    Args:
        root: a new or empty folder.
        seed: of everything.
        train_frames: number of images in `images/100k/train`.
        val_frames: number of images in `images/100k/val`.
        size: (height, width) of the images in pixels.
        jpeg_quality: 1–100.
        workers: processes; None takes one per core.
        progress: show a progress bar.

    Raises:
        DataError: `root` is not empty.
    """
    files.claim(root)
    train, val, plan = np.random.SeedSequence((seed, 100)).spawn(3)
    shots = {}
    for split, sequence, count in (("train", train, train_frames), ("val", val, val_frames)):
        folder = root / "images" / "100k" / split
        folder.mkdir(parents=True)
        jobs = [_FrameTask(folder, child, size, jpeg_quality) for child in sequence.spawn(count)]
        shots[split] = files.work(_shoot, jobs, workers=workers, progress=progress, name=f"bdd100k {split}")
    # Which layout each train frame's labels come in; each of them at least once if there are enough frames.
    layouts = [DET_20] * train_frames
    few, some = max(1, round(train_frames * 0.008)), max(1, train_frames // 10)
    wanted = [LIST_2018] * some + [SINGLE] * some + [DET_20_NULL] * few + [DET_20_ABSENT] * few + [NO_ENTRY] * few
    order = np.random.default_rng(plan).permutation(train_frames)
    for index, layout in zip(order[: max(0, train_frames - 1)].tolist(), wanted, strict=False):
        layouts[index] = layout
    _write_labels(root, "train", shots["train"], layouts)
    _write_labels(root, "val", shots["val"], [DET_20] * val_frames)


def _shoot(job: _FrameTask) -> _Shot:
    """Draw a street, take one image of it, write it."""
    rng = np.random.default_rng(job.seed)
    first, second = rng.integers(0, 2**32, 2, dtype=np.uint64).tolist()
    clip = Clip(traffic.draw_scene(rng, 0.0, traffic.AMERICAN), job.size, rng)
    image, objects = clip.frame(0)
    stem = f"{first:08x}-{second:08x}"
    (job.folder / f"{stem}.jpg").write_bytes(files.jpeg(image, job.quality))
    light, road = clip.street.light, clip.street.road
    attributes = {"weather": light.weather, "timeofday": light.time, "scene": road.scene}
    # Kerbs and lane markings left to right: style, and four points [4,2] in pixels of the frame.
    camera, lanes = clip.camera(0.0), []
    depth = camera.z + np.geomspace(camera.nearest_ground() * 1.1, 45.0, 4)
    for x, style in [(road.left, "kerb"), *sorted(road.dividers), (road.right, "kerb")]:
        pixels = camera.pixels(np.stack([np.full(4, x), np.zeros(4), depth], axis=1)) / clip.scale
        lanes.append((style, np.clip(pixels, 0.0, clip.size[::-1])))
    return _Shot(stem, attributes, objects, lanes)


def _write_labels(root: Path, split: str, shots: Sequence[_Shot], layouts: Sequence[int]) -> None:
    det_20: list[Json] = []
    list_2018: list[Json] = []
    for shot, layout in zip(shots, layouts, strict=True):
        entry: Json = {"name": f"{shot.stem}.jpg", "attributes": shot.attributes, "timestamp": 10000}
        if layout in (DET_20, DET_20_NULL, DET_20_ABSENT):
            if layout == DET_20:
                shown = enumerate(shot.objects)
                entry["labels"] = [{"id": str(i), **_label(seen, _NAMES_2020, seen.signal)} for i, seen in shown]
            elif layout == DET_20_NULL:
                entry["labels"] = None
            det_20.append(entry)
        elif layout == LIST_2018:
            # Boxes, then the lane markings and the drivable area as polygons.
            by_hand: Json = {"manualShape": True, "manualAttributes": True}
            labels = [_label_2018(seen) | by_hand for seen in shot.objects]
            for style, line in shot.lanes:
                dashed = "dashed" if style == "dashed" else "solid"
                looks = {"laneDirection": "parallel", "laneStyle": dashed, "laneType": _lane_type(style)}
                polygon = [{"vertices": np.round(line, 3).tolist(), "types": "L" * len(line), "closed": False}]
                labels.append({"attributes": looks, "category": "lane", **by_hand, "poly2d": polygon})
            if len(shot.lanes) >= 2:
                around = np.vstack([shot.lanes[0][1], shot.lanes[-1][1][::-1]])
                area = [{"vertices": np.round(around, 3).tolist(), "types": "L" * len(around), "closed": True}]
                labels.append({"attributes": {"areaType": "direct"}, "category": "drivable area", "poly2d": area})
            list_2018.append(entry | {"labels": [{"id": i, **label} for i, label in enumerate(labels)]})
        elif layout == SINGLE:  # one file of one frame, as before August 2018: its name goes without an extension
            objects = [{"id": i, **_label_2018(seen)} for i, seen in enumerate(shot.objects)]
            for style, line in shot.lanes:
                attributes = {"direction": "parallel", "style": "dashed" if style == "dashed" else "solid"}
                lane: Json = {"category": f"lane/{_lane_type(style)}", "id": len(objects), "attributes": attributes}
                objects.append(lane | {"poly2d": [[x, y, "L"] for x, y in np.round(line, 3).tolist()]})
            frames = [{"timestamp": 10000, "objects": objects}]
            single = {"name": shot.stem, "attributes": shot.attributes, "frames": frames}
            files.write_whole(root / "labels" / "100k" / split / f"{shot.stem}.json", json.dumps(single, indent=1))
    files.write_whole(root / "labels" / "det_20" / f"det_{split}.json", json.dumps(det_20, indent=1))
    if list_2018:
        files.write_whole(root / "labels" / f"bdd100k_labels_images_{split}.json", json.dumps(list_2018, indent=1))


def _label_2018(seen: VisibleObject) -> Json:
    return _label(seen, _NAMES_2018, _SIGNALS_2018[seen.signal])


def _label(seen: VisibleObject, names: Mapping[str, str], signal: str) -> Json:
    return {
        "attributes": {"occluded": seen.occluded, "truncated": seen.truncated, "trafficLightColor": signal},
        "category": names.get(seen.kind, seen.kind),
        "box2d": {name: round(value, 6) for name, value in zip(("x1", "y1", "x2", "y2"), seen.box, strict=True)},
    }


def _lane_type(style: str) -> str:
    return {"kerb": "road curb", "double": "double yellow"}.get(style, "single white")
