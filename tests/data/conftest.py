"""Small raw data sets for tests of readers and of the prepared set."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Writes an image of its own colour gradient; `write_image(path, height, width)`."""

    def write(path: Path, height: int = 36, width: int = 64) -> Path:
        y, x = np.mgrid[0:height, 0:width]
        tint = sum(path.name.encode()) % 256
        image = np.stack([255 * x / width, 255 * y / height, np.full_like(x, tint)], axis=2).astype(np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image)
        return path

    return write


@pytest.fixture
def write_json() -> Callable[[Path, object], Path]:
    """Writes a JSON file and the folders above it."""

    def write(path: Path, content: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture
def write_xml() -> Callable[..., Path]:
    """Writes a Pascal VOC file; `write_xml(path, ("vehicle", 1, 2, 30, 20), ..., size=(36, 64))`."""

    def write(path: Path, *objects: tuple[object, ...], size: tuple[object, object] | None = (36, 64)) -> Path:
        tags = ("xmin", "ymin", "xmax", "ymax")
        body = "".join(
            f"<object><name>{name}</name><bndbox>"
            + "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, corners, strict=True))
            + "</bndbox></object>"
            for name, *corners in objects
        )
        claim = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>" if size else ""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<annotation><filename>{path.stem}.jpg</filename>{claim}{body}</annotation>")
        return path

    return write
