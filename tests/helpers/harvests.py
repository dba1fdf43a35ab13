"""A device that harvests: its settings, the release that it follows, frames and what was found on them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.agent.config import Config, load_config
from mobile_centernet.detections import Detections
from tests.helpers.settings import to_toml

CLASSES = ("vehicle", "pedestrian", "bicycle")
LIVE: Any = SimpleNamespace(
    release=SimpleNamespace(
        digest="d" * 64, manifest=SimpleNamespace(thresholds=dict.fromkeys(CLASSES, 0.3), version="7")
    )
)
NOON = 1_790_000_000.0 // 86400 * 86400 + 43200  # of some day
DAY = 86400.0


def settings(folder: Path, **changes: dict[str, object]) -> Config:
    document: dict[str, dict[str, object]] = {
        "trust": {"url": "http://127.0.0.1:9", "root": "root.json", "model": "m", "timeout_s": 2.0},
        "paths": {"root": "device"},
        "device": {"name": "kiosk-07"},
        "store": {"keep_free_mb": 0},
        "poll": {"interval_s": 0.05, "longest_s": 0.2},
        "harvest": {"control": 0, "least_s": 0, "frames_a_day": 50},
    }
    for name, values in changes.items():
        document.setdefault(name, {}).update(values)
    (folder / "edge.toml").write_text(to_toml(document))
    return load_config(folder / "edge.toml")


def frame(seed: int, height: int = 96, width: int = 160) -> NDArray[np.uint8]:
    """Every seed another view, in which neighbouring pixels belong together."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def found(*rows: tuple[str, float, float, float, float, float]) -> Detections:
    """Detections of (class, score, x1, y1, x2, y2), best first."""
    rows = tuple(sorted(rows, key=lambda row: -row[1]))
    return Detections(
        np.array([row[2:] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.array([CLASSES.index(row[0]) for row in rows], np.int64),
        CLASSES,
    )


def records(folder: Path) -> list[dict[str, Any]]:
    """Of all frames that are kept below a folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json")) if path.name != "sent.json"]
