"""Preparing, reading and versioning frames at scale: ratios in one run (docs/dev/performance.md has the table)."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from mobile_centernet import codec
from mobile_centernet.data.convert import ClassMap, convert
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.readers.bdd100k import read_bdd100k
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training import augment
from mobile_centernet.data.training.loader import TrainingSamples
from tests.end_to_end.project import copy_project, run

pytestmark = pytest.mark.benchmark

CLASSES = ClassMap(("vehicle", "pedestrian"), {"car": "vehicle", "person": "pedestrian", "rider": None})
MANY, FEW, BOXES = 20_000, 2_000, 18
STORED, INPUT, SMALL = (360, 640), (320, 576), (90, 160)


@pytest.fixture(scope="module")
def originals(shared_data: Path) -> list[Path]:
    """The real BDD100K frames at hand, 1280x720."""
    return sorted((shared_data / "bdd100k-sample/images").rglob("*.jpg"))


@pytest.fixture(autouse=True)
def one_opencv_thread(one_thread: None) -> None:
    cv2.setNumThreads(1)


def footage(root: Path, pictures: list[Path], count: int, size: tuple[int, int] = (720, 1280)) -> Path:
    """BDD100K's layout of 2020 with so many frames of 18 boxes each; the images are links to the few given ones.

    `size` is (height, width) of all images: no box lies outside.
    """
    folder, labels = root / "images/100k/train", root / "labels/det_20"
    folder.mkdir(parents=True)
    labels.mkdir(parents=True)
    variants = [_objects(seed, size) for seed in range(50)]  # all different ones would take longer than the rest
    entries = []
    for number, picture in enumerate(islice(cycle(pictures), count)):
        name = f"{number:08x}-00000000.jpg"
        (folder / name).symlink_to(picture)
        found = variants[number % len(variants)]
        attributes = {"weather": "clear", "scene": "city street", "timeofday": "night"}
        entries.append({"name": name, "attributes": attributes, "timestamp": 10000, "labels": found})
    (labels / "det_train.json").write_text(json.dumps(entries))
    return root


def _objects(seed: int, size: tuple[int, int]) -> list[dict[str, object]]:
    corners = (np.random.default_rng(seed).random((BOXES, 2, 2)) * size[::-1]).round(6)
    boxes = [dict(zip(("x1", "y1", "x2", "y2"), (*c.min(0), *c.max(0)), strict=True)) for c in corners]
    return [{"id": str(i), "category": ("car", "person", "rider")[i % 3], "box2d": boxes[i]} for i in range(BOXES)]


@pytest.fixture(scope="module")
def small_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image that costs next to nothing, for what does not depend on its size."""
    path = tmp_path_factory.mktemp("picture") / "small.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (*SMALL, 3), np.uint8))
    return path


PREPARE = """
import json, statistics, sys, time
from pathlib import Path
import cv2
from mobile_centernet.data.readers.bdd100k import read_bdd100k
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare

cv2.setNumThreads(1)
classes = ClassMap(("vehicle", "pedestrian"), {"car": "vehicle", "person": "pedestrian", "rider": None})
raw, out = read_bdd100k(Path(sys.argv[1])), Path(sys.argv[2])
out.mkdir()

def ours():
    prepare(raw, raw.frames, classes, out / "set", max_size=(360, 640), quality=90, workers=1, progress=False)

def opencv():
    for frame in raw.frames:
        small = cv2.resize(cv2.imread(str(frame.image)), (640, 360), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(out / f"{frame.name}.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 90])

seconds = {ours: [], opencv: []}
for repetition in range(6):
    for candidate, measured in seconds.items():
        start = time.process_time()
        candidate()
        measured.append(time.process_time() - start)
print(json.dumps([len(raw.frames) / statistics.median(measured[1:]) for measured in seconds.values()]))
"""
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}
"""glibc then gives no memory back, and big buffers cost no page faults: these are nearly half of OpenCV's time."""


