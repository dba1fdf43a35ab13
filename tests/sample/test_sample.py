"""The synthetic sets: same seed same bytes, the raw layouts with their dirt, boxes that fit what is painted."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree.ElementTree import Element

import cv2
import numpy as np
import pytest
from defusedxml import ElementTree

from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.readers.bdd100k import read_bdd100k
from mobile_centernet.data.readers.ivslab import read_ivslab
from mobile_centernet.errors import DataError
from mobile_centernet.intake import Views, collect
from sample import cars, traffic, write_bdd100k, write_field, write_ivslab
from sample.clip import Clip
from sample.light import Light
from sample.painter import VisibleObject
from sample.street import Actor, Road, Street

SIZE = (180, 320)
HEIGHT, WIDTH = SIZE
VIDEOS, FRAMES = 9, 12
BDD_2020 = {
    "pedestrian", "bicycle", "motorcycle", "car", "bus", "truck", "rider", "traffic light", "traffic sign", "train",
}  # fmt: skip
BDD_2018 = {"person", "bike", "motor", "car", "bus", "truck", "rider", "traffic light", "traffic sign", "train"}


@pytest.fixture(scope="module")
def bdd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bdd100k")
    write_bdd100k(root, seed=5, train_frames=40, val_frames=3, size=SIZE, workers=1)
    return root


@pytest.fixture(scope="module")
def ivslab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ivslab")
    write_ivslab(root, seed=5, videos=VIDEOS, frames_per_video=FRAMES, test_frames=2, size=SIZE, workers=1)
    return root


def digests(root: Path) -> dict[str, str]:
    """The digest of every file below a folder."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- same seed, same bytes ---


def test_same_seed_gives_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        write_bdd100k(tmp_path / name / "b", seed=3, train_frames=5, val_frames=1, size=SIZE, workers=workers)
        write_ivslab(
            tmp_path / name / "i", seed=3, videos=3, frames_per_video=2, test_frames=1, size=SIZE, workers=workers
        )
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert one == two
    assert len(one) > 15


def test_another_seed_gives_other_pictures(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_ivslab(tmp_path / str(seed), seed=seed, videos=1, frames_per_video=1, test_frames=1, size=SIZE, workers=1)
    one, two = digests(tmp_path / "1"), digests(tmp_path / "2")
    pictures = [name for name in one if name.endswith(".jpg")]
    assert one.keys() == two.keys()
    assert pictures
    assert all(one[name] != two[name] for name in pictures)


def test_refuses_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "old.jpg").touch()
    with pytest.raises(DataError, match="expected a new or empty folder"):
        write_bdd100k(tmp_path, seed=1, train_frames=1, val_frames=0)


# --- BDD100K ---


def bdd_labels(root: Path) -> dict[str, list[str]]:
    """The names of the train images in each of the three layouts."""
    det_20 = json.loads((root / "labels/det_20/det_train.json").read_text())
    list_2018 = json.loads((root / "labels/bdd100k_labels_images_train.json").read_text())
    single = [json.loads(path.read_text()) for path in sorted((root / "labels/100k/train").glob("*.json"))]
    return {
        "det_20": [entry["name"] for entry in det_20],
        "2018": [entry["name"] for entry in list_2018],
        "single": [entry["name"] + ".jpg" for entry in single],
    }


def test_bdd_each_picture_is_in_one_layout_and_every_layout_is_used(bdd: Path) -> None:
    pictures = {path.name for path in (bdd / "images/100k/train").iterdir()}
    layouts = bdd_labels(bdd)
    named = [name for names in layouts.values() for name in names]
    assert all(layouts.values())
    assert len(named) == len(set(named)) == len(pictures) - 1  # one image has no entry at all
    assert set(named) < pictures
    assert len(layouts["det_20"]) > 0.7 * len(pictures)


