"""A LLaVA with a few thousand random weights, saved as a checkpoint directory like any other."""

import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from services.chassis.image_file import ImageLimits, read_image

torch.set_num_threads(1)

read = partial(read_image, limits=ImageLimits(), field="image")
"""Decodes image files as the service does."""

IMAGE_SIDE = 16
PATCH = 8
SHAPE = (4, 4)

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<s>' if loop.first else '' }}{{ message['role'].upper() + ':' }}"
    "{% for part in message['content'] %}{{ '<image>' if part['type'] == 'image' else ' ' + part['text'] }}"
    "{% endfor %}{{ '</s>' if message['role'] == 'assistant' else '\n' }}{% endfor %}"
    "{{ 'ASSISTANT:' if add_generation_prompt else '' }}"
)

_CORPUS = (
    "Sure, here is the segmentation mask for 'white horse':\n<seg>others *4\n others *1| white horse *3\n",
    "Please segment only the black cat in the image. USER: ASSISTANT: I see a cat and a dog.",
    "Sure, here is the segmentation mask for the image:\n<seg>sky *4\n sky *1| grass *3\n</seg>",
)


def image_file(seed: int = 0, size: tuple[int, int] = (20, 30)) -> bytes:
    """A PNG of noise, height by width."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of a few hundred tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<unk>", "<s>", "</s>", "<pad>", "<image>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(_CORPUS) * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )


def tiny_model(seed: int = 0, vocabulary: int = 448) -> LlavaForConditionalGeneration:
    """Random weights; ``vocabulary`` exceeds the tokenizer's, as padded embeddings do."""
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=IMAGE_SIDE,
            patch_size=PATCH,
        ),
        text_config=LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=512,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=3,
            # Large random weights make the answers of different seeds differ.
            initializer_range=0.5,
        ),
        image_token_index=4,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    return LlavaForConditionalGeneration(config).eval()


def save_tiny_llava(path: Path, seed: int = 0) -> Path:
    """Write a checkpoint directory with weights drawn from ``seed``; return it."""
    tiny_model(seed).save_pretrained(path)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": IMAGE_SIDE}, crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}
        ),
        tokenizer=tiny_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    config["text4seg"] = {
        "model": "tiny-llava",
        "grid": list(SHAPE),
        "codec": "r-rle",
        "template_version": "1",
        "image_size": [IMAGE_SIDE, IMAGE_SIDE],
        "calibration": {"temperature": 1.5, "bias": -0.25},
    }
    (path / "config.json").write_text(json.dumps(config))
    return path
