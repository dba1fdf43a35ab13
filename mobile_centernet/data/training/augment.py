"""CenterNet's training augmentation with exact geometry: the same map moves pixels and boxes.

Source: CenterNet `src/lib/datasets/sample/ctdet.py` and `src/lib/utils/image.py` (colour and lighting).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.images import resize

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


@dataclass(frozen=True, slots=True)
class View:
    """Which part of a frame fills which part of the model's input: a crop, stretched into a rectangle, then mirrored.

    `crop` (x1, y1, x2, y2) in whole pixels of the frame, `target` the same in whole pixels of the input, neither of
    them empty. So the map of pixels is exact, and pixels can be averaged over areas as evaluation and devices do.
    """

    crop: tuple[int, int, int, int]
    target: tuple[int, int, int, int]
    mirror: bool = False


def view_of(
    frame_size: tuple[int, int], input_size: tuple[int, int], how: Augmentation | None, rng: np.random.Generator
) -> View:
    """What is visible of a frame. Sizes are (height, width).

    Random with an augmentation: zoom, shift, perhaps mirrored. Without one that of evaluation: the whole frame,
    stretched to the input.
    """
    zoom, centre, mirror = 1.0, np.array([0.5, 0.5]), False
    if how is not None:
        zoom = rng.uniform(*how.scale)
        centre = 0.5 + rng.uniform(-how.shift, how.shift, size=2)
        mirror = bool(rng.random() < how.flip)
    (x1, x2), (left, right) = _visible(frame_size[1], input_size[1], zoom, centre[0])
    (y1, y2), (top, bottom) = _visible(frame_size[0], input_size[0], zoom, centre[1])
    return View((x1, y1, x2, y2), (left, top, right, bottom), mirror)


def _visible(frame: int, target: int, zoom: float, centre: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Along one axis: the range of the frame's pixels that is seen, and the range of the input's where it is seen."""
    scale = zoom * target / frame
    shift = target / 2 - scale * centre * frame
    first = min(max(round(-shift / scale), 0), frame - 1)
    last = max(min(round((target - shift) / scale), frame), first + 1)
    begin = min(max(round(scale * first + shift), 0), target - 1)
    return (first, last), (begin, max(min(round(scale * last + shift), target), begin + 1))


def warp_image(image: NDArray[np.uint8], view: View, input_size: tuple[int, int]) -> NDArray[np.uint8]:
    """image [h, w, 3] through `view` to [*input_size, 3]; what lies outside the frame is black.

    Pixels are resized by `images.resize`, as for evaluation and on devices.
    """
    (x1, y1, x2, y2), (left, top, right, bottom) = view.crop, view.target
    seen = resize(image[y1:y2, x1:x2], (bottom - top, right - left))
    if seen.shape[:2] != input_size:
        black = np.zeros((*input_size, 3), np.uint8)
        black[top:bottom, left:right] = seen
        seen = black
    return seen[:, ::-1] if view.mirror else seen


def warp_boxes(
    boxes: NDArray[np.float32], view: View, input_size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """boxes [N, 4] xyxy in frame pixels → the same in input pixels, clipped to what is seen, and which still are.

    A box of which less than one input pixel is left in width or height is not seen.
    """
    crop, target = np.array(view.crop, np.float64).reshape(2, 2), np.array(view.target, np.float64).reshape(2, 2)
    scale = (target[1] - target[0]) / (crop[1] - crop[0])
    corners = ((boxes.reshape(-1, 2, 2) - crop[0]) * scale + target[0]).clip(target[0], target[1])
    moved = corners.reshape(-1, 4)
    if view.mirror:
        moved[:, [0, 2]] = input_size[1] - moved[:, [2, 0]]
    seen = (moved[:, 2] - moved[:, 0] >= 1) & (moved[:, 3] - moved[:, 1] >= 1)
    return moved.astype(np.float32), seen


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