@pytest.mark.parametrize(("memory", "least"), [({}, 1.5), (KEPT_MEMORY, 1.0)], ids=["as it is", "memory kept"])
def test_prepare(memory, least, originals, tmp_path, row) -> None:
    """Processes of their own, like prepare's workers: in pytest's, big buffers are cheaper than there."""
    raw = footage(tmp_path / "raw", originals, 240)
    ours, opencv = measure_in_process(PREPARE, raw, tmp_path / "out", **memory)
    row(
        f"prepare 1280x720 → 640x360{', with ' + ', '.join(memory) if memory else ''}, frames/s of one core",
        f"decode, resize, encode with OpenCV {opencv:.0f}",
        f"prepare {ours:.0f}",
        f"{ours / opencv:.2f}× (target 2×)",
    )
    assert ours / opencv >= least  # 2× is missed: docs/dev/performance.md says why


def measure_in_process(code: str, *folders: Path, **environment: str) -> list[float]:
    """The numbers that a script prints as JSON; a file, because worker processes import it."""
    script = folders[-1].with_suffix(".py")
    script.write_text(code)
    command = [sys.executable, str(script), *map(str, folders)]
    environment = {**os.environ, "PYTHONPATH": ".", **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    numbers: list[float] = json.loads(done.stdout)
    return numbers


RSS = """
import json, multiprocessing, sys, threading
from pathlib import Path
from mobile_centernet.data.readers.bdd100k import read_bdd100k
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare

def peak(process):  # not getrusage: what it says begins with the peak of the process that started this one
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

def watch():
    while not done.wait(0.1):
        for worker in multiprocessing.active_children():
            try:
                workers[worker.pid] = peak(worker.pid)
            except (OSError, StopIteration):
                pass  # it has ended meanwhile

if __name__ == "__main__":
    done, workers = threading.Event(), {}
    threading.Thread(target=watch, daemon=True).start()
    classes = ClassMap(("vehicle", "pedestrian"), {"car": "vehicle", "person": "pedestrian", "rider": None})
    raw = read_bdd100k(Path(sys.argv[1]))
    read = peak("self")
    prepare(raw, raw.frames, classes, Path(sys.argv[2]), workers=2, progress=False)
    done.set()
    print(json.dumps([read, peak("self"), max(workers.values())]))
"""


def test_memory(small_picture, tmp_path, row) -> None:
    total = {}
    for count in (FEW, MANY):
        raw = footage(tmp_path / f"raw{count}", [small_picture], count, SMALL)
        read, own, worker = (kib / 1024 for kib in measure_in_process(RSS, raw, tmp_path / f"set{count}"))
        total[count] = own + 2 * worker
        row(
            f"prepare {count:,} frames of {BOXES} boxes, peak RSS",
            f"{total[count]:.0f} MiB",
            f"main process {own:.0f} (labels read: {read:.0f})",
            f"each of 2 workers {worker:.0f}",
        )
    ratio = total[MANY] / total[FEW]
    row(f"the same, {MANY:,} against {FEW:,} frames", f"{ratio:.2f}× (target 1.3×)")
    assert ratio <= 1.3


def test_loader(originals, tmp_path, side_by_side, row) -> None:
    raw = read_bdd100k(footage(tmp_path / "raw", originals, 10))
    prepare(raw, raw.frames, CLASSES, tmp_path / "set", max_size=STORED, quality=90, workers=1, progress=False)
    samples = TrainingSamples(
        PreparedSet(tmp_path / "set", "train"), input_size=INPUT, augmentation=augment.Augmentation(), seed=0
    )
    rng = np.random.default_rng(0)
    frames = [samples.prepared.frame(i) for i in samples.frames]

    def warped(i: int) -> np.ndarray:
        image = cv2.imread(str(raw.frames[i].image))
        view = augment.view_of(image.shape[:2], INPUT, augment.Augmentation(), rng)
        return augment.warp_image(image, view, INPUT)

    def ours() -> None:
        for i in range(len(samples)):
            samples[i]

    def read_and_warp() -> None:
        for i in range(len(samples)):
            warped(i)

    def centernet() -> None:
        for i, frame in enumerate(frames):
            recolour_as_centernet(warped(i), rng).transpose(2, 0, 1).copy()
            cells = (INPUT[0] // 4, INPUT[1] // 4)
            boxes, seen = augment.warp_boxes(frame.boxes, augment.straight(STORED, INPUT), INPUT)
            codec.encode(boxes[seen], frame.labels[seen], num_classes=2, output_size=cells, stride=4)

    candidates = {"ours": ours, "read and warp": read_and_warp, "centernet": centernet}
    seconds = side_by_side(candidates, repetitions=5, clock=time.process_time)
    rates = {name: len(samples) / taken for name, taken in seconds.items()}
    row(
        "training samples of 576x320, frames/s of one core",
        f"originals read and warped, nothing else {rates['read and warp']:.0f}",
        f"originals with all of CenterNet's augmentation and targets {rates['centernet']:.0f}",
        f"loader, the same from the prepared store {rates['ours']:.0f}",
        f"{rates['ours'] / rates['centernet']:.1f}× of like for like (target 3×), "
        f"{rates['ours'] / rates['read and warp']:.2f}× of reading and warping alone",
    )
    assert rates["ours"] / rates["centernet"] >= 2  # measured 2.9 on a busy machine: docs/dev/performance.md


def recolour_as_centernet(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation and lighting one after the other on float pixels, as its `color_aug` does."""
    pixels = image.astype(np.float32) / 255
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    mean = grey.mean()
    for change in rng.permutation(3):
        gain = 1 + rng.uniform(-0.4, 0.4)
        pixels *= gain
        if change == 1:
            pixels += mean * (1 - gain)
        elif change == 2:
            pixels += grey[:, :, None] * (1 - gain)
    pixels += augment.PCA_VECTORS @ (rng.normal(0, 0.1, 3).astype(np.float32) * augment.PCA_VALUES)
    return pixels


def test_label_conversion(small_picture, tmp_path, row) -> None:
    root = footage(tmp_path / "raw", [small_picture], MANY, SMALL)
    start = time.process_time()
    raw = read_bdd100k(root)
    read = time.process_time() - start
    boxes = sum(len(convert(frame, CLASSES, SMALL).boxes) for frame in raw.frames)
    seconds = time.process_time() - start
    assert boxes > MANY * BOXES * 0.6
    row(
        f"BDD100K labels of {MANY:,} frames with {BOXES} boxes each, CPU seconds of one core",
        f"read {read:.1f}",
        f"read and convert {seconds:.1f} (target 20)",
    )
    assert seconds < 20


def unique_bytes(*folders: Path) -> int:
    """Bytes on disk, a file with several hard links counted once."""
    files = [path.stat() for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sum({status.st_ino: status.st_blocks * 512 for status in files}.values())


@pytest.mark.timeout(3600)  # on a busy machine the first run takes its time
def test_dvc(small_picture, tmp_path, row, timed: Callable[..., tuple[float, float]]) -> None:
    raw = footage(tmp_path / "raw", [small_picture], MANY, SMALL)
    more = {"fetch_bdd100k.source": "folder", "fetch_bdd100k.path": str(raw)}
    project = copy_project(tmp_path / "project", more)
    first, _ = timed(project, "dvc", "repro", "prepare_bdd100k")
    again = [timed(project, "dvc", "repro", "prepare_bdd100k") for _ in range(3)]
    prepared, cache = project / "data/prepared/bdd100k", project / ".dvc/cache"
    own = unique_bytes(prepared)
    ratio = unique_bytes(prepared, cache) / own
    no_op, no_op_cpu = sorted(again)[1]
    row(
        f"dvc repro with a prepared set of {MANY:,} frames ({own / 2**20:.0f} MiB), wall-clock seconds",
        f"first {first:.0f}",
        f"nothing to do {no_op:.1f} (target 10), CPU seconds of it {no_op_cpu:.1f}",
        f"on disk {ratio:.3f}× the set (target 1.15×)",
    )
    assert no_op < 10, f"load {os.getloadavg()[0]:.0f}"
    assert ratio <= 1.15


WALK = """
import json, os, resource, statistics, sys, time
from pathlib import Path
from mobile_centernet.data.readers.common import walk
from mobile_centernet.data.readers.places import PathIndex, place_images

root = Path(sys.argv[1])
labels = root / "labels/det_train.json"
seconds = {"bare": [], "walk and match": [], "names, splits, videos": []}
for repetition in range(5):
    start = time.process_time()
    for folder, _, files in os.walk(root):
        for name in files:
            os.stat(os.path.join(folder, name))
    json.loads(labels.read_text())
    bare = time.process_time()
    listing = walk(root)
    walked = time.process_time()
    places = place_images(listing.images, [])
    placed = time.process_time()
    index = PathIndex(places)
    found = [index.find(entry["name"], split="train").position for entry in json.loads(labels.read_text())]
    end = time.process_time()
    assert len(set(found)) == len(places) and None not in found
    parts = (bare - start, walked - bare + end - placed, placed - walked)
    for measured, part in zip(seconds.values(), parts):
        measured.append(part)
mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([*map(statistics.median, seconds.values()), mebibytes]))
"""


def test_the_walk_and_the_match(tmp_path: Path, row: Callable[..., None]) -> None:
    """Beside `os.walk` with `stat` and reading the label list, at 100,000 frames."""
    root = tmp_path / "raw"
    folder = root / "images/100k/train"
    folder.mkdir(parents=True)
    (root / "labels").mkdir()
    names = [f"{number:08x}-{7 * number:08x}.jpg" for number in range(100_000)]
    for name in names:
        (folder / name).touch()
    (root / "labels/det_train.json").write_text(json.dumps([{"name": name, "labels": []} for name in names]))
    bare, ours, placed, mebibytes = measure_in_process(WALK, root)
    row(
        "walk and match 100,000 frames, CPU seconds",
        f"os.walk, stat, list {bare:.2f}",
        f"ours {ours:.2f}, {ours / bare:.2f}×",
        f"with names, splits, videos {(ours + placed) / bare:.2f}× (target 1.3×); {mebibytes:.0f} MiB",
    )
    assert (ours + placed) / bare <= 1.3 and mebibytes <= 400


@pytest.fixture
def timed() -> Callable[..., tuple[float, float]]:
    """Runs a command in a project; the seconds that it took, and the CPU seconds of all its processes."""

    def measure(project: Path, *command: str) -> tuple[float, float]:
        start, cpu = time.perf_counter(), _children_cpu()
        done = run(project, *command)
        assert done.returncode == 0, done.stdout + done.stderr
        return time.perf_counter() - start, _children_cpu() - cpu

    return measure


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


NEW_FOOTAGE = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
from mobile_centernet.data.readers.bdd100k import read_bdd100k
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare

classes = ClassMap(("vehicle", "pedestrian"), {"car": "vehicle", "person": "pedestrian", "rider": None})
out = Path(sys.argv[2])
raw = read_bdd100k(Path(sys.argv[1]))
before = replace(raw, frames=[frame for number, frame in enumerate(raw.frames) if number % 100 != 50])
seconds = []
for name, footage in (("set", before), ("set", raw), ("scratch", raw)):
    start = time.process_time()
    prepare(footage, footage.frames, classes, out / name, workers=1, progress=False, keep=out / f"{name}_kept")
    seconds.append(time.process_time() - start)
same = all(path.read_bytes() == (out / "set" / path.name).read_bytes() for path in (out / "scratch").iterdir())
print(json.dumps([seconds[1] / seconds[2], len(raw.frames) / seconds[2], same]))
"""


@pytest.mark.timeout(3600)
def test_one_percent_of_new_footage(originals, tmp_path, row) -> None:
    """The walk and the reading of labels are aside."""
    raw = footage(tmp_path / "raw", originals, 10_000)
    ratio, speed, same = measure_in_process(NEW_FOOTAGE, raw, tmp_path / "out")
    row(
        "prepare 10,000 frames of which 100 are new, against all of them, processor time",
        f"{ratio:.1%} (target 5 %)",
        f"all of them: {speed:.0f} frames/s of one core",
    )
    assert same and ratio <= 0.05
