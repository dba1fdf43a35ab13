"""Both decoders ask the header first: they refuse the same files, and turn images the same way."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mobile_centernet.errors import DataError
from mobile_centernet.images import opencv, pillow
from mobile_centernet.images.headers import MAX_PIXELS, check_header, image_size, orientation

Read = Callable[..., NDArray[np.uint8]]
BOTH = pytest.mark.parametrize("read", [opencv.read_image, pillow.read_image], ids=["opencv", "pillow"])


def view(height: int = 48, width: int = 64) -> Image.Image:
    """Smooth, and each corner has another colour."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * x / width, 255 * y / height, 255 - 255 * x / width], axis=2).astype(np.uint8)
    return Image.fromarray(pixels)


def saved(kind: str, orientation: int = 1, **options: object) -> bytes:
    file, exif = BytesIO(), Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    view().save(file, kind, exif=exif, **options)
    return file.getvalue()


JPEGS = [saved("JPEG", quality=90), saved("JPEG", quality=90, progressive=True), saved("JPEG", restart_marker_blocks=2)]


@BOTH
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_are_turned_as_viewers_turn_them(tmp_path: Path, read: Read, kind: str, turn: int) -> None:
    (tmp_path / "photo").write_bytes(saved(kind, turn, **({"lossless": True} if kind == "WEBP" else {})))
    with Image.open(tmp_path / "photo") as picture:
        upright, stored = np.array(ImageOps.exif_transpose(picture)), np.array(picture)
    np.testing.assert_array_equal(read(tmp_path / "photo", upright=True), upright)
    np.testing.assert_array_equal(read(tmp_path / "photo"), stored)
    assert orientation((tmp_path / "photo").read_bytes()) == turn


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_tiff_is_turned_once(tmp_path: Path, turn: int) -> None:
    view().save(tmp_path / "photo.tif", tiffinfo={0x0112: turn})
    with Image.open(tmp_path / "photo.tif") as picture:
        upright = np.array(picture)  # Pillow turns TIFFs itself, and so does OpenCV
    for read in (opencv.read_image, pillow.read_image):
        np.testing.assert_array_equal(read(tmp_path / "photo.tif", upright=True), upright)
        np.testing.assert_array_equal(read(tmp_path / "photo.tif"), upright)


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"MM\0*\0\0\0\x08\0\1\1\x12\0\2\0\0\0\2ab\0\0", b"II*\0\xff\xff\xff\x7f"]
)
def test_a_damaged_exif_block_turns_nothing(exif: bytes) -> None:
    segment = b"Exif\0\0" + exif
    jpeg = JPEGS[0][:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + JPEGS[0][2:]
    assert orientation(jpeg) == 1
    assert opencv.decode_image(jpeg, "photo").shape == (48, 64, 3)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(JPEGS), st.binary(max_size=3000), st.sampled_from([b"", b"\xff\xd8", JPEGS[0], b"\xff\xd9\xff\xda"])
)
def test_what_lies_behind_a_whole_jpeg_does_no_harm(jpeg: bytes, trailer: bytes, second: bytes) -> None:
    """The clip of a motion photo, the second image of an MPO (whole or cut), anything."""
    check_header(jpeg + trailer + second + trailer, "photo")
    check_header(jpeg + second[: len(second) // 2], "photo")


def test_the_clip_of_a_motion_photo_does_no_harm() -> None:
    for seed in range(20):
        clip = np.random.default_rng(seed).integers(0, 256, 300_000, np.uint8).tobytes()
        assert opencv.decode_image(JPEGS[seed % 3] + clip, "photo").shape == (48, 64, 3)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(JPEGS), st.floats(0, 1, exclude_max=True), st.sampled_from([b"", bytes(500), *JPEGS]))
def test_a_jpeg_cut_off_is_found_whatever_follows(jpeg: bytes, share: float, second: bytes) -> None:
    cut = jpeg[: int(share * len(jpeg))]
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(JPEGS[0]) + 8) + b"Exif\0\0" + JPEGS[0]
    for data in (cut, cut[:2] + thumbnail + cut[2:]):
        if len(cut) > 700:  # behind the header: within the pixels
            with pytest.raises(DataError, match="expected a whole image, found a JPEG cut off"):
                check_header(data + second, "photo")
        else:
            with pytest.raises(DataError, match=r"photo: expected an? .*image"):
                opencv.decode_image(data, "photo")


