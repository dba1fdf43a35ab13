"""The one decode and the one resize: what comes in, what goes back, and what is refused."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobile_centernet.boxes import boxes_to_original
from mobile_centernet.errors import DataError
from mobile_centernet.images import read_image, resize, to_input
from mobile_centernet.images.headers import jpeg_size
from mobile_centernet.images.opencv import decode_image, encode_jpeg


def smooth(height: int, width: int) -> np.ndarray:
    """An image that compresses well and has another colour in each corner."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * x / width, 255 * y / height, 255 - 255 * x / width], axis=2).astype(np.uint8)


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The same JPEG with an EXIF block that says how to turn it."""
    tiff = b"II*\0" + (8).to_bytes(4, "little") + b"\1\0"
    tiff += (0x0112).to_bytes(2, "little") + (3).to_bytes(2, "little") + (1).to_bytes(4, "little")
    tiff += orientation.to_bytes(4, "little") + bytes(4)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


def test_shrinking_averages_pixels():
    image = np.zeros((4, 4, 3), np.uint8)
    image[::2] = 200
    assert (resize(image, (2, 2)) == 100).all()


def test_resize_to_its_own_size_changes_nothing():
    image = smooth(36, 64)
    assert np.array_equal(resize(image, (36, 64)), image)


def test_resize_stretches_straight_without_padding():
    image = np.full((90, 40, 3), 77, np.uint8)
    stretched = resize(image, (32, 64))
    assert stretched.shape == (32, 64, 3)
    assert (stretched == 77).all()


def test_to_input_is_channels_first_rgb_from_0_to_255():
    image = np.zeros((10, 20, 3), np.uint8)
    image[..., 0] = 255
    tensor = to_input(image, (5, 10))
    assert tensor.shape == (1, 3, 5, 10)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert (tensor[0, 0] == 255).all()
    assert not tensor[0, 1:].any()


def test_boxes_return_to_the_frame_they_came_from():
    boxes = np.array([[[0, 0, 576, 320], [288, 160, 300, 200]]], np.float32)
    original = boxes_to_original(boxes, (320, 576), (1080, 1920))
    assert np.allclose(original, [[[0, 0, 1920, 1080], [960, 540, 1000, 675]]])
    assert original.dtype == np.float32


def test_boxes_are_clipped_to_the_original_frame():
    boxes = np.array([[-5, -5, 1000, 1000]], np.float32)
    assert np.allclose(boxes_to_original(boxes, (100, 200), (50, 60)), [[0, 0, 60, 50]])


@settings(max_examples=50, deadline=None)
@given(st.tuples(st.integers(1, 2000), st.integers(1, 2000)), st.integers(0, 2**32 - 1))
def test_boxes_round_trip_between_input_and_original(size, seed):
    rng = np.random.default_rng(seed)
    boxes = np.sort(rng.uniform(0, 1, (5, 2, 2)), axis=1).reshape(5, 4).astype(np.float32) * [576, 320, 576, 320]
    there = boxes_to_original(boxes.astype(np.float32), (320, 576), size)
    assert np.allclose(boxes_to_original(there, size, (320, 576)), boxes, atol=1e-2)


def test_read_image_gives_rgb(tmp_path):
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 2] = 255  # blue
    cv2.imwrite(str(tmp_path / "blue.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert np.array_equal(read_image(tmp_path / "blue.png"), image)


def test_read_image_keeps_stored_pixels_whatever_exif_says(tmp_path):
    image = smooth(24, 48)
    (tmp_path / "turned.jpg").write_bytes(with_orientation(encode_jpeg(image, 95), 6))
    turned = cv2.imread(str(tmp_path / "turned.jpg"))
    assert turned.shape == (48, 24, 3), "the EXIF block of this test is not read by OpenCV"
    assert read_image(tmp_path / "turned.jpg").shape == image.shape


def test_grey_pictures_become_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.jpg"), np.full((8, 8), 90, np.uint8))
    assert read_image(tmp_path / "grey.jpg").shape == (8, 8, 3)


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jpg: expected an image"):
        read_image(tmp_path / "nowhere.jpg")


@pytest.mark.parametrize("kept", [0, 1, 2, 50, 0.3, 0.6, 0.9, -2, -1])
@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpeg_cut_off_anywhere_is_refused(kept, progressive):
    _, buffer = cv2.imencode(".jpg", smooth(64, 96), [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
    whole = buffer.tobytes()
    end = int(kept * len(whole)) if isinstance(kept, float) else kept
    with pytest.raises(DataError, match=r"frame 7: expected an? .*image"):
        decode_image(whole[:end], "frame 7")


def test_a_cut_jpeg_padded_with_zeros_is_refused():
    whole = encode_jpeg(smooth(64, 96), 90)
    cut = whole[: len(whole) // 2]
    with pytest.raises(DataError, match="cut off"):
        decode_image(cut + bytes(len(whole) - len(cut)), "padded")


def test_a_cut_jpeg_is_not_taken_for_whole_because_its_thumbnail_is():
    thumbnail, picture = encode_jpeg(smooth(16, 16), 50), encode_jpeg(smooth(64, 96), 90)
    segment = b"Exif\0\0" + thumbnail
    with_thumbnail = picture[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + picture[2:]
    assert decode_image(with_thumbnail, "whole").shape == (64, 96, 3)
    with pytest.raises(DataError, match="cut off"):
        decode_image(with_thumbnail[:-200], "cut")


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm():
    whole = encode_jpeg(smooth(64, 96), 90)
    assert decode_image(whole + bytes(33), "padded").shape == (64, 96, 3)
    assert decode_image(whole + b"SEFT camera trailer\n", "trailer").shape == (64, 96, 3)


def test_text_is_no_picture():
    with pytest.raises(DataError, match="do not decode"):
        decode_image(b"<html>not found</html>", "download")


def test_a_header_with_absurd_dimensions_is_refused_not_allocated():
    jpeg = bytearray(encode_jpeg(smooth(64, 96), 90))
    frame = jpeg.find(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = (65500).to_bytes(2, "big") * 2
    with pytest.raises(DataError, match="at most 89,478,485 pixels, found a header that claims 65500x65500"):
        decode_image(bytes(jpeg), "bomb")


@pytest.mark.parametrize("size", [(720, 1280), (1, 1), (33, 1001)])
@pytest.mark.parametrize("progressive", [0, 1])
def test_the_header_tells_the_size_that_decoding_gives(size, progressive):
    _, buffer = cv2.imencode(".jpg", smooth(*size), [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
    jpeg = with_orientation(buffer.tobytes(), 6)
    assert jpeg_size(jpeg) == size == decode_image(jpeg, "picture").shape[:2]


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\0\x10", b"\x89PNG\r\n", b"\xff\xd8" + bytes(99)])
def test_no_jpeg_header_gives_no_size(data):
    assert jpeg_size(data) is None


def test_a_reduced_decode_is_the_same_picture_smaller():
    image = smooth(80, 160)
    half = decode_image(encode_jpeg(image, 95), "picture", reduce=2)
    assert half.shape == (40, 80, 3)
    assert np.abs(half.astype(int) - resize(image, (40, 80))).mean() < 3


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Decibels, of pixels 0..255."""
    return float(10 * np.log10(255**2 / np.mean((image.astype(float) - reference) ** 2)))


def test_decoding_at_half_size_is_as_good_as_shrinking_the_whole_picture(street_photos):
    for path in sorted(street_photos.iterdir()):
        data = path.read_bytes()
        averaged = resize(decode_image(data, path.name), (360, 640))
        half = decode_image(data, path.name, reduce=2)
        assert psnr(half, averaged) > 45  # above 49 for real photos; compressing at quality 90 costs more, to 38..45
        ours, opencv = (decode_image(encode_jpeg(image, 90), path.name) for image in (half, averaged))
        assert psnr(ours, averaged) > psnr(opencv, averaged) - 0.3
