"""CenterNet's training augmentation with exact geometry: the same affine map moves pixels and boxes.

Source: CenterNet `src/lib/datasets/sample/ctdet.py` and `src/lib/utils/image.py` (colour and lighting).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Eigenvalues and eigenvectors of ImageNet's RGB covariance for pixels in 0..1 (AlexNet's lighting noise).
PCA_VALUES = np.array([0.2141788, 0.01817699, 0.00341571], dtype=np.float32)
PCA_VECTORS = np.array(
    [
        [-0.58752847, -0.69563484, 0.41340352],
        [-0.5832747, 0.00994535, -0.81221408],
        [-0.56089297, 0.71832671, 0.41158938],
    ],
    dtype=np.float32,
)
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far a training frame may be changed.

    `scale` is the zoom's range (1 = the whole frame fills the input), `shift` how far the view's centre may move
    as a share of the frame's sides, `flip` the probability of mirroring, `colour` the strength of brightness,
    contrast and saturation changes, `lighting` the standard deviation of the PCA noise.
    """

    scale: tuple[float, float] = (0.6, 1.4)
    shift: float = 0.4
    flip: float = 0.5
    colour: float = 0.4
    lighting: float = 0.1


def view_of(
    frame_size: tuple[int, int], input_size: tuple[int, int], how: Augmentation | None, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The affine map [2, 3] from frame pixels to input pixels. Sizes are (height, width).

    Random with an augmentation: zoom, shift, perhaps mirrored. Without one that of evaluation: the whole frame,
    stretched to the input.
    """
    zoom, centre, mirror = 1.0, np.array([0.5, 0.5]), False
    if how is not None:
        zoom = rng.uniform(*how.scale)
        centre = 0.5 + rng.uniform(-how.shift, how.shift, size=2)
        mirror = bool(rng.random() < how.flip)
    (height, width), (input_height, input_width) = frame_size, input_size
    scale_x, scale_y = zoom * input_width / width, zoom * input_height / height
    shift_x = input_width / 2 - scale_x * centre[0] * width
    shift_y = input_height / 2 - scale_y * centre[1] * height
    if mirror:
        scale_x, shift_x = -scale_x, input_width - shift_x
    return np.array([[scale_x, 0.0, shift_x], [0.0, scale_y, shift_y]])


def warp_image(image: NDArray[np.uint8], view: NDArray[np.float64], input_size: tuple[int, int]) -> NDArray[np.uint8]:
    """image [h, w, 3] through `view` to [*input_size, 3]; what lies outside the frame is black.

    Box coordinates are continuous (a pixel's centre is at +0.5), OpenCV's are pixel centres: hence the half.
    """
    matrix = view.copy()
    matrix[:, 2] += view[:, :2] @ (0.5, 0.5) - 0.5
    height, width = input_size
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def warp_boxes(
    boxes: NDArray[np.float32], view: NDArray[np.float64], input_size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """boxes [N, 4] xyxy in frame pixels → the same in input pixels, clipped, and which of them are still seen.

    A box of which less than one input pixel is left in width or height is not seen.
    """
    (scale_x, _, shift_x), (_, scale_y, shift_y) = view
    xs = boxes[:, [0, 2]] * scale_x + shift_x
    ys = boxes[:, [1, 3]] * scale_y + shift_y
    height, width = input_size
    xs = np.sort(xs, axis=1).clip(0, width)  # mirroring swaps left and right
    ys = ys.clip(0, height)
    moved = np.stack([xs[:, 0], ys[:, 0], xs[:, 1], ys[:, 1]], axis=1).astype(np.float32)
    seen = (moved[:, 2] - moved[:, 0] >= 1) & (moved[:, 3] - moved[:, 1] >= 1)
    return moved, seen


def recolour(image: NDArray[np.uint8], how: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brightness, contrast and saturation in random order, then lighting noise; RGB 0..255 in and out.

    Each of these is an affine map of a pixel's colour, so their product is computed first and pixels change once.
    """
    colour = np.eye(3, 4)  # [3, 4], from (r, g, b, 1) to colours 0..255
    grey_mean = float(np.dot(cv2.mean(image)[:3], LUMA))
    for change in rng.permutation(3):
        gain = 1 + rng.uniform(-how.colour, how.colour)
        if change == 1:
            colour = gain * colour
            colour[:, 3] += (1 - gain) * grey_mean
        else:
            colour = gain * colour + ((1 - gain) * (LUMA @ colour) if change == 2 else 0.0)
    colour[:, 3] += 255 * (PCA_VECTORS @ (rng.normal(0, how.lighting, 3) * PCA_VALUES))
    return np.asarray(cv2.transform(image, colour), np.uint8)


def ignore_mask(boxes: NDArray[np.float32], output_size: tuple[int, int], stride: int) -> NDArray[np.bool_]:
    """[1, H, W], True where the heatmap's cells touch a region [M, 4] (xyxy, input pixels) to be ignored."""
    mask = np.zeros((1, *output_size), dtype=bool)
    lows = np.floor(boxes[:, :2] / stride).astype(int)
    highs = np.ceil(boxes[:, 2:] / stride).astype(int)
    for (x1, y1), (x2, y2) in zip(lows.tolist(), highs.tolist(), strict=True):
        mask[0, y1:y2, x1:x2] = True
    return mask
