"""What a trained nano model takes for the things in an image: coarse masks with the mistakes it makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from text4seg_nano import Text4SegNanoForConditionalGeneration, Text4SegNanoProcessor
from training.nano.asking import referring_texts


class NanoGuesser:
    """A nano model that is asked for nothing but the cells of phrases.

    Args:
        checkpoint: folder of the model.

    Raises:
        OSError: there is no checkpoint.
    """

    def __init__(self, checkpoint: Path) -> None:
        self._model = Text4SegNanoForConditionalGeneration.from_pretrained(checkpoint).train(False)
        self._processor: Any = Text4SegNanoProcessor.from_pretrained(checkpoint)

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8], phrases: Sequence[str]) -> NDArray[np.float32]:
        """Return the probability of each cell to be what a phrase asks for.

        An answer is written from it; to write it out takes longer and hardly changes it.

        Args:
            image: uint8 RGB [height, width, 3].
            phrases: at least one.

        Returns:
            float32 [phrases, grid, grid].
        """
        visual = self._model.encode_image(self._processor(images=image)["pixel_values"])
        texts = ["".join(referring_texts(self._processor, phrase)) for phrase in phrases]
        features = visual.expand(len(texts), -1, -1)
        asked = self._model(**self._processor(text=texts), image_features=features, logits_to_keep=1).asked
        grid = self._model.config.grid
        return np.asarray(asked.sigmoid().view(-1, grid, grid), np.float32)
