"""Boxes to heatmap, size and offset, and back: one inverse pair, the only implementation anywhere.

Both ways follow the reference implementation of CenterNet (Zhou et al. 2019). A cell is `stride` input pixels wide;
cell (x, y) of a map W cells wide has the index y·W + x.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from mobile_centernet.detections import DetectionBatch

STRIDE = 4
"""How many input pixels wide and high a cell of the models' maps is."""
Row = TypeVar("Row", bound=np.generic)


@dataclass(frozen=True)
class Targets:
    """What the heads should say about one frame; M = max_objects rows, of which `mask` marks the used ones.

    heatmap: float32 [C, H, W], 1 at the cell of each centre, a Gaussian around it
    size:    float32 [M, 2], width and height in stride cells
    offset:  float32 [M, 2], x and y from the cell's corner to the centre, in stride cells, 0..1
    index:   int64 [M], the centre's cell
    mask:    bool [M]
    dropped: how many objects, the smallest, found no row
    """

    heatmap: NDArray[np.float32]
    size: NDArray[np.float32]
    offset: NDArray[np.float32]
    index: NDArray[np.int64]
    mask: NDArray[np.bool_]
    dropped: int


def encode(
    boxes: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    num_classes: int,
    output_size: tuple[int, int],
    stride: int = STRIDE,
    max_objects: int = 128,
    corrected_roots: bool = False,
) -> Targets:
    """The targets of one frame: boxes [N, 4] xyxy in input pixels, labels [N], output_size (height, width) in cells.

    Raises ValueError for a box without a positive, finite size, a centre outside the map or a label out of range.
    """
    cells = np.asarray(boxes, np.float64).reshape(-1, 4) / stride
    classes = np.asarray(labels).astype(np.int64)
    size = cells[:, 2:] - cells[:, :2]
    centre = (cells[:, :2] + cells[:, 2:]) / 2
    if classes.shape != (len(size),):
        raise ValueError(f"expected one label a box, found {len(size)} boxes and labels of {classes.shape}")
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise ValueError(f"expected boxes with positive, finite sizes, found a smallest of {size.min()} cells")
    height, width = output_size
    if not ((centre >= 0).all() and (centre < (width, height)).all()):
        raise ValueError(f"expected centres inside the map of {width}x{height} cells, found {centre.tolist()}")
    if not ((classes >= 0).all() and (classes < num_classes).all()):
        raise ValueError(f"expected labels 0..{num_classes - 1}, found {sorted(set(classes.tolist()))}")

    kept = np.arange(len(size))
    if len(size) > max_objects:  # the largest, in their given order
        kept = np.sort(np.argsort(-size.prod(axis=1), kind="stable")[:max_objects])
    size, centre, classes = size[kept], centre[kept], classes[kept]
    cell = np.floor(centre).astype(np.int64)
    box_width, box_height = np.ceil(size.T)
    radius = gaussian_radius(box_height, box_width, corrected_roots=corrected_roots).astype(np.int64)
    return Targets(
        heatmap=_draw(cell, radius, classes, (num_classes, *output_size)),
        size=_padded(size.astype(np.float32), max_objects),
        offset=_padded((centre - cell).astype(np.float32), max_objects),
        index=_padded(cell[:, 1] * output_size[1] + cell[:, 0], max_objects),
        mask=np.arange(max_objects) < len(kept),
        dropped=len(cells) - len(kept),
    )


def decode(
    heatmap: Tensor, size: Tensor, offset: Tensor, *, k: int = 100, stride: int = STRIDE
) -> DetectionBatch[Tensor]:
    """The k best peaks as boxes. No NMS: a peak is the largest of its 3×3 neighbours, and the first of equal ones.

    heatmap [B, C, H, W] after the sigmoid; size, offset [B, 2, H, W] in stride cells; k at most H·W. Always float32.
    """
    # The highest cells: k of each class first, then k of those.
    scores, index = peaks(heatmap.float()).flatten(2).topk(k)
    scores, winners = scores.flatten(1).topk(k)
    labels = torch.div(winners, k, rounding_mode="trunc")
    index = index.flatten(1).gather(1, winners)

    width = heatmap.shape[-1]
    y = torch.div(index, width, rounding_mode="trunc")
    x = index - y * width  # not %: TensorRT 8.2 has no Mod
    centre = torch.stack((x, y), dim=-1) + gather_cells(offset.float(), index)
    # A young model may say a negative size; its box is empty, not inside out.
    half = F.relu(gather_cells(size.float(), index)) / 2
    boxes = torch.cat((centre - half, centre + half), dim=-1) * stride
    return DetectionBatch(boxes, scores, labels)


