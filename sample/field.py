"""What a synthetic fleet sent: unlabelled frames of streets like those of ivslab's sample, laid out as uploaded."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np

from mobile_centernet.field.spool import FORMAT
from sample import files, traffic
from sample.clip import Clip

CAMERA = "front"
A_DAY = 8  # frames of one device
_DEVICES = 6
_BEGIN = datetime(2026, 1, 5, 8, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _FieldTask:
    root: Path
    device: str
    at: datetime
    seed: np.random.SeedSequence
    size: tuple[int, int]
    quality: int


def write_field(
    root: Path,
    *,
    seed: int,
    frames: int,
    size: tuple[int, int] = (1080, 1920),
    jpeg_quality: int = 85,
    workers: int | None = None,
    progress: bool = False,
) -> None:
    """Write frames with their records as `mobile-centernet-edge upload` does; each shows a drive of its own.

    Six devices send eight frames each, drawn by chance, then it is the next day. Same arguments, same bytes, whatever
    `workers` is.

    Args:
        root: a new or empty folder; below it DEVICE/front/DAY/DIGEST.jpg and .json.
        seed: of everything.
        frames: number of frames.
        size: (height, width) of the images in pixels.
        jpeg_quality: 1–100.
        workers: processes; None takes one per core.
        progress: show a progress bar.

    Raises:
        DataError: `root` is not empty.
    """
    files.claim(root)
    tasks = []
    for number, child in enumerate(np.random.SeedSequence((seed, 300)).spawn(frames)):
        turn, hour = divmod(number, A_DAY)
        day, device = divmod(turn, _DEVICES)
        at = _BEGIN + timedelta(days=day, hours=hour, minutes=device)
        tasks.append(_FieldTask(root, f"car-{device + 1}", at, child, size, jpeg_quality))
    files.work(_send, tasks, workers=workers, progress=progress, name="field")


def _send(task: _FieldTask) -> None:
    rng = np.random.default_rng(task.seed)
    clip = Clip(traffic.draw_scene(rng, 0.1, traffic.TAIWANESE), task.size, rng)
    data = files.jpeg(clip.frame(0)[0], task.quality)
    digest = sha256(data).hexdigest()
    folder = task.root / task.device / CAMERA / f"{task.at:%Y-%m-%d}"
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "format": FORMAT,
        "sha256": digest,
        "usefulness": 0.0,
        "control": True,
        "at": task.at.isoformat(),
        "device": task.device,
        "camera": CAMERA,
        "release": "",
        "version": "",
        "reason": "control",
        "reasons": {"control": 1.0},
        "width": task.size[1],
        "height": task.size[0],
        "blurred": [],
        "detections": [],
    }
    (folder / f"{digest}.jpg").write_bytes(data)
    files.write_whole(folder / f"{digest}.json", json.dumps(record, indent=1) + "\n")
