"""A synthetic ivslab: videos frame by frame, Pascal-VOC labels, and the known dirt of the real one."""

from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from sample import files, traffic
from sample.clip import FPS, Clip

_CLASSES = {
    "car": "vehicle",
    "bus": "vehicle",
    "truck": "vehicle",
    "person": "pedestrian",
    "motorcycle": "scooter",
    "bicycle": "bicycle",
}
_KEPT_OF = 10  # the paper keeps frames 1, 11, 21 …: dirt planted there survives the subsampling
_BOX_DIRT = ("nan", "inverted", "negative", "outside")
_BOX_DIRT_RATE = 0.04  # of the frames: about one box of a hundred and fifty


@dataclass(frozen=True, slots=True)
class _Dirt:
    """What is wrong with one video, by frame number."""

    boxes: dict[int, str] = field(default_factory=dict)
    missing: frozenset[int] = frozenset()
    truncated: frozenset[int] = frozenset()
    empty_xml: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class _VideoTask:
    """A video of `frames` frames; of a test set, where `frames` is 0, a single image without labels."""

    root: Path
    name: str
    frames: int
    deserted: bool
    seed: np.random.SeedSequence
    size: tuple[int, int]
    quality: int
    dirt: _Dirt = _Dirt()


def write_ivslab(
    root: Path,
    *,
    seed: int,
    videos: int,
    frames_per_video: int,
    test_frames: int = 12,
    size: tuple[int, int] = (1080, 1920),
    jpeg_quality: int = 85,
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Write a synthetic set in ivslab's raw layout: `ivslab_train` with labels and dirt, `ivslab_test` flat without.

    Frames of a video are a tenth of a second apart. Every sixteenth video (the eighth first) has no traffic: its
    frames are verified empty. About 1 % of the boxes have NaN, inverted, negative or outside coordinates; a few
    listed images are missing, one JPEG is truncated, one XML file is empty. Same arguments, same bytes, whatever
    `workers` is. The list `ImageSets/All.txt` is written last.

    Args:
        root: a new or empty folder.
        seed: of everything.
        videos: number of training videos.
        frames_per_video: frames of each, numbered from 1.
        test_frames: number of unlabelled images in `ivslab_test`.
        size: (height, width) of the images in pixels.
        jpeg_quality: 1–100.
        workers: processes; None takes one per core.
        progress: show a progress bar.

    Raises:
        DataError: `root` is not empty.
    """
    files.claim(root)
    clips, tests, plan = np.random.SeedSequence((seed, 200)).spawn(3)
    train, test = root / "ivslab_train", root / "ivslab_test"
    names = [f"{1 + i // 6}_{i % 6}0_00.mp4" for i in range(videos)]

    # Which frames get which dirt is decided before any work is shared out.
    rng, dirt = np.random.default_rng(plan), []
    kept = list(range(1, frames_per_video + 1, _KEPT_OF))
    spots = [(v, f) for v in range(videos) for f in kept]
    order = [spots[i] for i in rng.permutation(len(spots)).tolist()]
    wanted = max(1, round(videos * frames_per_video * 0.002))
    broken, empty, gone = (order[:1], order[1:2], order[2 : 2 + wanted]) if len(spots) > 3 else ([], [], [])
    taken = {*broken, *empty, *gone}
    for video in range(videos):
        planted = next((f for f in kept[::-1] if (video, f) not in taken), None)
        numbers = range(1, frames_per_video + 1)
        boxes = {f: str(rng.choice(_BOX_DIRT)) for f in numbers if rng.random() < _BOX_DIRT_RATE}
        if planted is not None and video % 2 == 0:
            boxes[planted] = _BOX_DIRT[video // 2 % len(_BOX_DIRT)]
        dirt.append(_Dirt(boxes, *(frozenset(f for v, f in dirty if v == video) for dirty in (gone, broken, empty))))

    jobs = [
        _VideoTask(train, name, frames_per_video, i % 16 == 7, child, size, jpeg_quality, dirt[i])
        for i, (name, child) in enumerate(zip(names, clips.spawn(videos), strict=True))
    ]
    (test / "JPEGImages" / "All").mkdir(parents=True)
    (train / "ImageSets").mkdir(parents=True)
    files.work(_film, jobs, workers=workers, progress=progress, name="ivslab train")
    shots = [
        _VideoTask(test, f"{i + 1:05d}.jpg", 0, False, child, size, jpeg_quality)
        for i, child in enumerate(tests.spawn(test_frames))
    ]
    files.work(_film, shots, workers=workers, progress=progress, name="ivslab test")
    lines = [f"All/{name}/{name}_{number:05d}" for name in names for number in range(1, frames_per_video + 1)]
    # A line for which neither image nor label exists, as in the real list.
    beyond = -(-frames_per_video // _KEPT_OF) * _KEPT_OF + 1  # no number that subsampling keeps
    lines += [f"All/{name}/{name}_{beyond:05d}" for name in names[2:3]]
    files.write_whole(train / "ImageSets" / "All.txt", "\n".join(lines) + "\n")


def _film(task: _VideoTask) -> None:
    """All frames of one video with their labels, dirt included; or the one image of a test set."""
    rng = np.random.default_rng(task.seed)
    mix = traffic.DESERTED if task.deserted else traffic.TAIWANESE
    clip = Clip(traffic.draw_scene(rng, task.frames / FPS, mix), task.size, rng)
    pictures, labels = (task.root / kind / "All" / task.name for kind in ("JPEGImages", "Annotations"))
    if not task.frames:
        pictures.write_bytes(files.jpeg(clip.frame(0)[0], task.quality))
        return
    pictures.mkdir(parents=True)
    labels.mkdir(parents=True)
    rng = np.random.default_rng(task.seed.spawn(1)[0])
    height, width = task.size
    for number in range(1, task.frames + 1):
        image, objects = clip.frame(number - 1)
        stem = f"{task.name}_{number:05d}"
        data = files.jpeg(image, task.quality)
        if number not in task.dirt.missing:
            cut = len(data) // 2 if number in task.dirt.truncated else len(data)
            (pictures / f"{stem}.jpg").write_bytes(data[:cut])
        # The objects that ivslab labels, in whole pixels.
        boxes = [(_CLASSES[o.kind], [str(round(v)) for v in o.box]) for o in objects if o.kind in _CLASSES]
        # Negative and outside ones are extra boxes beyond the image, so that no true box is lost.
        dirt = task.dirt.boxes.get(number)
        if dirt in ("negative", "outside"):
            aside = int(rng.integers(20, 90))
            x1 = -aside if dirt == "negative" else width + 4
            y1 = int(rng.integers(height // 4, height // 2))
            boxes.append(("vehicle", [str(v) for v in (x1, y1, x1 + aside - 4, y1 + aside)]))
        elif dirt and boxes:
            index = int(rng.integers(len(boxes)))
            name, (left, top, right, bottom) = boxes[index]
            boxes[index] = (name, ["nan", top, "nan", bottom] if dirt == "nan" else [right, bottom, left, top])
        root = ElementTree.Element("annotation")
        for tag, text in (("folder", "All"), ("filename", f"{stem}.jpg")):
            ElementTree.SubElement(root, tag).text = text
        shape = ElementTree.SubElement(root, "size")
        for tag, value in (("width", width), ("height", height), ("depth", 3)):
            ElementTree.SubElement(shape, tag).text = str(value)
        for name, corners in boxes:
            thing = ElementTree.SubElement(root, "object")
            for tag, text in (("name", name), ("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
                ElementTree.SubElement(thing, tag).text = text
            box = ElementTree.SubElement(thing, "bndbox")
            for tag, text in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
                ElementTree.SubElement(box, tag).text = text
        ElementTree.indent(root)
        written = "" if number in task.dirt.empty_xml else ElementTree.tostring(root, encoding="unicode") + "\n"
        (labels / f"{stem}.xml").write_text(written, encoding="utf-8")
