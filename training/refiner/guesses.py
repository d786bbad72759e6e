"""What a trained nano model takes for the things in an image: coarse masks with the mistakes it makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from text4seg import dialogue
from text4seg_nano import Text4SegNanoForConditionalGeneration, Text4SegNanoProcessor
from text4seg_nano.positions import grid_positions


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
        model, config = self._model, self._model.config
        visual = model.encode_image(self._processor(images=image)["pixel_values"])
        inputs = self._processor(text=[self._text(phrase) for phrase in phrases])
        tokens, kept = inputs["input_ids"], inputs["attention_mask"].bool()
        places = tokens == config.image_token_id
        words = model.embed_tokens(tokens)
        words = words.masked_scatter(places[..., None], visual.expand(len(tokens), -1, -1))
        positions = grid_positions(tokens, config)
        mask, rotary = model.attention_mask_of(tokens, positions, 0, kept), model.rotary(positions)
        read = words
        for layer in model.layers[:-1]:
            read = layer(read, rotary, mask)
        asked = model.asked_of(model.cells_of(read, positions), read, words, positions, kept)
        return np.asarray(asked.sigmoid().view(-1, config.grid, config.grid), np.float32)

    def _text(self, phrase: str) -> str:
        """Return the conversation up to where the descriptor begins."""
        question = {"type": "text", "text": dialogue.referring_question(phrase)}
        turns = [{"role": "user", "content": [{"type": "image"}, question]}]
        prompt = self._processor.apply_chat_template(turns, add_generation_prompt=True)
        return f"{prompt}{dialogue.referring_answer(phrase)}\n{dialogue.SEG_OPEN}"
