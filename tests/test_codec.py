"""Encode and decode against CenterNet's own numbers, against hand-computed maps, and against each other."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from torch import Tensor

from mobile_centernet import codec
from mobile_centernet.codec import Targets


def encode(boxes: ArrayLike, labels: ArrayLike, max_objects: int = 128) -> Targets:
    """On a map of 5×6 cells with 2 classes."""
    return codec.encode(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        num_classes=2,
        output_size=(5, 6),
        max_objects=max_objects,
    )


class TestReference:
    """What the reference implementation computes."""

    @pytest.fixture(scope="class")
    def vectors(self, oracles: Path) -> dict[str, np.ndarray]:
        return dict(np.load(oracles / "centernet.npz"))

    def test_radius(self, oracles: Path) -> None:
        for case in json.loads((oracles / "centernet.json").read_text())["radius"]:
            assert codec.gaussian_radius(case["height"], case["width"]) == pytest.approx(case["radius"], 1e-12)

    @pytest.mark.parametrize("stride", [1, 4])
    def test_encode(self, vectors: dict[str, np.ndarray], stride: int) -> None:
        boxes, labels = vectors["boxes"] * stride, vectors["labels"]
        targets = codec.encode(boxes, labels, num_classes=4, output_size=(80, 144), stride=stride)
        n = len(labels)
        np.testing.assert_allclose(targets.heatmap, vectors["heatmap"], atol=1e-6)
        np.testing.assert_allclose(targets.size[:n], vectors["size"], atol=1e-5)
        np.testing.assert_allclose(targets.offset[:n], vectors["offset"], atol=1e-5)
        np.testing.assert_array_equal(targets.index[:n], vectors["index"])
        assert targets.mask.sum() == n
        assert targets.dropped == 0

    def test_decode(self, vectors: dict[str, np.ndarray]) -> None:
        maps = (torch.from_numpy(vectors[f"decode_{name}"]) for name in ("heatmap", "size", "offset"))
        boxes, scores, labels = codec.decode(*maps, stride=1)
        expected = vectors["decode_detections"]
        np.testing.assert_array_equal(boxes, expected[..., :4])
        np.testing.assert_array_equal(scores, expected[..., 4])
        np.testing.assert_array_equal(labels, expected[..., 5])


def slow_heatmap(boxes: np.ndarray, labels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The Gaussians of `boxes` (in cells), one cell at a time."""
    heatmap = np.zeros(shape)
    for (left, top, right, bottom), label in zip(boxes.tolist(), labels.tolist(), strict=True):
        radius = int(codec.gaussian_radius(math.ceil(bottom - top), math.ceil(right - left)))
        x, y, sigma = int((left + right) / 2), int((top + bottom) / 2), (2 * radius + 1) / 6
        for row, column in itertools.product(range(y - radius, y + radius + 1), range(x - radius, x + radius + 1)):
            if 0 <= row < shape[1] and 0 <= column < shape[2]:
                value = math.exp(-((row - y) ** 2 + (column - x) ** 2) / (2 * sigma**2))
                heatmap[label, row, column] = max(heatmap[label, row, column], value)
    return heatmap


def slow_decode(heatmap: np.ndarray, size: np.ndarray, offset: np.ndarray, k: int) -> list[tuple[float, ...]]:
    """(left, top, right, bottom, score, label) of the k best peaks of one image, looked for one cell at a time."""
    found = []
    for label, y, x in itertools.product(*map(range, heatmap.shape)):
        score = heatmap[label, y, x]
        if score == heatmap[label, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max():
            (w, h), (dx, dy) = size[:, y, x], offset[:, y, x]
            found.append((x + dx - w / 2, y + dy - h / 2, x + dx + w / 2, y + dy + h / 2, score, label))
    return sorted(found, key=lambda one: -one[4])[:k]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 30), stride=st.sampled_from([1, 4]))
