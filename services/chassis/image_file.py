"""Image files of unknown origin into pixels, or a precise complaint."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from text4seg.errors import ImageInvalidError

_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_FIELD: Final = "image.content"
_DEEP_GREY: Final = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_TRANSPOSITIONS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """How large an image may be.

    Attributes:
        bytes: most bytes of the encoded file.
        pixels: most pixels, height times width. Above 89 million Pillow warns of its own accord.
    """

    bytes: int = 24 * 1024 * 1024
    pixels: int = 40_000_000


def read_size(data: bytes, limits: ImageLimits, field: str = _FIELD) -> tuple[int, int]:
    """Read (height, width) in pixels of the upright image from the file's header, without decoding pixels.

    Args:
        data: a JPEG, PNG, WebP, BMP or TIFF file.
        limits: how large it may be.
        field: what to call it in an error.

    Raises:
        ImageInvalidError: no such file, or one beyond the limits.
    """
    image = _open(data, limits, field)
    width, height = image.size
    return (width, height) if _orientation(image) >= 5 else (height, width)


def read_image(data: bytes, limits: ImageLimits, field: str = _FIELD) -> NDArray[np.uint8]:
    """Decode the first frame of a file into upright pixels.

    16-bit grey keeps its high byte, CMYK is converted without its colour profile, transparent pixels are laid
    over black.

    Args:
        data: a JPEG, PNG, WebP, BMP or TIFF file.
        limits: how large it may be.
        field: what to call it in an error.

    Returns:
        uint8 RGB [height, width, 3], writable, of the size that ``read_size`` tells.

    Raises:
        ImageInvalidError: no such file, one that is damaged or beyond the limits, or one whose pixels have no
            8-bit meaning (32-bit integers, floating point).
    """
    image = _open(data, limits, field)
    orientation = _orientation(image)
    try:
        image.load()
        upright = image.transpose(_TRANSPOSITIONS[orientation]) if orientation > 1 else image
        return np.array(_as_rgb(upright, field), dtype=np.uint8)
    except ImageInvalidError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen types at damaged data
        raise ImageInvalidError(field, f"the {_name(image)} file is damaged: {_first_line(error)}") from error


def _open(data: bytes, limits: ImageLimits, field: str) -> Image.Image:
    if not data:
        raise ImageInvalidError(field, "the file is empty")
    if len(data) > limits.bytes:
        raise ImageInvalidError(field, f"the file has {len(data)} bytes, more than {limits.bytes}")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise ImageInvalidError(field, "this is no JPEG, PNG, WebP, BMP or TIFF file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageInvalidError(field, f"the image has more than {limits.pixels} pixels") from error
    except Exception as error:
        raise ImageInvalidError(field, f"the file's header is damaged: {_first_line(error)}") from error
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageInvalidError(field, f"the image has no pixels: {width}x{height}")
    if width * height > limits.pixels:
        raise ImageInvalidError(field, f"the image has {width}x{height} pixels, more than {limits.pixels}")
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8 that is still to be applied; 1 where there is none or it is nonsense."""
    if image.format == "TIFF":
        return 1  # Pillow turns TIFF files itself, and reports their upright size
    try:
        if image.format == "PNG":
            # getexif() would decode all pixels to find a chunk behind them.
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
        else:
            exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged note on a good picture is no reason to refuse the picture
        return 1
    return orientation if orientation in _TRANSPOSITIONS else 1


def _as_rgb(image: Image.Image, field: str) -> Image.Image:
    if image.mode in _DEEP_GREY:
        values = np.asarray(image).astype(np.uint16)
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageInvalidError(field, f"{_name(image)} pixels of 32 bits a channel are not supported")
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        black = Image.new("RGBA", pixels.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, pixels).convert("RGB")
    return image.convert("RGB")


def _name(image: Image.Image) -> str:
    return "image" if image.format is None else image.format


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
