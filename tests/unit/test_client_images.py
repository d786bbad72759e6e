"""What callers may pass as an image, and the pixels that overlays are drawn on."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from text4seg.errors import ImageInvalidError
from text4seg.segmentation import ImageContent, ImageId, ImageUri
from text4seg_client.images import image_bytes, image_source, mask_of_png, read_pixels

PIXELS = np.random.default_rng(3).integers(0, 256, (7, 5, 3), np.uint8)


def _encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_files_and_bytes_travel_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8 whatever")
    assert image_source(path) == image_source(str(path)) == ImageContent(path.read_bytes())
    assert image_source(b"any bytes") == ImageContent(b"any bytes")


def test_ready_sources_travel_unchanged() -> None:
    for source in (ImageId("sha256-1"), ImageUri("https://example.com/a.jpg"), ImageContent(b"a")):
        assert image_source(source) is source


def test_arrays_and_pictures_keep_every_pixel() -> None:
    for image in (PIXELS, Image.fromarray(PIXELS)):
        assert np.array_equal(read_pixels(image), PIXELS)
    grey = PIXELS[..., 0]
    assert np.array_equal(read_pixels(grey), np.repeat(grey[..., None], 3, axis=2))


def test_a_strided_array_is_taken_as_it_looks() -> None:
    assert np.array_equal(read_pixels(PIXELS[::-1, :, ::-1]), PIXELS[::-1, :, ::-1])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "HSV", "YCbCr", "I;16", "F"])
def test_pictures_of_every_mode_can_be_sent(mode: str) -> None:
    picture = Image.new(mode, (5, 7))
    assert read_pixels(image_bytes(picture)).shape == (7, 5, 3)


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (PIXELS.astype(np.float32), "uint8, not float32"),
        (PIXELS.astype(np.int64), "uint8, not int64"),
        (PIXELS[None], "1, 7, 5, 3"),
        (PIXELS[..., :2], "7, 5, 2"),
        (PIXELS[:0], "empty"),
    ],
)
def test_arrays_that_are_no_image_are_refused(array: np.ndarray, why: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ImageInvalidError, match=why):
        image_source(array)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(TypeError, match="an image is"):
        image_source(7)  # type: ignore[arg-type]


def test_a_missing_file_is_an_error_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        image_source(tmp_path / "none.png")


def test_pixels_are_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    data = _encoded(Image.fromarray(PIXELS), "PNG", exif=exif)
    assert np.array_equal(read_pixels(data), np.rot90(PIXELS, -1))


def test_transparent_pixels_are_black() -> None:
    rgba = np.dstack([PIXELS, np.full((7, 5), 255, np.uint8)])
    rgba[0, 0, 3] = 0
    seen = read_pixels(rgba)
    assert seen[0, 0].tolist() == [0, 0, 0]
    assert np.array_equal(seen[1:], PIXELS[1:])


def test_sixteen_bits_keep_their_upper_half() -> None:
    deep = np.array([[0, 256, 65535]], np.uint16)
    assert read_pixels(_encoded(Image.fromarray(deep)))[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize("data", [b"", b"no image", _encoded(Image.fromarray(PIXELS))[:40]])
def test_unreadable_bytes_have_no_pixels(data: bytes) -> None:
    with pytest.raises(ImageInvalidError):
        read_pixels(data)


def test_an_id_has_no_pixels_here() -> None:
    with pytest.raises(ImageInvalidError):
        read_pixels(ImageId("sha256-1"))


def test_a_mask_survives_png() -> None:
    mask = PIXELS[..., 0] > 128
    assert np.array_equal(mask_of_png(_encoded(Image.fromarray(mask))), mask)
    with pytest.raises(ValueError, match="PNG"):
        mask_of_png(b"no png")