def test_bdd_entries_have_the_shape_of_their_layout(bdd: Path) -> None:
    det_20 = json.loads((bdd / "labels/det_20/det_train.json").read_text())
    assert {"name", "attributes", "timestamp"} <= det_20[0].keys()
    assert det_20[0]["attributes"].keys() == {"weather", "timeofday", "scene"}
    assert sum("labels" not in entry for entry in det_20) == 1
    assert sum(entry.get("labels", ()) is None for entry in det_20) == 1
    label = next(label for entry in det_20 for label in entry.get("labels") or ())
    assert label.keys() == {"id", "attributes", "category", "box2d"}
    assert label["attributes"].keys() == {"occluded", "truncated", "trafficLightColor"}
    assert label["box2d"].keys() == {"x1", "y1", "x2", "y2"}

    entry = json.loads((bdd / "labels/bdd100k_labels_images_train.json").read_text())[0]
    areas = [label for label in entry["labels"] if "box2d" not in label]
    assert {"lane", "drivable area"} == {label["category"] for label in areas}
    assert all(label["poly2d"][0]["vertices"] for label in areas)

    path = next((bdd / "labels/100k/train").glob("*.json"))
    single = json.loads(path.read_text())
    assert single["name"] == path.stem
    assert single["frames"][0]["timestamp"] == 10000
    assert any("box2d" in thing for thing in single["frames"][0]["objects"])


def test_bdd_vocabularies_and_boxes_inside_the_picture(bdd: Path) -> None:
    det_20 = json.loads((bdd / "labels/det_20/det_train.json").read_text())
    labels = [label for entry in det_20 for label in entry.get("labels") or ()]
    list_2018 = json.loads((bdd / "labels/bdd100k_labels_images_train.json").read_text())
    labels_2018 = [label for entry in list_2018 for label in entry["labels"] if "box2d" in label]
    assert {label["category"] for label in labels} <= BDD_2020
    assert {label["category"] for label in labels_2018} <= BDD_2018
    for label in labels + labels_2018:
        box = label["box2d"]
        assert 0 <= box["x1"] < box["x2"] <= WIDTH
        assert 0 <= box["y1"] < box["y2"] <= HEIGHT


def test_bdd_reads_back(bdd: Path) -> None:
    raw = read_bdd100k(bdd)
    states = Counter((frame.split, frame.state) for frame in raw.frames)
    assert raw.findings == ()
    assert sum(states.values()) == 43
    assert states["train", FrameState.UNLABELLED] == 3  # labels null, labels missing, no entry
    assert states["val", FrameState.UNLABELLED] == 0
    assert all(frame.image.stem == frame.name for frame in raw.frames)


# --- ivslab ---


def annotations(root: Path) -> Iterator[tuple[str, Element]]:
    for path in sorted((root / "ivslab_train/Annotations").rglob("*.xml")):
        if path.stat().st_size:
            yield path.stem, ElementTree.fromstring(path.read_text())


def corners(thing: Element) -> list[float]:
    return [float(thing.findtext(f"bndbox/{tag}", "")) for tag in ("xmin", "ymin", "xmax", "ymax")]


def test_ivslab_layout(ivslab: Path) -> None:
    lines = (ivslab / "ivslab_train/ImageSets/All.txt").read_text().splitlines()
    assert lines[0] == "All/1_00_00.mp4/1_00_00.mp4_00001"
    assert len(lines) == len(set(lines)) == VIDEOS * FRAMES + 1
    videos = sorted(path.name for path in (ivslab / "ivslab_train/JPEGImages/All").iterdir())
    assert len(videos) == VIDEOS
    assert all(name.endswith(".mp4") for name in videos)
    assert (ivslab / f"ivslab_train/JPEGImages/All/{videos[1]}/{videos[1]}_00007.jpg").is_file()
    assert {path.name for path in (ivslab / "ivslab_test").rglob("*") if path.is_file()} == {"00001.jpg", "00002.jpg"}
    assert not (ivslab / "ivslab_test/Annotations").exists()
    name, root = next(annotations(ivslab))
    assert root.findtext("filename") == f"{name}.jpg"
    assert (root.findtext("size/width"), root.findtext("size/height")) == (str(WIDTH), str(HEIGHT))


