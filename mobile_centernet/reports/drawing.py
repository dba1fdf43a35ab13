"""Boxes drawn on frames: a detection beside the truth, a sheet of what training sees. Images are RGB uint8."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mobile_centernet.reports.palette import INK, class_colour, text_colour

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
    score in per cent into every box that has room for it: in a dense scene names would hide the picture.
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
        _write_name(draw, name, tuple(corners[row].tolist()), colour, max(11, round(width / 68)))
    return np.asarray(canvas)


def _draw_box(draw: ImageDraw.ImageDraw, box: tuple[int, ...], colour: str, line: int) -> None:
    x1, y1, x2, y2 = box
    x2, y2 = max(x1, x2), max(y1, y2)  # a box without area is drawn as a dot
    # a dark line under the coloured one keeps it visible on bright road and sky
    draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=OUTLINE, width=line + 2)
    draw.rectangle((x1, y1, x2, y2), outline=colour, width=line)


def _write_name(draw: ImageDraw.ImageDraw, name: str, box: tuple[int, ...], colour: str, size: int) -> None:
    """The name in the box's upper left corner, unless it needs more than the box is wide or half its height."""
    x1, y1, x2, y2 = box
    padding, font = size // 3, _font(size)
    width, height = round(font.getlength(name)) + 2 * padding, round(size * 1.4)
    if width > x2 - x1 or height > (y2 - y1) / 2:
        return
    draw.rectangle((x1, y1, x1 + width, y1 + height), fill=colour)
    draw.text((x1 + padding, y1 + height / 2), name, font=font, fill=text_colour(colour), anchor="lm")


def draw_detections(
    image: RgbImage,
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    classes: Sequence[str],
    truth: tuple[NDArray[np.float32], NDArray[np.int64]],
    *,
    width: int = 960,
) -> RgbImage:
    """Ground truth (left) beside the detections (right), each `width` pixels wide under a heading, over a legend.

    `truth` holds the boxes [N, 4] and labels [N] of the ground truth. Threshold the detections first.
    """
    left = draw_boxes(image, *truth, classes, width=width)
    right = draw_boxes(image, boxes, labels, classes, scores, width=width)
    headed = [_with_heading(left, "Ground truth"), _with_heading(right, "Detected")]
    gap = np.full((headed[0].shape[0], max(4, width // 80), 3), 255, np.uint8)
    pair = np.hstack([headed[0], gap, headed[1]])
    return np.vstack([pair, _legend(classes, pair.shape[1])])


def draw_closely(
    image: RgbImage,
    box: NDArray[np.float32],
    label: int,
    others: NDArray[np.float32],
    *,
    size: tuple[int, int] = (225, 300),
) -> RgbImage:
    """One box [4] xyxy with what surrounds it, in a picture of `size` = (height, width); `others` [N, 4] in thin white.

    The view is at least three times as large as the box, where the frame has that much, and never smaller than a
    quarter of the frame: out of its street nobody recognises a car of twelve pixels.
    """
    view = _view(box, image.shape[1], image.shape[0], size[1] / size[0])
    left, top, right, bottom = view
    scale = size[1] / (right - left)
    canvas = Image.fromarray(_scaled(image[top:bottom, left:right], scale)).resize(size[::-1])
    draw = ImageDraw.Draw(canvas)
    corners = ((np.vstack([others.reshape(-1, 4), box]) - [left, top, left, top]) * scale).round().astype(int)
    for other in corners[:-1].tolist():
        _draw_box(draw, tuple(other), "#FFFFFF", 1)
    _draw_box(draw, tuple(corners[-1].tolist()), class_colour(label), 3)
    return np.asarray(canvas)


def _view(box: NDArray[np.float32], width: int, height: int, aspect: float) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 in whole pixels of the frame: around the box, of this aspect, pushed back into the frame."""
    x1, y1, x2, y2 = (float(value) for value in box)
    wanted = max(3 * (x2 - x1), 3 * (y2 - y1) * aspect, width / 4)
    wide = max(1, round(min(wanted, width, height * aspect)))
    high = max(1, min(height, round(wide / aspect)))
    left = min(max(0, round((x1 + x2 - wide) / 2)), width - wide)
    top = min(max(0, round((y1 + y2 - high) / 2)), height - high)
    return left, top, left + wide, top + high


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
    tiles = [_tile(frame, classes, tile_size) for frame in frames]
    rows = -(-len(tiles) // columns)
    height, width = tile_size
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        y, x = (number // columns) * (height + gap), (number % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = tile
    return np.vstack([sheet, _legend(classes, sheet.shape[1])]) if legend else sheet


def _tile(frame: BoxedImage, classes: Sequence[str], tile_size: tuple[int, int]) -> RgbImage:
    scale = min(tile_size[0] / frame.image.shape[0], tile_size[1] / frame.image.shape[1])
    drawn = draw_boxes(
        frame.image, frame.boxes, frame.labels, classes, width=round(frame.image.shape[1] * scale), named=False
    )
    drawn = drawn[: tile_size[0], : tile_size[1]]
    tile = np.full((*tile_size, 3), 238, np.uint8)
    y, x = (tile_size[0] - drawn.shape[0]) // 2, (tile_size[1] - drawn.shape[1]) // 2
    tile[y : y + drawn.shape[0], x : x + drawn.shape[1]] = drawn
    return tile


def _legend(classes: Sequence[str], width: int) -> RgbImage:
    """One coloured square and name per class, in as many lines as the width needs."""
    size = min(28, max(16, width // 54))
    font, line_height = _font(size), round(size * 1.9)
    places, x, y = [], 0, 0
    for label, name in enumerate(classes):
        needed = round(size * 1.5 + font.getlength(name) + size * 1.6)
        if x and x + needed > width:
            x, y = 0, y + line_height
        places.append((x, y, label, name))
        x += needed
    strip = Image.new("RGB", (width, y + line_height), _PAPER)
    draw = ImageDraw.Draw(strip)
    for x, y, label, name in places:
        middle = y + line_height // 2 + size // 6
        square = (x, middle - size // 2, x + size, middle + size // 2)
        draw.rounded_rectangle(square, radius=size // 5, fill=class_colour(label))
        draw.text((x + size * 1.5, middle), name, font=font, fill=INK, anchor="lm")
    return np.asarray(strip)


def _with_heading(image: RgbImage, text: str) -> RgbImage:
    size = max(14, image.shape[1] // 40)
    strip = Image.new("RGB", (image.shape[1], round(size * 1.9)), _PAPER)
    ImageDraw.Draw(strip).text((0, strip.height // 2), text, font=_font(size), fill=INK, anchor="lm")
    return np.vstack([np.asarray(strip), image])


def _scaled(image: RgbImage, scale: float) -> RgbImage:
    if scale == 1:
        return image.copy()
    size = (round(image.shape[1] * scale), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def _font_path() -> Path:
    """matplotlib brings this font along, so drawings look alike everywhere and class names may be in any script."""
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_path()), size)
