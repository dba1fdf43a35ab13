"""Boxes drawn on frames: a detection beside the truth, a sheet of what training sees. Images are RGB uint8."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mobile_centernet.reports.style import INK, TEXT_COLOURS, class_colour

RgbImage = NDArray[np.uint8]

OUTLINE = "#101418"
_PAPER = (255, 255, 255)


@dataclass(frozen=True, slots=True, eq=False)
class BoxedImage:
    """An RGB image [H, W, 3] with boxes [N, 4] xyxy in its pixels and their 0-based labels [N]."""

    image: RgbImage
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


def draw_boxes(
    image: RgbImage,
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    scores: NDArray[np.float32] | None = None,
    *,
    width: int = 960,
    named: bool = True,
) -> RgbImage:
    """The frame scaled to `width` pixels with its boxes on it, small ones on top; the input stays as it was.

    `boxes` [N, 4] xyxy in pixels of `image`. `named` writes the class and, where `scores` [N] are given, the
    score in per cent into every box that has room for it: in a dense scene names would hide the image.
    Raises ValueError when a label has no class.
    """
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
        raise ValueError(f"labels: expected 0 to {len(classes) - 1}, found {labels.min()} to {labels.max()}")
    scale = width / image.shape[1]
    canvas = Image.fromarray(_scaled(image, scale))
    draw, line = ImageDraw.Draw(canvas), max(2, round(width / 480))
    corners = boxes.reshape(-1, 4) * scale
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    large_to_small = np.argsort(-areas, kind="stable").tolist()
    corners = corners.round().astype(int)
    for row in large_to_small:
        _draw_box(draw, tuple(corners[row].tolist()), class_colour(int(labels[row])), line)
    for row in large_to_small if named else []:
        score = "" if scores is None else f" {scores[row]:.0%}"
        name, colour = classes[labels[row]] + score, class_colour(int(labels[row]))
        # In the upper left corner, unless it needs more than the box is wide or half its height.
        x1, y1, x2, y2 = corners[row].tolist()
        size = max(11, round(width / 68))
        padding, font = size // 3, _font(size)
        long, high = round(font.getlength(name)) + 2 * padding, round(size * 1.4)
        if long <= x2 - x1 and high <= (y2 - y1) / 2:
            draw.rectangle((x1, y1, x1 + long, y1 + high), fill=colour)
            draw.text((x1 + padding, y1 + high / 2), name, font=font, fill=TEXT_COLOURS[colour], anchor="lm")
    return np.asarray(canvas)


def _draw_box(draw: ImageDraw.ImageDraw, box: tuple[int, ...], colour: str, line: int) -> None:
    x1, y1, x2, y2 = box
    x2, y2 = max(x1, x2), max(y1, y2)  # a box without area is drawn as a dot
    # a dark line under the coloured one keeps it visible on bright road and sky
    draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=OUTLINE, width=line + 2)
    draw.rectangle((x1, y1, x2, y2), outline=colour, width=line)


def draw_closely(
    image: RgbImage,
    box: NDArray[np.float32],
    label: int,
    others: NDArray[np.float32],
    *,
    size: tuple[int, int] = (225, 300),
) -> RgbImage:
    """One box [4] xyxy with what surrounds it, in an image of `size` = (height, width); `others` [N, 4] in thin white.

    The view is at least three times as large as the box, where the frame has that much, and never smaller than a
    quarter of the frame: out of its street nobody recognises a car of twelve pixels.
    """
    # The view in whole pixels of the frame: around the box, of the image's aspect, pushed back into the frame.
    (height, width), aspect = image.shape[:2], size[1] / size[0]
    x1, y1, x2, y2 = (float(value) for value in box)
    wanted = max(3 * (x2 - x1), 3 * (y2 - y1) * aspect, width / 4)
    wide = max(1, round(min(wanted, width, height * aspect)))
    high = max(1, min(height, round(wide / aspect)))
    left = min(max(0, round((x1 + x2 - wide) / 2)), width - wide)
    top = min(max(0, round((y1 + y2 - high) / 2)), height - high)

    scale = size[1] / wide
    canvas = Image.fromarray(_scaled(image[top : top + high, left : left + wide], scale)).resize(size[::-1])
    draw = ImageDraw.Draw(canvas)
    corners = ((np.vstack([others.reshape(-1, 4), box]) - [left, top, left, top]) * scale).round().astype(int)
    for other in corners[:-1].tolist():
        _draw_box(draw, tuple(other), "#FFFFFF", 1)
    _draw_box(draw, tuple(corners[-1].tolist()), class_colour(label), 3)
    return np.asarray(canvas)


def contact_sheet(
    frames: Sequence[BoxedImage],
    classes: Sequence[str],
    *,
    columns: int = 3,
    tile_size: tuple[int, int] = (270, 480),
    legend: bool = True,
) -> RgbImage:
    """The frames in a grid, their boxes in the colours of the legend below (the report page brings its own).

    `tile_size` = (height, width); frames of another shape are fitted into the tile, not stretched.
    Raises ValueError without frames: an empty sheet shows nothing.
    """
    if not frames:
        raise ValueError("contact_sheet: expected at least one frame")
    columns = min(columns, len(frames))
    gap = max(2, tile_size[1] // 60)
    rows = -(-len(frames) // columns)
    height, width = tile_size
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for number, frame in enumerate(frames):
        y, x = (number // columns) * (height + gap), (number % columns) * (width + gap)
        tile = sheet[y : y + height, x : x + width]
        tile[:] = 238
        fitted = round(frame.image.shape[1] * min(height / frame.image.shape[0], width / frame.image.shape[1]))
        drawn = draw_boxes(frame.image, frame.boxes, frame.labels, classes, width=fitted, named=False)
        drawn = drawn[:height, :width]
        y, x = (height - drawn.shape[0]) // 2, (width - drawn.shape[1]) // 2
        tile[y : y + drawn.shape[0], x : x + drawn.shape[1]] = drawn
    if not legend:
        return sheet

    # One coloured square and name per class, in as many lines as the width needs.
    size = min(28, max(16, sheet.shape[1] // 54))
    font, line_height = _font(size), round(size * 1.9)
    places, x, y = [], 0, 0
    for label, name in enumerate(classes):
        needed = round(size * 1.5 + font.getlength(name) + size * 1.6)
        if x and x + needed > sheet.shape[1]:
            x, y = 0, y + line_height
        places.append((x, y, label, name))
        x += needed
    strip = Image.new("RGB", (sheet.shape[1], y + line_height), _PAPER)
    draw = ImageDraw.Draw(strip)
    for x, y, label, name in places:
        middle = y + line_height // 2 + size // 6
        square = (x, middle - size // 2, x + size, middle + size // 2)
        draw.rounded_rectangle(square, radius=size // 5, fill=class_colour(label))
        draw.text((x + size * 1.5, middle), name, font=font, fill=INK, anchor="lm")
    return np.vstack([sheet, np.asarray(strip)])


def _scaled(image: RgbImage, scale: float) -> RgbImage:
    if scale == 1:
        return np.array(image)
    size = (round(image.shape[1] * scale), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: drawings look alike everywhere, class names may be in any script."""
    import matplotlib  # late: what draws no text waits for no plotting library

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)