def test_ivslab_boxes_are_whole_pixels_of_known_classes(ivslab: Path) -> None:
    things = [thing for _, root in annotations(ivslab) for thing in root.iter("object")]
    texts = [thing.findtext(f"bndbox/{tag}", "") for thing in things for tag in ("xmin", "ymin", "xmax", "ymax")]
    assert {thing.findtext("name") for thing in things} == {"vehicle", "pedestrian", "scooter", "bicycle"}
    assert all(text == "nan" or text.lstrip("-").isdigit() for text in texts)


def test_ivslab_dirt_is_there_and_rare(ivslab: Path) -> None:
    kinds: Counter[str] = Counter()
    for name, root in annotations(ivslab):
        kept = (int(name[-5:]) - 1) % 10 == 0
        for x1, y1, x2, y2 in (corners(thing) for thing in root.iter("object")):
            dirt = (
                "nan" if np.isnan(x1 + y1 + x2 + y2)
                else "inverted" if x2 < x1 or y2 < y1
                else "negative" if x1 < 0
                else "outside" if x2 > WIDTH
                else "clean"
            )  # fmt: skip
            kinds[dirt] += 1
            kinds[f"kept {dirt}"] += kept
    assert all(kinds[f"kept {dirt}"] for dirt in ("nan", "inverted", "negative", "outside"))
    assert kinds["clean"] > 20 * (kinds["nan"] + kinds["inverted"] + kinds["negative"] + kinds["outside"])

    lines = (ivslab / "ivslab_train/ImageSets/All.txt").read_text().splitlines()
    images = [ivslab / "ivslab_train/JPEGImages" / f"{line}.jpg" for line in lines]
    missing = [path.stem for path in images if not path.is_file()]
    broken = [path for path in images if path.is_file() and not path.read_bytes().endswith(b"\xff\xd9")]
    empty = [path for path in (ivslab / "ivslab_train/Annotations").rglob("*.xml") if not path.stat().st_size]
    assert len(missing) == 2
    assert len(broken) == len(empty) == 1
    assert all((int(name[-5:]) - 1) % 10 == 0 for name in [*missing, broken[0].stem, empty[0].stem])


def test_ivslab_reads_back(ivslab: Path) -> None:
    raw = read_ivslab(ivslab)
    states = Counter((frame.split, frame.state) for frame in raw.frames)
    assert Counter(finding.kind for finding in raw.findings) == {"missing_image": 2, "unreadable_label": 1}
    assert states["test", FrameState.UNLABELLED] == 2
    assert states["train", FrameState.UNLABELLED] == 1
    assert states["train", FrameState.EMPTY] >= FRAMES - 2  # the video without traffic
    assert len({frame.video for frame in raw.frames if frame.split == "train"}) == VIDEOS


def test_neighbouring_frames_are_alike_and_change_over_a_second(ivslab: Path) -> None:
    def picture(video: str, number: int) -> np.ndarray:
        path = ivslab / f"ivslab_train/JPEGImages/All/{video}/{video}_{number:05d}.jpg"
        image = cv2.imread(str(path))
        assert image is not None
        return cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float64)

    videos = ["1_00_00.mp4", "1_10_00.mp4", "1_30_00.mp4", "1_40_00.mp4", "1_50_00.mp4"]
    near = np.array([np.abs(picture(video, 4) - picture(video, 5)).mean() for video in videos])
    far = np.array([np.abs(picture(video, 2) - picture(video, 10)).mean() for video in videos])
    other = np.array([np.abs(picture(a, 4) - picture(b, 4)).mean() for a, b in pairwise(videos)])
    assert (near > 0).all()
    assert near.mean() < far.mean() < other.mean()
    assert near.max() < other.min()


