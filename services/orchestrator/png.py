"""Masks as PNG files."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encode_png(mask: NDArray[np.bool_]) -> bytes:
    """Write bool [height, width] as a 1-bit greyscale PNG file, white where the mask is true."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, format="PNG")
    return file.getvalue()
