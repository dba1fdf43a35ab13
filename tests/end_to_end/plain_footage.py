"""Footage that a small network learns within a minute: cars are boxes with a window, and discs are none of them."""

import random
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 96, 160
Corners = tuple[int, int, int, int]


def film(folder: Path, batch: str, videos: int, seed: int) -> None:
    """Add that many one-frame videos with their labels to `folder`, in ivslab's layout, named after the batch."""
    rng = np.random.default_rng(seed)
    for number in range(videos):
        video = f"{batch}_{number:03d}.mp4"
        picture, boxes = _scene(rng)
        place = folder / "JPEGImages/All" / video / f"{video}_00001.jpg"
        place.parent.mkdir(parents=True)
        cv2.imwrite(str(place), picture)
        label = _label_of(place)
        label.parent.mkdir(parents=True)
        label.write_bytes(_xml(boxes))


def shuffle_labels(folder: Path, batch: str, seed: int) -> None:
    """Give every frame of a batch the labels of another one."""
    labels = [_label_of(picture) for picture in sorted(folder.glob(f"JPEGImages/All/{batch}_*/*.jpg"))]
    texts = [label.read_text() for label in labels]
    random.Random(seed).shuffle(texts)
    for label, text in zip(labels, texts, strict=True):
        label.write_text(text)


def _scene(rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[Corners]]:
    picture = np.full((HEIGHT, WIDTH, 3), float(rng.integers(60, 120)))
    picture[: HEIGHT // 2] += 40  # the sky
    noisy = np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        side = int(rng.integers(22, 40))
        x, y = int(rng.integers(0, WIDTH - side)), int(rng.integers(HEIGHT // 4, HEIGHT - side))
        cv2.circle(noisy, (x + side // 2, y + side // 2), side // 2 - 2, _paint(rng), -1)
    boxes: list[Corners] = []
    for _ in range(int(rng.integers(1, 4))):
        width = int(rng.integers(22, 46))
        height = int(width * rng.uniform(0.6, 0.9))
        x, y = int(rng.integers(0, WIDTH - width)), int(rng.integers(HEIGHT // 4, HEIGHT - height))
        box = (x, y, x + width, y + height)
        if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes):
            continue
        cv2.rectangle(noisy, box[:2], box[2:], _paint(rng), -1)
        cv2.rectangle(noisy, (x + 3, y + 3), (x + width - 3, y + height // 2), (30, 20, 20), -1)
        boxes.append(box)
    return noisy, boxes


def _paint(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(value) for value in rng.integers(150, 255, 3))


def _label_of(picture: Path) -> Path:
    return Path(str(picture).replace("JPEGImages", "Annotations")).with_suffix(".xml")


def _xml(boxes: list[Corners]) -> bytes:
    root = ElementTree.Element("annotation")
    for box in boxes:
        thing = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(thing, "name").text = "vehicle"
        place = ElementTree.SubElement(thing, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ElementTree.SubElement(place, tag).text = str(value)
    return ElementTree.tostring(root)