# --- what is on the road ---


def sample(mix: traffic.Mix, count: int) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for seed in range(count):
        rng = np.random.default_rng((77, seed))
        _, objects = Clip(traffic.draw_scene(rng, 0.0, mix), SIZE, rng).frame(0)
        kinds.update(seen.kind for seen in objects)
    return kinds


def test_all_bdd_kinds_appear_and_trains_are_rare() -> None:
    kinds = sample(traffic.AMERICAN, 60)
    assert kinds.keys() == (BDD_2020 - {"pedestrian"}) | {"person"}
    assert kinds.most_common(1)[0][0] == "car"
    assert kinds["train"] == min(kinds.values())


def test_ivslab_classes_are_long_tailed_with_bicycles_rarest() -> None:
    kinds = sample(traffic.TAIWANESE, 60)
    vehicles = kinds["car"] + kinds["bus"] + kinds["truck"]
    assert vehicles > 1.5 * max(kinds["motorcycle"], kinds["person"])
    assert min(kinds["motorcycle"], kinds["person"]) > kinds["bicycle"] > 10
    assert "rider" not in kinds  # a scooter's box covers its rider


# --- boxes and pixels ---

DULL = Light(
    time="daytime", weather="overcast", zenith=(200, 190, 180), horizon=(220, 215, 210), tint=(1.0, 1.0, 1.0),
    ambient=0.8, sun=0.0, sun_direction=(0.3, 0.9, 0.0), haze=0.0, headlights=0.0,
)  # fmt: skip
EMPTY_ROAD = Road(
    left=-6.0, right=6.0, lanes=((0.0, 1),), dividers=(), parking=(), pavement=2.0, rails=None, crossing=None,
    bend=0.0, scene="highway",
)  # fmt: skip


def parked(x: float, z: float, kind: str = "hatchback") -> Actor:
    """A red car standing with its rear to us."""
    model = cars.car(kind, 4)
    return Actor(lambda _seconds: model, x, z, (0.9, 2.0), ("car",))


def shoot(*actors: Actor, seed: int = 0) -> tuple[np.ndarray, list[VisibleObject], Clip]:
    street = Street(EMPTY_ROAD, DULL, speed=0.0, duration=0.0, actors=list(actors))
    clip = Clip(street, (540, 960), np.random.default_rng(seed))
    image, objects = clip.frame(0)
    return image, objects, clip


@pytest.mark.parametrize(("x", "z"), [(0.0, 12.0), (-4.0, 18.0), (3.0, 25.0)])
def test_box_is_where_the_picture_changes_when_the_object_goes(x: float, z: float) -> None:
    with_car, (seen,), _ = shoot(parked(x, z))
    without, nothing, _ = shoot()
    assert nothing == []
    changed = np.abs(with_car.astype(int) - without.astype(int)).max(axis=2) > 12
    x1, y1, x2, y2 = seen.box
    changed[round((y1 + 2 * y2) / 3) :] = False  # the shadow lies around the wheels
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert columns[0] == pytest.approx(x1, abs=2)
    assert columns[-1] + 1 == pytest.approx(x2, abs=2)
    assert rows[0] == pytest.approx(y1, abs=2)
    assert changed[round(y1) : round((y1 + 2 * y2) / 3), round(x1) : round(x2)].mean() > 0.8


def test_box_size_follows_the_distance() -> None:
    _, (near,), clip = shoot(parked(0.0, 15.0))
    _, (far,), _ = shoot(parked(0.0, 28.0))
    focal = clip.camera(0.0).focal
    for seen, z in ((near, 15.0), (far, 28.0)):
        rear = z - 2.0  # the rear of a four-metre car
        assert seen.box[2] - seen.box[0] == pytest.approx(focal * 1.74 / rear, rel=0.2)
        assert seen.visible == 1.0
        assert not seen.truncated


