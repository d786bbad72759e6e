"""A fake: no model at all, masks are upsampled and nothing more. For tests; never the default."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.refiner.refine import Embedding, SharpMask, upsample_coarse


class IdentityModel:
    """Returns the coarse mask in the size of the image, with a score that says nothing (1)."""

    name = "identity"
    version = "identity-1"
    batch = 1

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Keep the image's size, and nothing else of it."""
        height, width, _ = image.shape
        return Embedding((height, width), None, 0)

    def decode(
        self, embedding: Embedding, coarse: Sequence[NDArray[np.float32]], seed: int
    ) -> tuple[SharpMask, ...]:
        """Upsample the masks (:func:`upsample_coarse`)."""
        return tuple(SharpMask(upsample_coarse(cells, embedding.image_size), 1.0) for cells in coarse)