def peaks(heatmap: Tensor) -> Tensor:
    """[B, C, H, W] with every cell set to 0 that is not the maximum of its 3×3 neighbourhood.

    Of two equal neighbours only the one with the smaller index stays. CenterNet keeps both, which makes two boxes of
    one object where arithmetic of few bits gives neighbours the same value.
    """
    highest = F.max_pool2d(heatmap, kernel_size=3, stride=1, padding=1)
    in_row = F.max_pool2d(heatmap, kernel_size=(1, 3), stride=1, padding=(0, 1))
    # Neighbours with a smaller index: three of the row above, and the one to the left. Outside the map all is 0.
    above = torch.cat((torch.zeros_like(in_row[:, :, :1]), in_row[:, :, :-1]), dim=2)
    left = torch.cat((torch.zeros_like(heatmap[..., :1]), heatmap[..., :-1]), dim=3)
    is_peak = (highest == heatmap).to(heatmap.dtype) * (heatmap > torch.maximum(above, left)).to(heatmap.dtype)
    return heatmap * is_peak


def gather_cells(values: Tensor, index: Tensor) -> Tensor:
    """The columns of a map [B, D, H, W] at cells [B, N]: [B, N, D]."""
    columns = index[:, None].expand(-1, values.shape[1], -1)
    return values.flatten(2).gather(2, columns).transpose(1, 2)


def gaussian_radius(
    height: ArrayLike, width: ArrayLike, min_overlap: float = 0.7, corrected_roots: bool = False
) -> NDArray[np.float64]:
    """How far, in cells, a centre may slip until the box overlaps its own truth by less than `min_overlap`.

    height, width: scalars or arrays, in stride cells, used as given (`encode` rounds them up first).
    CenterNet's code, and so every published result, solves its three quadratic equations (CornerNet) by
    (b + √)/2, whatever a is; `corrected_roots` gives the true, smaller radii.
    """
    height, width = np.asarray(height, np.float64), np.asarray(width, np.float64)
    perimeter, area = height + width, height * width
    # a, b, c for: both corners outside, both inside, one of each
    outside = (1, perimeter, area * (1 - min_overlap) / (1 + min_overlap))
    inside = (4, 2 * perimeter, area * (1 - min_overlap))
    mixed = (4 * min_overlap, -2 * min_overlap * perimeter, area * (min_overlap - 1))
    roots = []
    for (a, b, c), sign in ((outside, -1), (inside, -1), (mixed, 1)):
        root = np.sqrt(b**2 - 4 * a * c)
        roots.append((b + sign * root) / (2 * a) if corrected_roots else (b + root) / 2)
    smallest: NDArray[np.float64] = np.minimum.reduce(roots)
    return smallest


def _draw(
    cell: NDArray[np.int64], radius: NDArray[np.int64], labels: NDArray[np.int64], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Each object's Gaussian of σ = (2r + 1)/6, cut off at r; where two overlap, the higher value stays."""
    heatmap = np.zeros(shape, np.float32)
    _, height, width = shape
    for (x, y), r, label in zip(cell.tolist(), radius.tolist(), labels.tolist(), strict=True):
        # A Gaussian is the outer product of two bells: one exponential per row and column, not per cell.
        bell = np.exp(-18 * (np.arange(-r, r + 1) / (2 * r + 1)) ** 2)
        left, top = max(x - r, 0), max(y - r, 0)
        right, bottom = min(x + r + 1, width), min(y + r + 1, height)
        window = heatmap[label, top:bottom, left:right]
        gaussian = np.outer(bell[top - y + r : bottom - y + r], bell[left - x + r : right - x + r])
        np.maximum(window, gaussian, out=window, casting="same_kind")
    return heatmap


def _padded(rows: NDArray[Row], length: int) -> NDArray[Row]:
    padded = np.zeros((length, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded
