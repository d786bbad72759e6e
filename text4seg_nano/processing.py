"""Processor of the nano model: squashes the image and expands the image placeholder."""

from collections.abc import Iterator, Sequence
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
    """Turns prompts and images into model inputs.

    Attributes:
        tokenizer: The tokenizer.
        image_size: Side in pixels of the square that every image is squashed to.
        image_tokens: Number of visual tokens per image.
    """

    tokenizer: Any

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
        super().__init__(tokenizer, chat_template=chat_template)  # type: ignore[no-untyped-call]

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Return ``input_ids`` and ``attention_mask``, int64 [batch, length], and ``pixel_values``.

        Shorter prompts are padded on the left, as generation needs it.

        Args:
            images: RGB images, PIL or uint8 [height, width, 3]: one, or lists with one for each ``<image>``
                in the prompts.
            text: Prompts as `apply_chat_template` makes them.
            return_tensors: Only "pt".
            kwargs: Ignored.

        Raises:
            ValueError: when there are not as many images as ``<image>`` in the prompts, or an array is not
                uint8. Without any image a prompt may hold ``<image>``: for image features made before.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        listed = list(_flat(images))
        places = sum(part.count(IMAGE_TOKEN) for part in texts)
        if texts and listed and places != len(listed):
            raise ValueError(f"{len(listed)} images for {places} times {IMAGE_TOKEN} in the prompts")
        data: dict[str, Any] = {}
        if texts:
            expanded = [part.replace(IMAGE_TOKEN, IMAGE_TOKEN * self.image_tokens) for part in texts]
            tokens = self.tokenizer(
                expanded, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
            )
            data = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        if listed:
            data["pixel_values"] = torch.stack([pixel_values(image, self.image_size) for image in listed])
        return BatchFeature(data)


def pixel_values(image: Image.Image | np.ndarray[Any, Any], size: int) -> torch.Tensor:
    """Squash an RGB image to a square; float32 [3, size, size], scaled to -1..1.

    Raises:
        ValueError: when an array is not uint8.
    """
    if not isinstance(image, Image.Image):
        if image.dtype != np.uint8:
            raise ValueError(f"images are uint8 arrays, not {image.dtype}")
        image = Image.fromarray(image)
    squashed = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    array = np.asarray(squashed, dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def _flat(images: Any) -> Iterator[Any]:
    """Unpack nested lists of images, as `apply_chat_template` passes them."""
    if isinstance(images, (list, tuple)):
        for image in images:
            yield from _flat(image)
    elif images is not None:
        yield images