def png(width: int, height: int) -> bytes:
    """All black: a few bytes, whatever the size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = zlib.compressobj(1)
    pixels = rows.compress(bytes(min(height, 100) * (width // 8 + 1))) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    at = JPEGS[0].index(b"\xff\xc0") + 5
    return JPEGS[0][:at] + struct.pack(">HH", height, width) + JPEGS[0][at + 4 :]


def bmp(width: int, height: int) -> bytes:
    fields = b"BM", 1000, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0
    return struct.pack("<2sIHHIIiiHHIIiiII", *fields) + bytes(946)


def tiff(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200), (277, 3, 1)]
    tags += [(278, 4, height), (279, 4, 100)]
    fields = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + fields + bytes(400)


def tiled_tiff(width: int, height: int) -> bytes:
    """An image of 64x64 in one tile of that size."""
    tags = [(256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1)]
    tags += [(322, 4, width), (323, 4, height), (324, 4, 200), (325, 4, 100)]
    fields = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + fields + bytes(400)


def webp(width: int, height: int) -> bytes:
    """Lossless; the sides have 14 bits each."""
    bits = (width - 1) | (height - 1) << 14
    chunk = b"\x2f" + struct.pack("<I", bits) + bytes(40)
    return b"RIFF" + struct.pack("<I", len(chunk) + 12) + b"WEBPVP8L" + struct.pack("<I", len(chunk)) + chunk


@BOTH
@pytest.mark.parametrize("make", [png, jpeg_of, bmp, tiff, tiled_tiff, webp])
def test_a_header_that_claims_too_much_is_refused_before_anything_is_allocated(
    tmp_path: Path, read: Read, make: Callable[[int, int], bytes]
) -> None:
    assert image_size(make(1200, 800)) == (800, 1200)
    (tmp_path / "bomb").write_bytes(make(16000, 12000))
    with pytest.raises(DataError, match=r"bomb: expected an image of at most 89,478,485 pixels, found a header that"):
        read(tmp_path / "bomb")


@BOTH
def test_a_picture_of_just_as_many_pixels_as_allowed_is_read(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mobile_centernet.images.headers.MAX_PIXELS", 48 * 64)
    (tmp_path / "whole.png").write_bytes(saved("PNG"))
    assert read(tmp_path / "whole.png").shape == (48, 64, 3)
    monkeypatch.setattr("mobile_centernet.images.headers.MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(DataError, match="found a header that claims 64x48"):
        read(tmp_path / "whole.png")
    assert MAX_PIXELS == (1 << 28) // 3


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "WEBP", "PNG", "GIF", "JPEG"])
def test_both_decoders_read_every_kind_alike(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo"
    view().save(path, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert image_size(path.read_bytes()) == (48, 64)
    np.testing.assert_array_equal(opencv.read_image(path), pillow.read_image(path))


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"II*\0", b"BM"]),
)
def test_nothing_but_an_error_of_ours_comes_out_of_a_header(data: bytes, magic: bytes) -> None:
    orientation(magic + data)
    for decode in (lambda: check_header(magic + data, "x"), lambda: opencv.decode_image(magic + data, "x")):
        try:
            decode()
        except DataError as error:
            assert str(error).startswith(("x: expected a ", "x: expected an "))


def test_a_long_run_of_fill_bytes_takes_no_time() -> None:
    """A pattern that looked back from each byte would take hours."""
    assert cv2.imdecode(np.frombuffer(JPEGS[0], np.uint8), 1) is not None
    at = JPEGS[0].rindex(b"\xff\xd9")
    check_header(JPEGS[0][:at] + b"\xff" * 2_000_000 + JPEGS[0][at:], "photo")