def test_encode_is_the_heatmap_cell_by_cell(seed: int, count: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(0, (36, 20), (count, 2)), np.exp(rng.normal(2, 1, (count, 2)))
    boxes, labels = np.hstack((centre - size / 2, centre + size / 2)), rng.integers(0, 3, count)
    targets = codec.encode(boxes * stride, labels, num_classes=3, output_size=(20, 36), stride=stride)
    np.testing.assert_allclose(targets.heatmap, slow_heatmap(boxes, labels, (3, 20, 36)), atol=1e-6)
    np.testing.assert_allclose(targets.size[:count], size, rtol=1e-6)
    np.testing.assert_allclose(targets.offset[:count], centre % 1, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_decode_is_the_search_cell_by_cell(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heatmap = rng.permutation(3 * 10 * 12).reshape(3, 10, 12).astype(np.float32) / 400  # no two scores are equal
    size, offset = rng.uniform(1, 20, (2, 10, 12)), rng.uniform(0, 1, (2, 10, 12))
    boxes, scores, labels = codec.decode(
        *(torch.from_numpy(maps)[None] for maps in (heatmap, size, offset)), k=20, stride=1
    )
    expected = np.array(slow_decode(heatmap, size, offset, k=20))
    np.testing.assert_allclose(boxes[0], expected[:, :4], atol=1e-5)
    np.testing.assert_array_equal(scores[0], expected[:, 4].astype(np.float32))
    np.testing.assert_array_equal(labels[0], expected[:, 5])


def test_radius_by_hand() -> None:
    # 10×10 cells: a3 2.8, b3 -28, c3 -30, so (-28 + √(784 + 336)) / 2 in CenterNet's code.
    assert codec.gaussian_radius(10, 10) == pytest.approx(2.73320, abs=1e-5)
    # Solved right, the second is the smallest: a 4, b 40, c 30, so (40 - √(1600 - 480)) / 8.
    assert codec.gaussian_radius(10, 10, corrected_roots=True) == pytest.approx(0.81670, abs=1e-5)


@given(height=st.floats(1, 200), width=st.floats(1, 200))
def test_corrected_radius_keeps_the_overlap(height: float, width: float) -> None:
    r = float(codec.gaussian_radius(height, width, corrected_roots=True))
    area = height * width
    moved_in = (height - 2 * r) * (width - 2 * r) / area
    moved_out = area / ((height + 2 * r) * (width + 2 * r))
    shifted = (height - r) * (width - r)
    assert min(moved_in, moved_out, shifted / (2 * area - shifted)) == pytest.approx(0.7)


def test_encode_by_hand() -> None:
    # 4×4 cells around (2.5, 2.25): radius 1.09 → 1, σ = 0.5, one cell away e⁻², diagonally e⁻⁴.
    targets = encode([[2, 1, 18, 17]], [1], max_objects=3)
    side, corner = np.exp(-2), np.exp(-4)
    expected = np.zeros((2, 5, 6), np.float32)
    expected[1, 1:4, 1:4] = [[corner, side, corner], [side, 1, side], [corner, side, corner]]
    np.testing.assert_allclose(targets.heatmap, expected, rtol=1e-6)
    np.testing.assert_array_equal(targets.size, [[4, 4], [0, 0], [0, 0]])
    np.testing.assert_array_equal(targets.offset, [[0.5, 0.25], [0, 0], [0, 0]])
    np.testing.assert_array_equal(targets.index, [2 * 6 + 2, 0, 0])
    np.testing.assert_array_equal(targets.mask, [True, False, False])


def test_radius_is_that_of_the_size_rounded_up() -> None:
    # 3.5 cells alone would have a radius of 0.96 → 0, the 4 they are rounded up to have 1.09 → 1.
    targets = encode([[3, 3, 17, 17]], [0])
    assert np.count_nonzero(targets.heatmap) == 9
    np.testing.assert_array_equal(targets.size[0], [3.5, 3.5])


def test_encode_with_corrected_roots() -> None:
    box, label = np.array([[0, 0, 40, 40]], np.float32), np.array([0])
    published, corrected = (
        codec.encode(box, label, num_classes=1, output_size=(11, 11), corrected_roots=switch).heatmap
        for switch in (False, True)
    )
    assert [np.count_nonzero(published), np.count_nonzero(corrected)] == [5 * 5, 1]  # radius 2.73 → 2 and 0.82 → 0


def test_gaussian_is_cut_at_the_border() -> None:
    targets = encode([[-6, -6, 10, 10]], [0])  # the same box around cell (0, 0)
    side, corner = np.exp(-2), np.exp(-4)
    np.testing.assert_allclose(targets.heatmap[0, :2, :2], [[1, side], [side, corner]], rtol=1e-6)
    assert np.count_nonzero(targets.heatmap) == 4


def test_higher_value_stays_where_objects_overlap() -> None:
    targets = encode([[2, 2, 18, 18], [6, 2, 22, 18]], [0, 0])  # centres in neighbouring cells
    np.testing.assert_allclose(targets.heatmap[0, 2, 1:5], [np.exp(-2), 1, 1, np.exp(-2)], rtol=1e-6)


def test_centre_in_the_very_last_cell() -> None:
    edge = np.nextafter(np.float32(24), np.float32(0))
    targets = encode([[edge, 19, 24, 20]], [0])
    assert targets.index[0] == 4 * 6 + 5


def test_no_boxes() -> None:
    targets = encode([], [])
    assert not targets.heatmap.any()
    assert not targets.mask.any()


def test_overflow_keeps_the_largest_and_tells() -> None:
    targets = encode([[0, 0, 4, 4], [0, 0, 20, 20], [8, 8, 10, 10], [4, 4, 16, 16]], [0, 0, 1, 1], max_objects=2)
    assert targets.dropped == 2
    np.testing.assert_array_equal(targets.size, [[5, 5], [3, 3]])


@pytest.mark.parametrize(
    ("box", "label", "complaint"),
    [
        ([4, 4, 4, 8], 0, "positive, finite sizes"),
        ([8, 4, 4, 8], 0, "positive, finite sizes"),
        ([4, 4, np.nan, 8], 0, "positive, finite sizes"),
        ([4, 4, np.inf, 8], 0, "positive, finite sizes"),
        ([20, 4, 30, 8], 0, "centres inside the map"),
        ([-9, 4, 8, 8], 0, "centres inside the map"),
        ([4, 4, 8, 8], 2, "labels 0..1"),
        ([4, 4, 8, 8], -1, "labels 0..1"),
        ([4, 4, 8, 8], [0, 1], "one label a box"),
    ],
)
def test_bad_box_is_refused(box: list[float], label: ArrayLike, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        encode([box], np.atleast_1d(label))


def test_peaks() -> None:
    row = torch.tensor([0.1, 0.9, 0.2, 0.2, 0.5, 0.5])
    np.testing.assert_allclose(codec.peaks(row.view(1, 1, 1, 6)).flatten(), [0, 0.9, 0, 0, 0.5, 0])


@pytest.mark.parametrize("offset", [(0, 1), (1, -1), (1, 0), (1, 1)])
def test_of_two_equal_neighbours_the_first_is_the_peak(offset: tuple[int, int]) -> None:
    heatmap = torch.zeros(1, 1, 5, 5)
    heatmap[0, 0, 2, 2] = heatmap[0, 0, 2 + offset[0], 2 + offset[1]] = 0.5
    assert codec.peaks(heatmap).nonzero().tolist() == [[0, 0, 2, 2]]


def test_a_plateau_is_one_peak() -> None:
    heatmap = torch.zeros(1, 2, 6, 6)
    heatmap[0, 0, 1:4, 2:5] = 0.25
    heatmap[0, 1] = 1.0  # the whole map, its border included
    assert codec.peaks(heatmap).nonzero().tolist() == [[0, 0, 1, 2], [0, 1, 0, 0]]


def blank_maps(height: int = 4, width: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    return torch.zeros(1, 2, height, width), torch.ones(1, 2, height, width), torch.zeros(1, 2, height, width)


def test_decode_by_hand() -> None:
    heatmap, size, offset = blank_maps()
    heatmap[0, 1, 2, 3], heatmap[0, 0, 0, 0] = 0.9, 0.4
    size[0, :, 2, 3], offset[0, :, 2, 3] = torch.tensor([2.0, 1.0]), torch.tensor([0.25, 0.5])
    boxes, scores, labels = codec.decode(heatmap, size, offset, k=2)
    np.testing.assert_allclose(boxes[0], [[9, 8, 17, 12], [-2, -2, 2, 2]])
    np.testing.assert_allclose(scores[0], [0.9, 0.4])
    np.testing.assert_array_equal(labels[0], [1, 0])


def test_negative_size_gives_an_empty_box() -> None:
    heatmap, size, offset = blank_maps()
    heatmap[0, 0, 1, 1] = 1
    boxes = codec.decode(heatmap, -size, offset, k=1).boxes
    np.testing.assert_allclose(boxes[0, 0], [4, 4, 4, 4])


def test_decode_is_float32_whatever_comes_in() -> None:
    heatmap, size, offset = (values.half() for values in blank_maps(4, 400))
    heatmap[0, 0, 1, 399] = 1  # 4 · 399.5 needs more than fp16's 11 bits
    offset[:] = 0.25
    boxes, scores, labels = codec.decode(heatmap, size, offset, k=1)
    assert (boxes.dtype, scores.dtype, labels.dtype) == (torch.float32, torch.float32, torch.int64)
    assert boxes[0, 0, 0].item() == 4 * (399.25 - 0.5)


CELLS = st.lists(st.integers(0, 8 * 12 - 1), max_size=12, unique=True)


@settings(max_examples=60, deadline=None)
@given(cells=CELLS, seed=st.integers(0, 2**32 - 1))
def test_decode_inverts_encode(cells: list[int], seed: int) -> None:
    height, width, classes, n = 8, 12, 4, len(cells)
    rng = np.random.default_rng(seed)
    centre = np.stack((np.array(cells) % width, np.array(cells) // width), 1) + rng.uniform(0.01, 0.99, (n, 2))
    half = rng.uniform(0.1, 30, (n, 2))
    boxes = (np.concatenate((centre - half, centre + half), axis=1) * 4).astype(np.float32)
    # Neighbours are of different classes: of two certain ones in neighbouring cells a decoder can keep but one.
    labels = np.array([cell % width % 2 + cell // width % 2 * 2 for cell in cells], np.int64)
    targets = codec.encode(boxes, labels, num_classes=classes, output_size=(height, width), max_objects=16)

    # The maps that a perfect model would give.
    size, offset = (np.zeros((2, height * width), np.float32) for _ in range(2))
    size[:, targets.index[:n]], offset[:, targets.index[:n]] = targets.size[:n].T, targets.offset[:n].T
    maps = (torch.from_numpy(values).view(1, 2, height, width) for values in (size, offset))
    found = codec.decode(torch.from_numpy(targets.heatmap)[None], *maps, k=16)

    sure = found.scores[0] == 1
    assert sure.sum() == n
    order, found_order = (
        np.lexsort((*boxes.T, labels)),
        np.lexsort((*found.boxes[0, :n].numpy().T, found.labels[0, :n])),
    )
    np.testing.assert_allclose(found.boxes[0, :n][found_order], boxes[order], atol=1e-3)
    np.testing.assert_array_equal(found.labels[0, :n][found_order], labels[order])
