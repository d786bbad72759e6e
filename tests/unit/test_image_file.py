"""Every kind of file that a caller may send: the right pixels, or a precise complaint."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from services.chassis.image_file import ImageLimits, read_image, read_size
from text4seg.errors import ImageInvalidError

LIMITS = ImageLimits(bytes=1_000_000, pixels=1_000_000)
# Damaged notes inside of a file make Pillow warn; services silence that in services.chassis.logs.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")


def picture(height: int = 24, width: int = 40) -> Image.Image:
    """A smooth picture whose four corners differ, so that any turn or flip shows."""
    rows, columns = np.mgrid[0:height, 0:width]
    red, green = rows * 255 // max(1, height - 1), columns * 255 // max(1, width - 1)
    return Image.fromarray(np.stack([red, green, np.full_like(red, 40)], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_size(width: int, height: int, depth: int = 8, colour: int = 2, rows: bytes = b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def close(image: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    return image.shape == expected.shape and bool(
        np.abs(image.astype(float) - expected.astype(float)).mean() <= tolerance
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_gives_its_pixels(kind: str) -> None:
    pixels = read_image(encoded(picture(), kind), LIMITS)

    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert close(pixels, np.asarray(picture()), tolerance=8)
    assert read_size(encoded(picture(), kind), LIMITS) == (24, 40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    stored = picture()
    stored.getexif()[0x0112] = orientation
    data = encoded(stored, kind, exif=stored.getexif())
    expected = np.asarray(ImageOps.exif_transpose(stored))

    pixels = read_image(data, LIMITS)

    assert close(pixels, expected, tolerance=8)
    assert read_size(data, LIMITS) == expected.shape[:2]


@pytest.mark.parametrize(
    "note", [b"", b"Exif\x00\x00garbage", b"Exif\x00\x00MM\x00*\xff\xff\xff\xff", b"\x00" * 40]
)
def test_damaged_exif_does_not_refuse_a_good_picture(note: bytes) -> None:
    data = encoded(picture(), "JPEG", exif=note)

    assert read_size(data, LIMITS) == (24, 40)
    assert close(read_image(data, LIMITS), np.asarray(picture()), tolerance=8)


def test_orientation_out_of_range_is_ignored() -> None:
    stored = picture()
    stored.getexif()[0x0112] = 77
    data = encoded(stored, "JPEG", exif=stored.getexif())

    assert read_image(data, LIMITS).shape == (24, 40, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_brightness(kind: str) -> None:
    values = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 68

    pixels = read_image(encoded(Image.fromarray(values), kind), LIMITS)

    assert np.array_equal(pixels, np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=-1))


def test_16_bit_colour_keeps_its_brightness() -> None:
    values = np.arange(4 * 5 * 3, dtype=np.uint16).reshape(4, 5, 3) * 1000
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in values)

    pixels = read_image(png_of_size(5, 4, depth=16, rows=rows), LIMITS)

    assert np.array_equal(pixels, (values >> 8).astype(np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    colours = Image.new("CMYK", (40, 24), (0, 255, 255, 0))

    pixels = read_image(encoded(colours, kind), LIMITS)

    assert close(pixels, np.full((24, 40, 3), (255, 0, 0), dtype=np.uint8), tolerance=6)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_only_the_first_frame_of_an_animation_counts(kind: str) -> None:
    frames = [Image.new("RGB", (40, 24), colour) for colour in ("red", "green", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)

    pixels = read_image(data, LIMITS)

    assert np.array_equal(pixels, np.full((24, 40, 3), (255, 0, 0), dtype=np.uint8))


def test_a_phone_photo_with_several_pictures_in_it_gives_the_first() -> None:
    frames = [Image.new("RGB", (40, 24), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])

    assert close(read_image(data, LIMITS), np.full((24, 40, 3), (255, 0, 0), dtype=np.uint8), tolerance=6)


def test_palette_with_alpha_is_laid_over_black() -> None:
    indices = np.zeros((24, 40), dtype=np.uint8)
    indices[:, 20:] = 1
    palette = Image.new("P", (40, 24))
    palette.putdata(indices.ravel().tolist())
    palette.putpalette([200, 100, 50, 10, 250, 30])
    data = encoded(palette, "PNG", transparency=b"\x00\xff")

    pixels = read_image(data, LIMITS)

    assert (pixels[:, :20] == 0).all()
    assert (pixels[:, 20:] == (10, 250, 30)).all()


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (200, 100, 50, 128)), ("LA", (200, 128))])
def test_half_transparent_pixels_are_halved_over_black(mode: str, colour: tuple[int, ...]) -> None:
    pixels = read_image(encoded(Image.new(mode, (4, 3), colour), "PNG"), LIMITS)

    assert np.abs(pixels.astype(int) - np.array((*colour[:-1],) * 3)[:3] // 2).max() <= 1


def test_one_bit_becomes_black_and_white() -> None:
    bits = np.zeros((24, 40), dtype=bool)
    bits[4:9, 10:30] = True

    pixels = read_image(encoded(Image.fromarray(bits), "PNG"), LIMITS)

    assert np.array_equal(pixels, np.where(bits, 255, 0).astype(np.uint8)[..., None].repeat(3, axis=-1))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_an_8_bit_meaning_are_refused(mode: str) -> None:
    data = encoded(Image.new(mode, (4, 3)), "TIFF")

    with pytest.raises(ImageInvalidError, match="32 bits"):
        read_image(data, LIMITS)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files_are_refused(kind: str, share: float) -> None:
    data = encoded(picture(200, 300), kind)

    with pytest.raises(ImageInvalidError, match=r"damaged|no JPEG"):
        read_image(data[: int(len(data) * share)], LIMITS)


@pytest.mark.parametrize("read", [read_image, read_size])
@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"\x00", "no JPEG", id="one byte"),
        pytest.param(b"a photo of a cat", "no JPEG", id="text"),
        pytest.param(b"%PDF-1.7\n" + b"\x00" * 200, "no JPEG", id="pdf"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no JPEG", id="svg"),
        pytest.param(encoded(picture(), "GIF"), "no JPEG", id="gif"),
        pytest.param(encoded(picture(), "JPEG")[:4], "no JPEG|damaged", id="only a signature"),
        pytest.param(png_of_size(60_000, 60_000), "pixels", id="bomb"),
        pytest.param(png_of_size(10_000, 10_000), "pixels", id="bomb that Pillow only warns of"),
        pytest.param(png_of_size(1001, 1000), "1001x1000 pixels", id="one column too many"),
        pytest.param(png_of_size(0, 10), "no pixels|damaged|no JPEG", id="no width"),
        pytest.param(png_of_size(10, 0), "no pixels|damaged|no JPEG", id="no height"),
        pytest.param(b"\x00" * 1_000_001, "1000001 bytes", id="too many bytes"),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(read: object, data: bytes, complaint: str) -> None:
    with pytest.raises(ImageInvalidError, match=complaint) as caught:
        read(data, LIMITS, "image.content")  # type: ignore[operator]
    assert caught.value.field == "image.content"


def test_the_limits_themselves_are_allowed() -> None:
    data = encoded(picture(10, 20), "PNG")

    assert read_image(data, ImageLimits(bytes=len(data), pixels=200)).shape == (10, 20, 3)


def test_the_field_is_named_as_the_caller_knows_it() -> None:
    with pytest.raises(ImageInvalidError, match=r"^frame\.image: the file is empty"):
        read_image(b"", LIMITS, "frame.image")


@given(st.sampled_from(FORMATS), st.data())
def test_flipped_bytes_give_pixels_or_a_complaint(kind: str, data: st.DataObject) -> None:
    original = bytearray(encoded(picture(12, 9), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(original) - 1))
        original[position] = data.draw(st.integers(0, 255))
    damaged = bytes(original)

    try:
        size = read_size(damaged, LIMITS)
        pixels = read_image(damaged, LIMITS)
    except ImageInvalidError:
        return
    assert pixels.shape == (*size, 3)


def test_nothing_is_read_from_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cat.png").write_bytes(encoded(picture(), "PNG"))
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ImageInvalidError, match="no JPEG"):
        read_image(b"cat.png", LIMITS)
