"""Turn what a caller holds (path, bytes, PIL image, array, id) into an image source, or pixels to draw on."""

import io
import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from text4seg.errors import ImageInvalidError
from text4seg.segmentation import ImageContent, ImageId, ImageSource, ImageUri

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8] | ImageSource
"""A path (a str is always one), an encoded file as bytes, a PIL image, a uint8 array [height, width],
[height, width, 3] (RGB) or [height, width, 4] (RGBA), or a ready source such as ``ImageId("...")``."""

_ENCODABLE_MODES = frozenset({"1", "L", "LA", "RGB", "RGBA", "I;16"})


def image_source(image: ImageInput) -> ImageSource:
    """The source to send for an image.

    Files and bytes travel as they are; PIL images (turned upright first) and arrays as lossless PNG.

    Raises:
        ImageInvalidError: an array of another dtype or shape, or an empty one.
        OSError: the file cannot be read.
        TypeError: something that is no image.
    """
    match image:
        case ImageContent() | ImageId() | ImageUri():
            return image
        case bytes():
            return ImageContent(image)
        case str() | os.PathLike():
            return ImageContent(Path(image).read_bytes())
        case Image.Image():
            return ImageContent(_png(_upright(image)))
        case np.ndarray():
            return ImageContent(_png(_from_array(image)))
        case _:
            raise TypeError(
                f"an image is a path, bytes, a PIL image, an array or an image id, not {type(image).__name__}"
            )


def image_bytes(image: ImageInput) -> bytes:
    """The encoded file to upload.

    Raises:
        ImageInvalidError: as for :func:`image_source`; or the source is an id or address, which holds no
            bytes on this side.
        OSError: the file cannot be read.
    """
    source = image_source(image)
    if not isinstance(source, ImageContent):
        raise ImageInvalidError("image", "an id or address holds no bytes on this side")
    return source.data


def read_pixels(image: ImageInput) -> NDArray[np.uint8]:
    """Pixels to draw on: uint8 RGB [height, width, 3], upright, transparent parts over black.

    Raises:
        ImageInvalidError: the bytes are no image that can be read, or the source is an id or address.
        OSError: the file cannot be read.
    """
    data = image_bytes(image)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return np.asarray(_to_rgb(_upright(opened)))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageInvalidError("image", f"cannot be read: {error}") from error


def mask_of_png(data: bytes) -> NDArray[np.bool_]:
    """Read a mask that travelled as PNG: bool [height, width], white is true.

    Raises:
        ValueError: the bytes are no PNG that can be read.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
            return np.asarray(opened.convert("L")) > 127
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"a PNG mask cannot be read: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image)


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8:
        hint = "; scale to 0..255 and convert" if pixels.dtype.kind == "f" else ""
        raise ImageInvalidError("image", f"an array must be uint8, not {pixels.dtype}{hint}")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise ImageInvalidError(
            "image", f"an array must be [height, width] or [height, width, 3 or 4], not {list(pixels.shape)}"
        )
    if pixels.size == 0:
        raise ImageInvalidError("image", "the array is empty")
    return Image.fromarray(pixels)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    encodable = image if image.mode in _ENCODABLE_MODES else image.convert("RGB")
    encodable.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # PIL's own conversion clips 16-bit values to 255.
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image.convert("RGB")