def test_a_hidden_object_has_no_label_and_a_half_hidden_one_a_box_around_its_visible_half() -> None:
    _, alone, _ = shoot(parked(0.0, 10.0, "van"))
    _, hidden, _ = shoot(parked(0.0, 10.0, "van"), parked(0.0, 20.0))
    assert [seen.box for seen in hidden] == [seen.box for seen in alone]
    _, objects, clip = shoot(parked(0.0, 10.0, "van"), parked(2.2, 20.0))
    far, near = sorted(objects, key=lambda seen: seen.box[3])
    assert far.occluded
    assert not near.occluded
    mirror = 0.25 * clip.camera(0.0).focal / 8.0  # the near one's mirror sticks out beyond its flank
    assert near.box[2] - mirror <= far.box[0] <= near.box[2]


def test_an_object_at_the_border_is_truncated_and_its_box_ends_there() -> None:
    _, (seen,), _ = shoot(parked(-5.0, 7.0))
    assert seen.truncated
    assert seen.box[0] == 0.0


def test_small_objects_are_not_labelled() -> None:
    _, objects, _ = shoot(parked(0.0, 89.0))
    assert all(min(seen.box[2] - seen.box[0], seen.box[3] - seen.box[1]) >= 7 for seen in objects)
    assert shoot(parked(0.0, 95.0))[1] == []


def test_boxes_scale_with_the_picture() -> None:
    street = Street(EMPTY_ROAD, DULL, speed=0.0, duration=0.0, actors=[parked(1.0, 12.0)])
    (small,) = Clip(street, (540, 960), np.random.default_rng(0)).frame(0)[1]
    (large,) = Clip(street, (1080, 1920), np.random.default_rng(0)).frame(0)[1]
    assert large.box == tuple(2 * value for value in small.box)


def test_night_is_darker_but_lamps_are_not() -> None:
    day = Street(EMPTY_ROAD, DULL, speed=0.0, duration=0.0, actors=[parked(0.0, 10.0)])
    night_light = replace(DULL, time="night", ambient=0.2, zenith=(30, 20, 10), horizon=(60, 40, 40))
    night = replace(day, light=night_light)
    bright, (seen,) = Clip(day, (540, 960), np.random.default_rng(0)).frame(0)
    dark, _ = Clip(night, (540, 960), np.random.default_rng(0)).frame(0)
    x1, y1, x2, y2 = (round(value) for value in seen.box)
    assert dark.mean() < 0.6 * bright.mean()
    assert dark[y1:y2, x1:x2, 2].max() > 200


def painted(*actors: Actor) -> list[str]:
    """Kinds of what is seen, in the order in which it was painted."""
    return [seen.kind for seen in shoot(*actors)[1]]


def test_who_stands_behind_a_long_vehicle_is_painted_first() -> None:
    bus = Actor(parked(3.0, 20.0).build, 3.0, 20.0, (1.3, 6.0), ("bus",))
    walker = Actor(parked(7.0, 16.0).build, 7.0, 16.0, (0.3, 0.3), ("person",))
    cyclist = Actor(parked(0.5, 22.0).build, 0.5, 22.0, (0.4, 1.0), ("bicycle",))
    assert painted(bus, walker, cyclist)[-1] == "bus"
    assert painted(bus, walker) == ["person", "bus"]


def test_the_fleet_s_frames_are_whole_unlabelled_and_the_same_whatever_the_workers(tmp_path: Path) -> None:
    for workers in (1, 2):
        write_field(tmp_path / str(workers), seed=5, frames=10, size=SIZE, workers=workers)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")
    done = collect(str(tmp_path / "1"), Path("none"), Views(), tmp_path / "set")
    assert done.fates == {"unlabelled": 10} and not done.findings
    assert {place.split("/")[0] for place in done.files} == {"car-1_front_2026-01-05.mp4", "car-2_front_2026-01-05.mp4"}
