"""Processor of the nano model: squashes the image and expands the image placeholder."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature, PreTrainedTokenizerFast, ProcessorMixin

IMAGE_TOKEN = "<image>"

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


class Text4SegNanoProcessor(ProcessorMixin):
    """Turns a prompt and an image into model inputs.

    Attributes:
        image_size: Side in pixels of the square that every image is squashed to.
        image_tokens: Number of visual tokens per image.
    """

    attributes = ["tokenizer"]  # noqa: RUF012 - transformers' declaration
    tokenizer_class = "PreTrainedTokenizerFast"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        image_size: int = 256,
        image_tokens: int = 256,
        chat_template: str | None = CHAT_TEMPLATE,
        **kwargs: Any,
    ) -> None:
        self.image_size = image_size
        self.image_tokens = image_tokens
        super().__init__(tokenizer, chat_template=chat_template)

    def __call__(
        self,
        images: Any = None,
        text: str | list[str] | None = None,
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Return ``input_ids`` and ``attention_mask``, int64 [batch, length], and ``pixel_values``.

        Args:
            images: RGB images, PIL or uint8 [height, width, 3]: one, or a list with one per text that holds ``<image>``.
            text: Prompts as `apply_chat_template` makes them.
            return_tensors: Only "pt".
            kwargs: Ignored.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        texts = [part.replace(IMAGE_TOKEN, IMAGE_TOKEN * self.image_tokens) for part in texts]
        data = dict(self.tokenizer(texts, return_tensors=return_tensors, add_special_tokens=False)) if texts else {}
        data.pop("token_type_ids", None)
        if images is not None:
            listed = list(images) if isinstance(images, (list, tuple)) else [images]
            data["pixel_values"] = torch.stack([pixel_values(image, self.image_size) for image in listed])
        return BatchFeature(data)


def pixel_values(image: Any, size: int) -> torch.Tensor:
    """Squash an RGB image to a square; float32 [3, size, size], scaled to -1..1."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image, dtype=np.uint8))
    squashed = picture.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    array = np.asarray(squashed, dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()
