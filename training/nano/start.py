"""The nano model before training: pretrained parts, and the rest drawn so that learning starts at once."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn
from transformers import PreTrainedTokenizerFast

from text4seg_nano.configuration import Text4SegNanoConfig
from text4seg_nano.layers import Attention
from text4seg_nano.modeling import Text4SegNanoForConditionalGeneration
from training.nano.tokenizer import ASSISTANT, END, IMAGE, IMAGENET_NAMES, PAD
from training.nano.weights import PUBLISHED, Pretrained

LOOKS = ((0, 0), (0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (0, 2), (0, 4))
"""Cell distances (rows, columns) that the heads of every layer look at before training."""
ASKED_BIAS = 0.5
"""Between finding more and calling more absent (docs/experiments.md)."""


def config_for(tokenizer: PreTrainedTokenizerFast, **sizes: Any) -> Text4SegNanoConfig:
    """Return a configuration with the tokenizer's ids."""

    def one(text: str) -> int:
        (token,) = tokenizer(text, add_special_tokens=False).input_ids
        return int(token)

    known = tokenizer.get_vocab()
    counts = itertools.takewhile(known.__contains__, (f" *{number}" for number in itertools.count(1)))
    return Text4SegNanoConfig(
        vocab_size=len(tokenizer),
        image_token_id=one(IMAGE),
        assistant_token_id=one(ASSISTANT),
        seg_open_token_id=one("<seg>"),
        seg_close_token_id=one("</seg>"),
        row_token_id=one("\n "),
        others_token_id=one("others"),
        asked_bias=ASKED_BIAS,
        count_token_ids=tuple(map(one, counts)),
        bar_token_id=one("| "),
        pad_token_id=one(PAD),
        eos_token_id=one(END),
        **sizes,
    )


def word_embeddings(
    tokenizer: PreTrainedTokenizerFast, hidden: int, word_vectors: Callable[[list[str]], torch.Tensor]
) -> torch.Tensor:
    """Return unit vectors for every token, float [vocabulary, hidden]: sentence-model vectors of whole words.

    The vectors are centred and projected on their principal components; pieces and marks get random ones.
    """
    texts = [str(tokenizer.decode([token])).strip().lower() for token in range(len(tokenizer))]
    words = sorted({text for text in texts if len(text) > 1 and text.isalpha()})
    vectors = word_vectors(words)
    centred = vectors - vectors.mean(0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    projected = functional.normalize(centred @ axes[:hidden].T, dim=-1)
    place = {word: number for number, word in enumerate(words)}
    table = functional.normalize(torch.randn(len(texts), hidden), dim=-1)
    for token, text in enumerate(texts):
        if text in place:
            table[token] = projected[place[text]]
    return table


def phrase_tokens(tokenizer: PreTrainedTokenizerFast, phrases: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each phrase, written as inside a descriptor."""
    return [list(tokenizer(phrase, add_special_tokens=False).input_ids) for phrase in phrases]


@torch.no_grad()
def new_model(
    tokenizer: PreTrainedTokenizerFast, pretrained: Pretrained = PUBLISHED, **sizes: Any
) -> Text4SegNanoForConditionalGeneration:
    """Return a model with ImageNet weights, word vectors, and heads that look at neighbouring cells.

    Args:
        tokenizer: From `tokenizer.build_tokenizer`.
        pretrained: Where the pretrained parts come from.
        sizes: Fields of the configuration.
    """
    config = config_for(tokenizer, **sizes)
    model = Text4SegNanoForConditionalGeneration(config)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
    for layer in (*model.image_layers, *model.layers):
        nn.init.normal_(layer.attention.output.weight, std=0.02 / 3)
        nn.init.normal_(layer.down.weight, std=0.02 / 3)
        aim_heads(layer.attention, config)
    nn.init.constant_(model.readout.gate.bias, 2.0)
    model.readout.alike.weight.add_(torch.eye(config.hidden_size) * 1.5 / config.hidden_size**0.5)
    pretrained.load_tower(model.tower)
    model.tower.requires_grad_(False)
    nn.init.kaiming_uniform_(model.connector.up.weight, a=5**0.5)
    nn.init.normal_(model.connector.down.weight, std=0.03)
    table = word_embeddings(tokenizer, config.hidden_size, pretrained.word_vectors)
    model.embed_tokens.weight.copy_(table)
    model.tie_weights()
    names = phrase_tokens(tokenizer, IMAGENET_NAMES)
    classes = torch.stack([functional.normalize(table[ids].mean(0), dim=0) for ids in names])
    model.connector.class_words.weight.copy_(6.0 * classes.T)
    return model


def aim_heads(attention: Attention, config: Text4SegNanoConfig) -> None:
    """Set query and key biases so that head h prefers the cell at distance ``LOOKS[h]``.

    The other dimensions compare the contents of words.
    """
    width = config.hidden_size // config.num_attention_heads
    half = width // 4
    frequencies = 2.0 * 0.5 ** torch.arange(half // 2)
    strength = (1.6 * width**0.5) ** 0.5
    for head, (row, column) in enumerate(LOOKS[: config.num_attention_heads]):
        start = head * width
        attention.query.bias[start : start + 2 * half] = 0.0
        attention.key.bias[start : start + 2 * half] = 0.0
        angles = torch.cat([row * frequencies, column * frequencies])
        weight = strength * (0.5 if head == 1 else 1.0)
        # A key turned back by the wanted distance meets the query where it stands.
        attention.query.bias[start : start + half] = weight * angles.cos()
        attention.query.bias[start + half : start + 2 * half] = weight * angles.sin()
        attention.key.bias[start : start + half] = weight
        content = torch.arange(width - 2 * half)
        dimensions = (head * (width - 2 * half) + content) % config.hidden_size
        attention.query.weight[start + 2 * half + content, dimensions] += 0.5
        attention.key.weight[start + 2 * half + content, dimensions] += 0.5
