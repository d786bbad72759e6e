"""A nano model with random weights and a small tower, which reads 64 px and writes a 4x4 grid."""

from functools import cache
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from text4seg.dialogue import TEMPLATE_VERSION
from text4seg_nano import Text4SegNanoConfig, Text4SegNanoForConditionalGeneration, Text4SegNanoProcessor
from training.nano.start import config_for
from training.nano.tokenizer import MOST_CELLS, build_tokenizer, known_words

torch.set_num_threads(1)

GRID = 4
SIDE = 64
TOWER = {"tower": "mobilenetv2_035", "tower_channels": (32, 1280)}
"""A small network of the same family as the real tower."""
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_image_layers": 1,
    "num_hidden_layers": 4,
}


@cache
def tiny_tokenizer(longest_run: int = MOST_CELLS) -> PreTrainedTokenizerFast:
    """The real tokenizer with few words of its own."""
    words = known_words(["cat", "white horse", "traffic light"], ["a cat on a mat"])
    return build_tokenizer(words, longest_run)


def tiny_model(seed: int = 0, **fields: Any) -> Text4SegNanoForConditionalGeneration:
    """A model in evaluation mode whose answers depend on everything it reads."""
    sizes = {**TOWER, **SIZES, "tower_classes": 8, "grid": GRID, "image_size": SIDE, **fields}
    config = config_for(tiny_tokenizer(), **sizes)
    assert isinstance(config, Text4SegNanoConfig)
    config.text4seg = {
        "model": "tiny-nano",
        "grid": [GRID, GRID],
        "codec": config.codec,
        "template_version": TEMPLATE_VERSION,
        "image_size": [SIDE, SIDE],
    }
    torch.manual_seed(seed)
    model = Text4SegNanoForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.2)
            elif parameter.ndim == 4:
                torch.nn.init.kaiming_normal_(parameter)
        model.connector.mean.uniform_(-0.1, 0.1)
        model.connector.deviation.uniform_(0.9, 1.1)
    return model.eval()


def tiny_processor() -> Text4SegNanoProcessor:
    """The processor that goes with the model."""
    return Text4SegNanoProcessor(tiny_tokenizer(), image_size=SIDE, image_tokens=GRID * GRID)
